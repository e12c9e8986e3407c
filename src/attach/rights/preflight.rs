//! Asks the clusters whether the rights are there, before anything is written.

use std::collections::BTreeSet;
use std::fmt;

use futures::future::join_all;
use futures::{StreamExt, stream};
use kube::Client;

use super::rule::Rule;
use crate::cluster::{Permission, permission};

/// Questions to one cluster at once.
const AT_ONCE: usize = 16;

/// A cluster, and what is needed there.
#[derive(Clone)]
pub struct Asked {
    /// The cluster's name, for messages.
    pub cluster: String,
    /// A client with the credentials that are to be used.
    pub client: Client,
    /// The needed rights.
    pub rules: Vec<Rule>,
}

/// What the clusters answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// Number of answered questions.
    pub answered: usize,
    /// The rights that are not there.
    pub missing: Vec<Missing>,
    /// Questions that no cluster answered. They count as missing.
    pub unasked: Vec<Unasked>,
}

/// A right that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The cluster.
    pub cluster: String,
    /// The rule.
    pub rule: Rule,
    /// The verbs of the rule that are not allowed.
    pub verbs: Vec<&'static str>,
}

/// Rights that could not be asked about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unasked {
    /// The cluster.
    pub cluster: String,
    /// Why.
    pub reason: String,
}

/// Rights are missing, or unknown. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Refused(Preflight);

/// Asks every cluster about every verb of its rules.
pub async fn preflight(asked: &[Asked]) -> Preflight {
    let clusters = join_all(asked.iter().map(|one| Box::pin(ask(one)))).await;
    clusters.into_iter().fold(Preflight::default(), |mut all, one| {
        all.answered += one.answered;
        all.missing.extend(one.missing);
        all.unasked.extend(one.unasked);
        all
    })
}

async fn ask(asked: &Asked) -> Preflight {
    let verbs = asked.rules.iter().enumerate();
    let verbs: Vec<(usize, &'static str)> =
        verbs.flat_map(|(at, rule)| rule.verbs.iter().map(move |verb| (at, *verb))).collect();
    let questions = stream::iter(verbs)
        .map(async |(at, verb)| (at, verb, permission(&asked.client, asked.rules[at].attributes(verb)).await));
    // In order, so that the table has the order of the rules.
    let answers: Vec<(usize, &'static str, Permission)> = questions.buffered(AT_ONCE).collect().await;
    let mut found = Preflight::default();
    let mut unknown = BTreeSet::new();
    for (at, verb, answer) in answers {
        let rule = &asked.rules[at];
        match answer {
            Permission::Allowed => found.answered += 1,
            Permission::Denied => {
                found.answered += 1;
                match found.missing.last_mut().filter(|missing| missing.rule == *rule) {
                    Some(missing) => missing.verbs.push(verb),
                    None => found.missing.push(Missing {
                        cluster: asked.cluster.clone(),
                        rule: rule.clone(),
                        verbs: vec![verb],
                    }),
                }
            }
            Permission::Unknown(reason) => {
                unknown.insert(Unasked { cluster: asked.cluster.clone(), reason });
            }
        }
    }
    found.unasked = unknown.into_iter().collect();
    found
}

impl Preflight {
    /// Whether every right is known to be there.
    pub fn is_granted(&self) -> bool {
        self.missing.is_empty() && self.unasked.is_empty()
    }

    /// Refuses to go on unless every right is known to be there. Without the right to delete, for example, pods would
    /// be left behind.
    ///
    /// # Errors
    /// [`Refused`], with the table of all that is missing.
    pub fn check(self) -> Result<(), Refused> {
        if self.is_granted() { Ok(()) } else { Err(Refused(self)) }
    }
}

impl fmt::Display for Preflight {
    /// A table of all that is missing, in all clusters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Unasked { cluster, reason } in &self.unasked {
            writeln!(f, "{cluster}: could not ask which rights there are, so they count as missing: {reason}")?;
        }
        let count: usize = self.missing.iter().map(|missing| missing.verbs.len()).sum();
        if count == 0 {
            return write!(f, "{} rights are there", self.answered);
        }
        write!(f, "{count} of {} rights are missing:", self.answered)?;
        let header = ["CLUSTER", "RESOURCE", "VERBS", "NAMESPACE", "NEEDED FOR"].map(str::to_owned);
        let rows = self.missing.iter().map(|Missing { cluster, rule, verbs }| {
            [cluster.clone(), rule.resource_name(), verbs.join(" "), rule.extent.to_string(), rule.why.clone()]
        });
        let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths = [0, 1, 2, 3].map(width);
        for row in &rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  "));
            write!(f, "\n  {}{}", cells.collect::<String>(), row[4])?;
        }
        Ok(())
    }
}
