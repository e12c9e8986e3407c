//! The syntax of the bounds file, and its checks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::Spanned;

use crate::judge::limit::{Limit, Verdict};
use crate::judge::trial::{Budget, MetricBound, Mode, Receipt, RunPlan, SCHEMA, Trial};
use crate::judge::{Counter, Reference};

/// Byte offset of a fault, and its description.
type Fault = (usize, String);

/// Fewest pairs that give a usable interval.
const FEWEST_PAIRS: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    schema: Spanned<String>,
    defaults: Settings,
    full: Settings,
    #[serde(default)]
    baseline: Settings,
    comparison: Vec<Spanned<Entry>>,
}

/// Settings of a comparison that default to the file's defaults.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    confidence: Option<Spanned<f64>>,
    max_failed_share: Option<Spanned<f64>>,
    #[serde(default)]
    plan: PartialPlan,
    budget: Option<Spanned<Budget>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartialPlan {
    run_s: Option<Spanned<f64>>,
    warmup_s: Option<Spanned<f64>>,
    connections: Option<Spanned<u32>>,
    rate: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<String>,
    control: String,
    treatment: String,
    #[serde(default)]
    settings: Settings,
    #[serde(default)]
    receipts: BTreeMap<String, Spanned<Receipt>>,
    #[serde(default)]
    preconditions: BTreeMap<String, Spanned<Counter>>,
    metric: Vec<Spanned<Metric>>,
    /// One comparison per row, with the id `id/name`. Without rows: one comparison, `id`.
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: Spanned<String>,
    /// The control arm of this row, if rows differ in it.
    control: Option<String>,
    /// The treatment arm of this row, if rows differ in it.
    treatment: Option<String>,
    #[serde(default)]
    plan: PartialPlan,
    /// Measurements by others, by metric.
    #[serde(default)]
    seed: BTreeMap<String, Spanned<Reference>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metric {
    name: Spanned<String>,
    gate: Option<Spanned<Limit>>,
    /// A gate as a multiple of the baseline for this kind of machine.
    gate_of_baseline: Option<Spanned<Limit>>,
    goal: Option<Spanned<Limit>>,
    /// What was tried to reach the goal.
    tried: Option<Spanned<String>>,
    /// Why there is no gate.
    report_only: Option<Spanned<String>>,
    expect: Option<Spanned<Verdict>>,
    source: Option<Spanned<String>>,
}

impl File {
    /// The comparisons, with defaults filled in.
    pub(super) fn trials(self, mode: Mode) -> Result<Vec<Trial>, Fault> {
        if self.schema.get_ref() != SCHEMA {
            return fault(&self.schema, format!("schema `{}` is not `{SCHEMA}`", self.schema.get_ref()));
        }
        let of_mode = match mode {
            Mode::Quick => Settings::default(),
            Mode::Full => self.full,
            Mode::Baseline => self.baseline,
        };
        let mut trials: Vec<Trial> = Vec::new();
        for entry in &self.comparison {
            let (at, entry) = (entry.span().start, entry.get_ref());
            let metrics = metrics(entry)?;
            // A comparison without a relative bound ignores the settings of baseline mode.
            let recorded = mode != Mode::Baseline || metrics.iter().any(|metric| metric.gate_of_baseline.is_some());
            let over = if recorded { of_mode.clone() } else { Settings::default() };
            let settings = [&over, &entry.settings, &self.defaults];
            let rows: Vec<Option<&Row>> =
                if entry.rows.is_empty() { vec![None] } else { entry.rows.iter().map(Some).collect() };
            for row in rows {
                let trial = trial(mode, &Place { at, entry, row }, settings, &metrics)?;
                if trials.iter().any(|other| other.id == trial.id) {
                    let id_at = row.map_or(&entry.id, |row| &row.name);
                    return fault(id_at, format!("`{}` is there twice", trial.id));
                }
                trials.push(trial);
            }
        }
        Ok(trials)
    }
}

/// A comparison in the file: an entry, or a row of an entry.
struct Place<'a> {
    at: usize,
    entry: &'a Entry,
    row: Option<&'a Row>,
}

