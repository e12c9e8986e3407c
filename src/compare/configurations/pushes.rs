//! What istiod sends while the pods of an arm are made anew. This is information and no metric: istiod does not count by
//! receiver, so each arm needs a turn of its own, and what istiod sends to others meanwhile is in the count.

use std::sync::Arc;

use super::error::Result;
use super::stage::Twins;
use crate::istio::Pushes;
use crate::judge::Arm;
use crate::report::Table;

/// Renewals in which the arms take turns, so that each arm is first once. Each takes the time of a further start of pods.
const TURNS: usize = 2;

/// What istiod has sent so far, or why it could not be asked.
type Looked = std::result::Result<Pushes, String>;

/// The order of the arms in a renewal. It turns around each time, as the load of the machine may go one way.
fn order(turn: usize) -> [Arm; 2] {
    match turn % 2 {
        0 => [Arm::Control, Arm::Treatment],
        _ => [Arm::Treatment, Arm::Control],
    }
}

/// What istiod has sent in the turns of each arm.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    control: Pushes,
    treatment: Pushes,
    turns: usize,
    /// Why istiod could not be asked.
    unread: Option<String>,
}

impl Pushed {
    /// Both arms with new pods: at first one arm after the other, so that istiod's work is that of one arm.
    ///
    /// # Errors
    /// A pod cannot be deleted, or its successor does not become ready.
    pub(super) async fn renewed(&mut self, twins: Twins) -> Result<Twins> {
        if self.turns == TURNS || self.unread.is_some() {
            return twins.renewed().await;
        }
        let mut twins = twins;
        for arm in order(self.turns) {
            twins = self.counted(arm, twins).await?;
        }
        self.turns += 1;
        Ok(twins)
    }

    /// Both arms, one of them with new pods, whose pushes are counted.
    async fn counted(&mut self, arm: Arm, twins: Twins) -> Result<Twins> {
        let cluster = Arc::clone(&twins.control.cluster);
        let before = Pushes::read(&cluster).await;
        let twins = twins.with_renewed(arm).await?;
        self.add(arm, before, Pushes::read(&cluster).await);
        Ok(twins)
    }

    /// Adds to the sum of an arm what istiod has sent between two looks.
    fn add(&mut self, arm: Arm, before: Looked, after: Looked) {
        let sum = match arm {
            Arm::Control => &mut self.control,
            Arm::Treatment => &mut self.treatment,
        };
        match (before, after) {
            (Ok(before), Ok(after)) => *sum = *sum + after.since(before),
            (Err(reason), _) | (_, Err(reason)) => self.unread = Some(reason),
        }
    }

    /// What was counted, for each new pair of pods. `None`: the comparison ended before both arms had all their turns.
    pub(super) fn table(&self) -> Option<Table> {
        let header = ["arm", "pushes", "time", "size"];
        let mut table =
            Table::new("istiod's pushes for a new client and server, and to others meanwhile (not judged)", &header);
        if let Some(reason) = &self.unread {
            table.rows.push(vec!["not read".into(), reason.clone(), "–".into(), "–".into()]);
            return Some(table);
        }
        let each = |sum: f64| sum / TURNS as f64;
        let row = |arm: &str, sum: Pushes| {
            let (milliseconds, kilobytes) = (each(sum.seconds) * 1e3, each(sum.bytes) / 1e3);
            vec![
                arm.into(),
                format!("{:.0}", each(sum.count)),
                format!("{milliseconds:.1} ms"),
                format!("{kilobytes:.1} kB"),
            ]
        };
        table.rows = vec![row("control", self.control), row("treatment", self.treatment)];
        (self.turns == TURNS).then_some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arm_is_first_as_often_as_the_other_and_both_have_a_turn_in_each_renewal() {
        let orders: Vec<[Arm; 2]> = (0..TURNS).map(order).collect();
        let first = |arm: Arm| orders.iter().filter(|order| order[0] == arm).count();
        assert_eq!(first(Arm::Control), first(Arm::Treatment), "{orders:?}");
        assert!(orders.iter().all(|order| order.contains(&Arm::Control) && order.contains(&Arm::Treatment)));
    }

    #[test]
    fn what_istiod_sent_counts_for_the_arm_whose_turn_it_was() {
        let at = |count: f64| Ok(Pushes { count, seconds: count, bytes: count });
        let mut pushed = Pushed::default();
        pushed.add(Arm::Control, at(100.0), at(103.0));
        pushed.add(Arm::Treatment, at(103.0), at(110.0));
        pushed.add(Arm::Treatment, at(110.0), at(111.0));
        assert_eq!((pushed.control.count, pushed.treatment.count), (3.0, 8.0));
        pushed.add(Arm::Control, at(111.0), Err("east has no ready istiod".into()));
        assert_eq!(pushed.unread.as_deref(), Some("east has no ready istiod"));
        assert_eq!(pushed.control.count, 3.0, "what was not read is not counted");
    }

    #[test]
    fn the_table_is_of_one_renewal_and_only_of_both_orders() {
        let sum = |count: f64| Pushes { count, seconds: 0.01, bytes: 2_000.0 };
        let pushed = Pushed { control: sum(8.0), treatment: sum(16.0), turns: 1, unread: None };
        assert_eq!(pushed.table(), None, "one order is no comparison");
        let table = Pushed { turns: TURNS, ..pushed }.table().unwrap();
        assert_eq!(table.rows, [["control", "4", "5.0 ms", "1.0 kB"], ["treatment", "8", "5.0 ms", "1.0 kB"]]);
        let unread = Pushed { unread: Some("east has no ready istiod".into()), ..Pushed::default() }.table().unwrap();
        assert_eq!(unread.rows[0][..2], ["not read", "east has no ready istiod"]);
    }
}
