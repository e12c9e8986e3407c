//! The change as Markdown for a pull request: few lines, few bytes.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Against;
use crate::report::Table;
use crate::report::markdown::{fold, plain};

/// Most bytes of the Markdown of a pull request.
pub const MOST_BYTES: usize = 10_000;

/// Most characters of a cell.
const WIDTH: usize = 160;

/// Lines other than a row for each suite, remarks, tables and folds: title, header, what was left out, and blank lines.
const FRAME: usize = 8;

/// Lines of an open table other than rows: title, header, and blank lines.
const OPEN_TABLE: usize = 5;

/// Lines of a fold, and the blank line before it.
const FOLD: usize = 2;

/// Bytes of an open table or of a fold, other than rows.
const TABLE_BYTES: usize = 160;

/// Titles of tables whose rows are open. The others are folded.
const OPEN: [&str; 3] = ["Claims that became worse", "Gates that changed", "Claims that are gone"];

/// What changed in all suites as Markdown, with at most `open` unfolded lines and at most `bytes` bytes. Rows that do not
/// fit are counted, and are in the file `page` of each suite. A suite takes a line, whether or not it changed.
pub fn summary(all: &[Against], open: usize, bytes: usize, page: &str) -> String {
    let mark = if all.iter().all(Against::is_no_worse) { "✅" } else { "❌" };
    let mut text = format!("## {mark} meshproof: what changed\n\n{}\n", suites(all).markdown());
    let remarks: BTreeSet<&String> = all.iter().filter_map(|one| one.not_compared.as_ref()).collect();
    for remark in &remarks {
        let _ = writeln!(text, "{}\n", plain(remark));
    }
    let mut room = Room {
        lines: open.saturating_sub(FRAME + all.len() + 2 * remarks.len()),
        bytes: bytes.saturating_sub(text.len() + TABLE_BYTES),
        left_out: 0,
    };
    // What is open comes first, of all suites.
    for is_open in [true, false] {
        let tables = all.iter().flat_map(|one| one.tables().into_iter().map(move |table| (one, table)));
        for (one, table) in tables.filter(|(_, table)| OPEN.contains(&table.title.as_str()) == is_open) {
            let title = format!("{}: {} ({})", plain(&one.head.suite), table.title, table.rows.len());
            let fitting = room.take(table, is_open);
            if fitting.rows.is_empty() {
                continue;
            }
            if is_open {
                let _ = writeln!(text, "**{title}**\n\n{}", fitting.markdown());
            } else {
                fold(&mut text, &title, &fitting.markdown());
                text.push('\n');
            }
        }
    }
    if room.left_out > 0 {
        let _ = writeln!(text, "{} more rows are in {page}.\n", room.left_out);
    }
    text
}

/// A row for each suite.
fn suites(all: &[Against]) -> Table {
    let mut table =
        Table::new("", &["suite", "worse", "gone", "better", "new", "as before", "gates that changed", "revisions"]);
    table.rows = all.iter().map(row).collect();
    table
}

fn row(one: &Against) -> Vec<String> {
    let worse = one.comparisons.iter().filter(|gate| gate.is_worse()).count();
    let gates = match one.comparisons.len() {
        0 => "–".into(),
        moved => format!("{moved}, {worse} worse"),
    };
    let revisions = match one.base {
        Some(base) => format!("{} → {}", short(&base.revision), short(&one.head.revision)),
        None => "the earlier run does not have this suite".into(),
    };
    let count = |count: usize| if count == 0 { "–".to_owned() } else { count.to_string() };
    let counts = [one.worse.len() + one.other.len(), one.gone.len(), one.better.len(), one.new.len(), one.same];
    let mut row = vec![one.head.suite.clone()];
    row.extend(counts.map(count));
    row.extend([gates, revisions]);
    row
}

/// What may still be written.
struct Room {
    lines: usize,
    bytes: usize,
    left_out: usize,
}

impl Room {
    /// The rows of `table` that fit, with short cells.
    fn take(&mut self, mut table: Table, is_open: bool) -> Table {
        let all = std::mem::take(&mut table.rows);
        let needed = if is_open { OPEN_TABLE } else { FOLD };
        // An open table has a row at least.
        if self.lines < needed + usize::from(is_open) || self.bytes < TABLE_BYTES {
            self.left_out += all.len();
            return table;
        }
        self.lines -= needed;
        self.bytes -= TABLE_BYTES;
        for row in all {
            let row: Vec<String> = row.iter().map(|cell| short(cell)).collect();
            // With the header, so somewhat more than the row takes.
            let bytes = Table { rows: vec![row.clone()], ..table.clone() }.markdown().len();
            if self.bytes < bytes || (is_open && self.lines == 0) {
                self.left_out += 1;
                continue;
            }
            self.bytes -= bytes;
            self.lines -= usize::from(is_open);
            table.rows.push(row);
        }
        table
    }
}

/// A cell, cut at [`WIDTH`].
fn short(cell: &str) -> String {
    match cell.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.to_owned(),
    }
}