impl Place<'_> {
    fn id(&self) -> Result<String, Fault> {
        let Self { entry, row, .. } = self;
        let family = entry.id.get_ref();
        let id = row.map_or_else(|| family.clone(), |row| format!("{family}/{}", row.name.get_ref()));
        if id.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            let id_at = row.map_or(&entry.id, |row| &row.name);
            return fault(id_at, format!("`{id}` is no id: runs are kept in a directory of that name"));
        }
        Ok(id)
    }
}

fn trial(mode: Mode, place: &Place<'_>, settings: [&Settings; 3], metrics: &[MetricBound]) -> Result<Trial, Fault> {
    let id = place.id()?;
    let Place { at, entry, row } = *place;
    let [over, own, defaults] = settings;
    // A mode's settings override the comparison's settings.
    let row_plan = row.map(|row| row.plan.clone()).unwrap_or_default();
    let layers = [&over.plan, &row_plan, &own.plan, &defaults.plan];
    let plan = plan(mode, layers).map_err(|(offset, reason)| (offset.unwrap_or(at), reason))?;
    let confidence = |&confidence: &f64| {
        (!(0.8..0.999).contains(&confidence)).then(|| format!("{confidence} is not from 0.8 to 0.999"))
    };
    let max_failed_share = |&share: &f64| {
        (!(0.0..=0.05).contains(&share))
            .then(|| format!("{share} is not from 0 to 0.05: p99 of answers alone would hide what is missing"))
    };
    Ok(Trial {
        id,
        control: row.and_then(|row| row.control.clone()).unwrap_or_else(|| entry.control.clone()),
        treatment: row.and_then(|row| row.treatment.clone()).unwrap_or_else(|| entry.treatment.clone()),
        confidence: setting(settings, at, "confidence", |s| s.confidence.as_ref(), confidence)?,
        max_failed_share: setting(settings, at, "max_failed_share", |s| s.max_failed_share.as_ref(), max_failed_share)?,
        budget: setting(settings, at, "budget", |s| s.budget.as_ref(), budget)?,
        plan,
        receipts: receipts(entry)?,
        preconditions: preconditions(entry)?,
        metrics: with_seed(metrics, row)?,
    })
}

fn fault<T, W>(at: &Spanned<W>, reason: impl Into<String>) -> Result<T, Fault> {
    Err((at.span().start, reason.into()))
}

/// The first given setting, checked.
fn setting<T: Clone>(
    settings: [&Settings; 3],
    at: usize,
    name: &str,
    get: impl Fn(&Settings) -> Option<&Spanned<T>>,
    wrong: impl Fn(&T) -> Option<String>,
) -> Result<T, Fault> {
    let Some(value) = settings.into_iter().find_map(get) else {
        return Err((at, format!("no `{name}` here, nor in `defaults`")));
    };
    match wrong(value.get_ref()) {
        Some(reason) => fault(value, format!("{name}: {reason}")),
        None => Ok(value.get_ref().clone()),
    }
}

fn budget(budget: &Budget) -> Option<String> {
    let Budget { min_pairs, max_pairs, seconds } = *budget;
    if min_pairs < FEWEST_PAIRS {
        return Some(format!("{min_pairs} pairs are too few to look at: min_pairs is at least {FEWEST_PAIRS}"));
    }
    if !min_pairs.is_multiple_of(2) || !max_pairs.is_multiple_of(2) {
        return Some("an ABBA block is two pairs: min_pairs and max_pairs are even".into());
    }
    if max_pairs < min_pairs {
        return Some(format!("max_pairs {max_pairs} is below min_pairs {min_pairs}"));
    }
    (!(seconds.is_finite() && seconds > 0.0)).then(|| format!("{seconds} seconds: it must be greater than 0"))
}

