//! A truth table as one picture: a letter for each cell, its evidence on demand, and filters. Without scripts: filters
//! are rules about checked boxes, and evidence is the target of a link.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use maud::{Markup, PreEscaped, html};

use super::parts::Tone;
use crate::report::{Cell, Look, Row, State, TruthTable};

/// What the table can be narrowed to.
struct Filter<'a> {
    name: &'static str,
    /// What the class of a row or of a column begins with.
    class: &'static str,
    /// Whether it chooses rows. Otherwise columns.
    of_rows: bool,
    values: Vec<&'a str>,
}

impl<'a> Filter<'a> {
    fn of(name: &'static str, class: &'static str, of_rows: bool, values: impl Iterator<Item = &'a str>) -> Self {
        let mut seen = BTreeSet::new();
        Self { name, class, of_rows, values: values.filter(|value| seen.insert(*value)).collect() }
    }

    /// The class of a row or column with this value.
    fn class_of(&self, value: &str) -> String {
        let index = self.values.iter().position(|one| *one == value).unwrap_or_default();
        format!("{}{index}", self.class)
    }

    /// The rules that hide what is not chosen.
    fn rules(&self) -> String {
        let mut css = String::new();
        for index in 0..self.values.len() {
            let (class, hidden) = (self.class, if self.of_rows { "tbody tr" } else { ".col" });
            let _ = writeln!(
                css,
                ".truth:has(#f-{class}{index}:checked) {hidden}:not(.{class}{index}) {{ display: none; }}"
            );
        }
        css
    }

    fn choice(&self) -> Markup {
        let group = format!("f-{}", self.class);
        html! {
            fieldset {
                legend { (self.name) }
                label { input type="radio" name=(group) checked; "all" }
                @for (index, value) in self.values.iter().enumerate() {
                    label { input type="radio" name=(group) id={ (group) (index) }; (value) }
                }
            }
        }
    }
}

pub(super) fn section(table: &TruthTable) -> Markup {
    let filters = [
        Filter::of("cluster", "tk", true, table.rows.iter().map(|row| row.cluster.as_str())),
        Filter::of("namespace", "tn", true, table.rows.iter().map(|row| row.namespace.as_str())),
        Filter::of("protocol", "tp", false, table.columns.iter().map(|column| column.protocol.as_str())),
        Filter::of("client", "tv", false, table.columns.iter().map(|column| column.vantage.as_str())),
    ];
    let places: BTreeMap<(&str, &str), (usize, &Cell)> = table
        .cells
        .iter()
        .enumerate()
        .map(|(n, cell)| ((cell.row.as_str(), cell.column.as_str()), (n, cell)))
        .collect();
    let rules: String = filters.iter().map(Filter::rules).collect();
    html! {
        section.truth id="truth" {
            style { (PreEscaped(rules)) }
            h2 { "Truth table" }
            (counts(table))
            p.note { "Each letter is a call from the client at the top to the server at the left. A letter leads to its evidence." }
            (legend(table))
            form.filters { @for filter in &filters { @if filter.values.len() > 1 { (filter.choice()) } } }
            div.scroll {
                table.cells aria-label="Truth table" {
                    thead { tr { th scope="col" { "server" } (heads(table, &filters)) } }
                    tbody { @for row in &table.rows { (line(table, row, &filters, &places)) } }
                }
            }
            @for (n, cell) in table.cells.iter().enumerate() { (proof(n, cell)) }
        }
    }
}

