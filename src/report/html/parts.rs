//! Pieces that several parts of the page share.

use maud::{Markup, html};

use crate::report::Table;

/// How something ended, as a colour and a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Unsure,
    Plain,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unsure => "unsure",
            Self::Plain => "plain",
        }
    }
}

/// A table, which scrolls by itself where it is wider than the page.
pub(super) fn table(table: &Table) -> Markup {
    html! {
        h3 { (table.title) }
        div.scroll {
            table aria-label=(table.title) {
                thead { tr { @for name in &table.header { th scope="col" { (name) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A coordinate in a drawing.
pub(super) fn at(value: f64) -> String {
    format!("{value:.1}")
}