fn plan(mode: Mode, layers: [&PartialPlan; 4]) -> Result<RunPlan, (Option<usize>, String)> {
    let positive = |name: &str, value: Option<&Spanned<f64>>, least: f64| match value {
        None => Err((None, format!("no `plan.{name}` here, nor in `defaults`"))),
        Some(value) if value.get_ref().is_finite() && *value.get_ref() >= least => Ok(*value.get_ref()),
        Some(value) => Err((Some(value.span().start), format!("plan.{name}: {} is below {least}", value.get_ref()))),
    };
    let connections = match layers.into_iter().find_map(|plan| plan.connections.as_ref()) {
        None => return Err((None, "no `plan.connections` here, nor in `defaults`".into())),
        Some(value) if *value.get_ref() == 0 => {
            return Err((Some(value.span().start), "plan.connections: nothing is measured without one".into()));
        }
        Some(value) => *value.get_ref(),
    };
    let rate = layers.into_iter().find_map(|plan| plan.rate.as_ref());
    Ok(RunPlan {
        mode,
        run_s: positive("run_s", layers.into_iter().find_map(|plan| plan.run_s.as_ref()), 0.1)?,
        warmup_s: positive("warmup_s", layers.into_iter().find_map(|plan| plan.warmup_s.as_ref()), 0.0)?,
        connections,
        rate: rate.map(|rate| positive("rate", Some(rate), 1.0)).transpose()?,
    })
}

fn receipts(entry: &Entry) -> Result<BTreeMap<String, Receipt>, Fault> {
    let mut receipts = BTreeMap::new();
    for (name, receipt) in &entry.receipts {
        let Receipt { control, treatment } = receipt.get_ref();
        if control.is_empty() && treatment.is_empty() {
            return fault(receipt, format!("receipt `{name}` asks for nothing, so it proves nothing"));
        }
        receipts.insert(name.clone(), *receipt.get_ref());
    }
    Ok(receipts)
}

fn preconditions(entry: &Entry) -> Result<BTreeMap<String, Counter>, Fault> {
    let precondition = |(name, required): (&String, &Spanned<Counter>)| match required.get_ref() {
        counter if counter.is_empty() => fault(required, format!("precondition `{name}` asks for nothing")),
        counter => Ok((name.clone(), *counter)),
    };
    entry.preconditions.iter().map(precondition).collect()
}

fn metrics(entry: &Entry) -> Result<Vec<MetricBound>, Fault> {
    let mut names = BTreeSet::new();
    let metric = |metric: &Spanned<Metric>| {
        let (at, metric) = (metric.span().start, metric.get_ref());
        let name = metric.name.get_ref().clone();
        if !names.insert(name.clone()) {
            return fault(&metric.name, format!("metric `{name}` is there twice"));
        }
        for limit in [&metric.gate, &metric.gate_of_baseline, &metric.goal].into_iter().flatten() {
            check(limit)?;
        }
        metric.check_limits()?;
        Ok(MetricBound {
            source: metric.source(at)?,
            tried: metric.tried()?,
            expect: metric.expect()?,
            name,
            gate: metric.gate.as_ref().map(|gate| *gate.get_ref()),
            gate_of_baseline: metric.gate_of_baseline.as_ref().map(|gate| *gate.get_ref()),
            goal: metric.goal.as_ref().map(|goal| *goal.get_ref()),
            reference: None,
        })
    };
    entry.metric.iter().map(metric).collect()
}

impl Metric {
    /// Refuses limits that contradict each other.
    fn check_limits(&self) -> Result<(), Fault> {
        if let Some(relative) = &self.gate_of_baseline {
            if self.gate.is_some() || self.goal.is_some() || self.expect.is_some() {
                return fault(relative, "a gate of the baseline stands alone, without `gate`, `goal` and `expect`");
            }
            if !matches!(relative.get_ref(), Limit::AtMost(_) | Limit::AtLeast(_)) {
                return fault(relative, "a gate of the baseline is `at_most` or `at_least`");
            }
        }
        let (Some(gate), Some(goal)) = (&self.gate, &self.goal) else { return Ok(()) };
        match goal.get_ref().as_strict_as(*gate.get_ref()) {
            Some(true) => Ok(()),
            Some(false) => fault(
                gate,
                format!(
                    "the gate {} is stricter than the goal {}: a system could fail the test and reach what is aimed at",
                    gate.get_ref(),
                    goal.get_ref()
                ),
            ),
            None => fault(goal, "the goal bounds another side than the gate"),
        }
    }

