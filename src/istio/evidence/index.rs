//! The lines of a log by what a call may be known by: with hundreds of calls and lines, looking at every line for every
//! call takes seconds.

use std::collections::HashMap;

/// A log, and where each value stands in it.
#[derive(Debug)]
pub(in crate::istio) struct Index<'a, T> {
    log: &'a [T],
    lines: HashMap<&'a str, Vec<usize>>,
}

impl<'a, T> Index<'a, T> {
    /// Indexes a log by the values of each line.
    pub(super) fn new(log: &'a [T], values: impl Fn(&'a T) -> Vec<&'a str>) -> Self {
        let mut lines: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, line) in log.iter().enumerate() {
            for value in values(line) {
                lines.entry(value).or_default().push(at);
            }
        }
        Self { log, lines }
    }

    /// The lines with one of these values, in the order of the log. A line may be there twice.
    pub(in crate::istio) fn with(&self, values: &[Option<&str>]) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let lines = values.iter().flatten().filter_map(|value| self.lines.get(value));
        let mut lines: Vec<usize> = lines.flatten().copied().collect();
        lines.sort_unstable();
        let log = self.log;
        lines.into_iter().map(move |at| &log[at])
    }
}