/// The class of a column, with a mark for the first of a vantage.
fn column_class(table: &TruthTable, index: usize, filters: &[Filter<'_>]) -> String {
    let column = &table.columns[index];
    let first = index == 0 || table.columns[index - 1].vantage != column.vantage;
    let (protocol, vantage) = (filters[2].class_of(&column.protocol), filters[3].class_of(&column.vantage));
    format!("col {protocol} {vantage}{}", if first { " first" } else { "" })
}

fn heads(table: &TruthTable, filters: &[Filter<'_>]) -> Markup {
    html! {
        @for (index, column) in table.columns.iter().enumerate() {
            th scope="col" class=(column_class(table, index, filters)) {
                span { b { (column.vantage) } " " (column.protocol) }
            }
        }
    }
}

fn line(
    table: &TruthTable,
    row: &Row,
    filters: &[Filter<'_>],
    places: &BTreeMap<(&str, &str), (usize, &Cell)>,
) -> Markup {
    let class = format!("{} {}", filters[0].class_of(&row.cluster), filters[1].class_of(&row.namespace));
    html! {
        tr class=(class) {
            th scope="row" title={ (row.about) ", in " (row.cluster) } { (row.id) }
            @for (index, column) in table.columns.iter().enumerate() {
                @let place = column_class(table, index, filters);
                @match places.get(&(row.id.as_str(), column.id.as_str())) {
                    None => td class=(place) {},
                    Some((n, cell)) => td class={ (place) " " (look(cell)) } {
                        a href={ "#cell-" (n) } title=(cell.words()) { (letter(cell)) }
                    },
                }
            }
        }
    }
}

fn counts(table: &TruthTable) -> Markup {
    let counts = table.counts();
    let tiles = [
        (State::Holds, "as it must be", Tone::Good),
        (State::Red, "not as it must be", Tone::Bad),
        (State::NotJudged, "not judged", Tone::Unsure),
        (State::NotMade, "not made, with the reason", Tone::Plain),
    ];
    html! {
        ul.tiles {
            li { b { (table.cells.len()) } " cells" }
            @for (state, word, tone) in tiles {
                @if let Some(count) = counts.get(&state) { li.(tone.class()) { b { (count) } " " (word) } }
            }
        }
    }
}

/// The letters that occur, with their words.
fn legend(table: &TruthTable) -> Markup {
    let mut letters: BTreeMap<(&str, &str), &Cell> = BTreeMap::new();
    for cell in table.cells.iter().filter(|cell| cell.state == State::Holds) {
        letters.entry((&cell.mark, &cell.observed)).or_insert(cell);
    }
    html! {
        ul.legend {
            @for ((mark, observed), cell) in letters { li { span.(look(cell)) { (mark) } " " (observed) } }
            li { span.wrong { "✗" } " not as it must be" }
            li { span.unclear { "?" } " not judged" }
            li { span.unmade { "–" } " not made" }
        }
    }
}

fn letter(cell: &Cell) -> &str {
    match cell.state {
        State::Holds => &cell.mark,
        State::Red => "✗",
        State::NotJudged => "?",
        State::NotMade => "–",
    }
}

fn look(cell: &Cell) -> &'static str {
    match (cell.state, cell.look) {
        (State::Red, _) => "wrong",
        (State::NotJudged, _) => "unclear",
        (State::NotMade, _) => "unmade",
        (_, Look::Secure) => "secure",
        (_, Look::Open) => "open",
        (_, Look::Refused) => "refused",
        (_, Look::Other) => "other",
    }
}

/// The evidence of a cell. Hidden until its letter is chosen.
fn proof(n: usize, cell: &Cell) -> Markup {
    let list = |name: &str, lines: &[String]| {
        html! { @if !lines.is_empty() { div { dt { (name) } dd { ul.evidence { @for line in lines { li { (line) } } } } } } }
    };
    html! {
        div.proof id={ "cell-" (n) } {
            a.close href="#truth" { "close" }
            p { b { (cell.row) } " from " b { (cell.column) } }
            dl {
                @if cell.state != State::NotMade {
                    div { dt { "must be" } dd { (cell.expected) } }
                    div { dt { "seen" } dd { (cell.observed) } }
                }
                (list("because", &cell.why))
                (list("evidence", &cell.evidence))
            }
        }
    }
}
