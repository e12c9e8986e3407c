use super::*;

pub(crate) fn cell(row: &str, column: &str, state: State, observed: &str) -> Cell {
    let expected = if state == State::Red { "reset" } else { observed };
    Cell {
        row: row.into(),
        column: column.into(),
        state,
        expected: expected.into(),
        observed: observed.into(),
        mark: if observed == "reset" { "R" } else { "M" }.into(),
        look: Look::Secure,
        why: vec!["because <b>".into()],
        evidence: vec!["answered by probe-0 & others".into()],
    }
}

pub(crate) fn table(run: &str, cells: Vec<Cell>) -> TruthTable {
    let rows: BTreeSet<&str> = cells.iter().map(|cell| cell.row.as_str()).collect();
    let columns: BTreeSet<&str> = cells.iter().map(|cell| cell.column.as_str()).collect();
    let row = |id: &str| {
        let (namespace, _) = id.split_once('/').unwrap_or((id, ""));
        Row { id: id.into(), cluster: "cluster1".into(), namespace: namespace.into(), about: "a server".into() }
    };
    let column = |id: &str| {
        let (vantage, protocol) = id.split_once('/').unwrap_or((id, ""));
        Column { id: id.into(), vantage: vantage.into(), protocol: protocol.into() }
    };
    let (rows, columns) = (rows.into_iter().map(row).collect(), columns.into_iter().map(column).collect());
    TruthTable { run: run.into(), rows, columns, cells, ..TruthTable::of("modes") }
}

#[test]
fn parts_of_one_run_add_up_and_another_run_starts_anew() {
    let directory = tempfile::tempdir().unwrap();
    let write = |run: &str, row: &str, state| {
        record_truth(directory.path(), table(run, vec![cell(row, "naked/http1", state, "mutual TLS")])).unwrap();
        read_truth(directory.path()).unwrap().unwrap()
    };
    write("one", "strict/a", State::Holds);
    let merged = write("one", "strict/b", State::Holds);
    assert_eq!((merged.rows.len(), merged.columns.len(), merged.cells.len()), (2, 1, 2));
    let again = write("one", "strict/b", State::Red);
    assert_eq!(again.counts(), BTreeMap::from([(State::Holds, 1), (State::Red, 1)]), "a cell is recorded once");
    assert_eq!(write("two", "strict/c", State::Holds).cells.len(), 1);
}

#[test]
fn a_table_of_another_schema_is_refused_and_none_is_none() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(read_truth(directory.path()).unwrap(), None);
    let other = TruthTable { schema: "meshproof.truth-table/v0".into(), ..table("one", vec![]) };
    std::fs::write(directory.path().join(TRUTH_TABLE), serde_json::to_vec(&other).unwrap()).unwrap();
    let error = read_truth(directory.path()).unwrap_err().to_string();
    assert!(error.contains("truth-table/v0"), "{error}");
}

#[test]
fn a_difference_names_what_became_worse_what_is_gone_and_what_means_something_else() {
    let was = table(
        "one",
        vec![
            cell("a", "broken", State::Holds, "mutual TLS"),
            cell("a", "mended", State::Red, "plaintext"),
            cell("a", "lost", State::Holds, "reset"),
            cell("a", "meant", State::Holds, "plaintext"),
            cell("a", "same", State::Holds, "reset"),
        ],
    );
    let is = table(
        "two",
        vec![
            cell("a", "broken", State::Red, "plaintext"),
            cell("a", "mended", State::Holds, "reset"),
            cell("a", "meant", State::Holds, "mutual TLS"),
            cell("a", "same", State::Holds, "reset"),
            cell("a", "added", State::Holds, "reset"),
            cell("a", "added-red", State::NotJudged, ""),
        ],
    );
    let difference = difference(&was, &is);
    let names = |changes: &[Change]| changes.iter().map(|change| change.column.clone()).collect::<Vec<_>>();
    assert_eq!(names(&difference.worse), ["added-red", "broken"]);
    assert_eq!(names(&difference.better), ["mended"]);
    assert_eq!(names(&difference.gone), ["lost"]);
    assert_eq!(names(&difference.other), ["meant"]);
    assert_eq!(names(&difference.new), ["added"]);
    assert!(!difference.is_no_worse());
    assert_eq!(difference.to_string(), "2 worse, 1 gone, 1 better, 1 other, 1 new, 1 as before");
    let table = difference.table();
    assert_eq!(table.rows.len(), 6);
    assert_eq!(table.rows[1][3..], ["mutual TLS", "plaintext, and must be reset"]);
    assert!(super::difference(&was, &was).is_no_worse());
}