    /// The source of the numbers, or the reason why there is no gate.
    fn source(&self, at: usize) -> Result<String, Fault> {
        let name = self.name.get_ref();
        let gate = self.gate.as_ref().or(self.gate_of_baseline.as_ref());
        match (gate, &self.report_only, &self.source) {
            (Some(gate), Some(_), _) => fault(gate, "a metric has a gate or is `report_only`, not both"),
            (None, None, _) => {
                Err((at, format!("metric `{name}` has no gate: say in `report_only` why there is none")))
            }
            (_, _, None) if gate.is_some() || self.goal.is_some() => {
                Err((at, format!("metric `{name}` has no `source`: a number without one cannot be defended")))
            }
            (_, _, Some(source)) if source.get_ref().trim().is_empty() => fault(source, "an empty source is none"),
            (_, Some(reason), _) if reason.get_ref().trim().is_empty() => fault(reason, "an empty reason is none"),
            (_, reason, source) => {
                let texts = [reason, source].into_iter().flatten().map(|text| text.get_ref().trim());
                Ok(texts.collect::<Vec<_>>().join("; "))
            }
        }
    }

    fn tried(&self) -> Result<Option<String>, Fault> {
        match (&self.tried, &self.goal) {
            (Some(tried), _) if tried.get_ref().trim().is_empty() => fault(tried, "if nothing was tried, leave it out"),
            (Some(tried), None) => fault(tried, "there is no goal that it was tried for"),
            (tried, _) => Ok(tried.as_ref().map(|tried| tried.get_ref().trim().to_owned())),
        }
    }

    fn expect(&self) -> Result<Verdict, Fault> {
        let Some(expect) = &self.expect else {
            return Ok(if self.gate.is_some() { Verdict::Pass } else { Verdict::Reported });
        };
        match (expect.get_ref(), &self.gate) {
            (verdict @ (Verdict::Pass | Verdict::Regressed), Some(_)) => Ok(*verdict),
            (_, None) => fault(expect, "there is no gate that it could be the verdict on"),
            (other, _) => fault(expect, format!("nothing is proved by expecting `{other}`")),
        }
    }
}

fn check(limit: &Spanned<Limit>) -> Result<(), Fault> {
    let ratio = limit.get_ref().ratio();
    if !(ratio.is_finite() && ratio > 0.0) {
        return fault(limit, format!("{ratio}: a ratio must be greater than 0"));
    }
    if matches!(limit.get_ref(), Limit::Within(_) | Limit::SameWithin(_)) {
        if ratio <= 1.0 {
            return fault(limit, format!("from 1/{ratio} to {ratio} there is nothing: the factor is above 1"));
        }
        if ratio > 2.0 {
            return fault(
                limit,
                format!("a change by a factor of {ratio} cannot be called none: the factor is at most 2"),
            );
        }
    }
    Ok(())
}

fn with_seed(metrics: &[MetricBound], row: Option<&Row>) -> Result<Vec<MetricBound>, Fault> {
    let mut metrics = metrics.to_vec();
    for (name, seed) in row.map(|row| &row.seed).into_iter().flatten() {
        let Some(metric) = metrics.iter_mut().find(|metric| metric.name == *name) else {
            return fault(seed, format!("there is no metric `{name}` that these could be read beside"));
        };
        let reference = *seed.get_ref();
        if !(reference.control > 0.0 && reference.treatment > 0.0 && reference.ratio().is_finite()) {
            return fault(seed, "no ratio can be taken of these");
        }
        metric.reference = Some(reference);
    }
    Ok(metrics)
}
