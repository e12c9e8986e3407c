//! Shared parts of the page.

use maud::{Markup, html};

use crate::report::Table;

/// Colour and word of a result.
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

/// A table with its own scroll bar if it is wider than the page.
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

/// A coordinate in an SVG drawing.
pub(super) fn at(value: f64) -> String {
    format!("{value:.1}")
}
