//! What changed from one truth table to another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Cell, State, TruthTable};
use crate::report::Table;

/// A cell in two tables. An absent cell is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Id of the row.
    pub row: String,
    /// Id of the column.
    pub column: String,
    /// The cell in the older table.
    pub was: Option<Cell>,
    /// The cell in the newer table.
    pub is: Option<Cell>,
}

/// The difference of two tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Cells that do not hold and did, or were not there: the newer table is worse.
    pub worse: Vec<Change>,
    /// Cells that hold and did not.
    pub better: Vec<Change>,
    /// Cells that hold in both, and now mean something else: what must be has changed.
    pub other: Vec<Change>,
    /// Cells that hold, and were not there.
    pub new: Vec<Change>,
    /// Cells that are no longer there.
    pub gone: Vec<Change>,
    /// The number of cells that are as they were.
    pub same: usize,
}

/// The difference from the table `was` to the table `is`.
pub fn difference(was: &TruthTable, is: &TruthTable) -> Difference {
    let by_place = |table: &TruthTable| -> BTreeMap<(String, String), Cell> {
        table.cells.iter().map(|cell| (cell.place(), cell.clone())).collect()
    };
    let (mut was, mut is) = (by_place(was), by_place(is));
    let places: BTreeSet<(String, String)> = was.keys().chain(is.keys()).cloned().collect();
    let mut difference = Difference::default();
    for place in places {
        let (was, is) = (was.remove(&place), is.remove(&place));
        let (row, column) = place;
        difference.sort(Change { row, column, was, is });
    }
    difference
}

/// Whether a cell needs no attention.
fn is_fine(cell: &Cell) -> bool {
    matches!(cell.state, State::Holds | State::NotMade)
}

impl Difference {
    fn sort(&mut self, change: Change) {
        let list = match (&change.was, &change.is) {
            (Some(_), None) => &mut self.gone,
            (None, Some(is)) if is_fine(is) => &mut self.new,
            (None, Some(_)) => &mut self.worse,
            (Some(was), Some(is)) => match (is_fine(was), is_fine(is)) {
                (true, false) => &mut self.worse,
                (false, true) => &mut self.better,
                _ if (was.state, &was.expected, &was.observed) != (is.state, &is.expected, &is.observed) => {
                    &mut self.other
                }
                _ => {
                    self.same += 1;
                    return;
                }
            },
            (None, None) => return,
        };
        list.push(change);
    }

    /// Whether no cell became worse, and none was lost.
    pub fn is_no_worse(&self) -> bool {
        self.worse.is_empty() && self.gone.is_empty()
    }

    /// The changed cells, the worse ones first.
    pub fn table(&self) -> Table {
        let mut table = Table::new("What changed in the truth table", &["row", "column", "change", "was", "is"]);
        let all = [
            ("worse", &self.worse),
            ("gone", &self.gone),
            ("better", &self.better),
            ("other", &self.other),
            ("new", &self.new),
        ];
        for (word, changes) in all {
            for Change { row, column, was, is } in changes {
                let cell = |cell: &Option<Cell>| cell.as_ref().map_or_else(|| "–".into(), Cell::words);
                table.rows.push(vec![row.clone(), column.clone(), word.into(), cell(was), cell(is)]);
            }
        }
        table
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worse, better, other, new, gone, same } = self;
        let counts = [(worse, "worse"), (gone, "gone"), (better, "better"), (other, "other"), (new, "new")];
        let counts = counts.iter().filter(|(list, _)| !list.is_empty());
        for (list, word) in counts {
            write!(f, "{} {word}, ", list.len())?;
        }
        write!(f, "{same} as before")
    }
}
