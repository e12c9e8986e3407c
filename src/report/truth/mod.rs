//! A truth table: what each cell of rows and columns must be, and what it was. `target/meshproof/<suite>/truth-table.json`,
//! schema `meshproof.truth-table/v1`.

mod difference;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use difference::{Change, Difference, difference};

use super::{Error, Result, merging, run};
use crate::host;

/// Schema identifier in every table.
pub const TRUTH_TABLE_SCHEMA: &str = "meshproof.truth-table/v1";

/// Name of the file beside the report.
pub const TRUTH_TABLE: &str = "truth-table.json";

/// A table of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruthTable {
    /// Always [`TRUTH_TABLE_SCHEMA`].
    pub schema: String,
    /// The suite.
    pub suite: String,
    /// Identifies the run. Parts of one run are merged.
    pub run: String,
    /// Revision of the source tree.
    pub revision: String,
    /// Rows, in their order.
    pub rows: Vec<Row>,
    /// Columns, in their order.
    pub columns: Vec<Column>,
    /// Cells, by row and column.
    pub cells: Vec<Cell>,
}

/// A row: a server and the policies over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Unique within the table.
    pub id: String,
    /// The server's cluster.
    pub cluster: String,
    /// The server's namespace, as the suite names it.
    pub namespace: String,
    /// What is special about it, in words.
    pub about: String,
}

/// A column: a client and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Unique within the table.
    pub id: String,
    /// Where the client is.
    pub vantage: String,
    /// What it speaks.
    pub protocol: String,
}

/// What came of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it must be.
    Holds,
    /// Not as it must be.
    Red,
    /// Made, and not judged: its evidence or its control is missing. Not a pass.
    NotJudged,
    /// Not made. The cell says why. It counts in the denominator.
    NotMade,
}

/// What was seen, as far as colour tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// Answered, and secured by the mesh.
    Secure,
    /// Answered, and not secured by the mesh.
    Open,
    /// Refused.
    Refused,
    /// Neither.
    #[default]
    Other,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Id of the row.
    pub row: String,
    /// Id of the column.
    pub column: String,
    /// What came of it.
    pub state: State,
    /// What must be, in a word or two.
    pub expected: String,
    /// What was seen, in a word or two. Empty if nothing was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub observed: String,
    /// A letter for it, in the picture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
    /// How it looks.
    pub look: Look,
    /// What must be for which reason; or why it was not made.
    pub why: Vec<String>,
    /// What shows it: who answered, the peer's certificate, the proxies' logs, the control.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

impl TruthTable {
    /// An empty table of this run.
    pub fn of(suite: &str) -> Self {
        Self {
            schema: TRUTH_TABLE_SCHEMA.into(),
            suite: suite.into(),
            run: run().to_owned(),
            revision: host::revision(),
            rows: Vec::new(),
            columns: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// The number of cells of each state.
    pub fn counts(&self) -> BTreeMap<State, usize> {
        let mut counts = BTreeMap::new();
        for cell in &self.cells {
            *counts.entry(cell.state).or_default() += 1;
        }
        counts
    }

    /// Takes over the parts of an older table of the same run that this one does not have.
    fn merge(&mut self, older: Self) {
        let rows: BTreeSet<String> = self.rows.iter().map(|row| row.id.clone()).collect();
        let columns: BTreeSet<String> = self.columns.iter().map(|column| column.id.clone()).collect();
        let cells: BTreeSet<(String, String)> = self.cells.iter().map(Cell::place).collect();
        self.rows.splice(0..0, older.rows.into_iter().filter(|row| !rows.contains(&row.id)));
        self.columns.splice(0..0, older.columns.into_iter().filter(|column| !columns.contains(&column.id)));
        self.cells.extend(older.cells.into_iter().filter(|cell| !cells.contains(&cell.place())));
        self.cells.sort_by_cached_key(Cell::place);
    }
}

impl Cell {
    /// What was seen, and what must be where that is not it.
    pub(crate) fn words(&self) -> String {
        let Self { observed, expected, .. } = self;
        match self.state {
            State::Holds => observed.clone(),
            State::Red => format!("{observed}, and must be {expected}"),
            State::NotJudged => format!("not judged, must be {expected}"),
            State::NotMade => "not made".into(),
        }
    }

    fn place(&self) -> (String, String) {
        (self.row.clone(), self.column.clone())
    }
}

/// Adds a table to this run's table in `directory`.
///
/// # Errors
/// [`Error`].
pub fn record_truth(directory: &Path, mut table: TruthTable) -> Result<()> {
    merging(directory, TRUTH_TABLE, |older: Option<TruthTable>| {
        if let Some(older) = older.filter(|older| older.run == table.run) {
            table.merge(older);
        }
        table
    })
}

/// Reads the table in `directory`. `None` if there is none.
///
/// # Errors
/// [`Error`]: the file cannot be read, or has another schema.
pub fn read_truth(directory: &Path) -> Result<Option<TruthTable>> {
    let path = directory.join(TRUTH_TABLE);
    if !path.exists() {
        return Ok(None);
    }
    let failed = |reason: String| Error { path: path.clone(), reason };
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let table: TruthTable = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if table.schema != TRUTH_TABLE_SCHEMA {
        return Err(failed(format!("its schema `{}` is not `{TRUTH_TABLE_SCHEMA}`", table.schema)));
    }
    Ok(Some(table))
}

#[cfg(test)]
pub(crate) mod tests;
