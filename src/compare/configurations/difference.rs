//! The receipt: how what the proxies were given differs between the arms, and which declared object explains it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::manifests::{Declared, ObjectName, WORKLOADS};
use super::normal::{Given, Part, Resource, STEP};
use crate::report::Table;

/// Most rows of the receipt in a report. The file `receipt.json` has all.
const ROWS: usize = 60;

/// Most lines of the summary.
const LINES: usize = 12;

/// Stands for all that an arm has and the other lacks.
const PRESENT: &str = "present";

/// Most characters of a path or a value in a report.
const WIDTH: usize = 48;

/// The proxies of an arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The client's.
    Client,
    /// The server's.
    Server,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORKLOADS[*self as usize])
    }
}

/// A field of a proxy's configuration that differs between the arms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The proxy.
    pub proxy: End,
    /// The part of the configuration, such as `listener virtualInbound`.
    pub resource: String,
    /// The field. Empty if one arm lacks the resource.
    pub field: String,
    /// The control's value. `None` if there is none.
    pub control: Option<String>,
    /// The treatment's value. `None` if there is none.
    pub treatment: Option<String>,
    /// The declared objects that explain it. Empty: no object does.
    pub explained_by: Vec<String>,
}

/// What the proxies were given, as far as it differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Receipt {
    /// The differences.
    pub differences: Vec<Difference>,
    /// Declared objects that explain no difference.
    pub without_effect: Vec<String>,
}

/// What the two proxies of an arm were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct GivenTo {
    pub(super) client: Given,
    pub(super) server: Given,
}

impl Receipt {
    /// The receipt of two arms whose declared differences are `declared`.
    pub(super) fn of(control: &GivenTo, treatment: &GivenTo, declared: &[Declared]) -> Self {
        let mut differences = between(End::Client, &control.client, &treatment.client, declared);
        differences.extend(between(End::Server, &control.server, &treatment.server, declared));
        let effective: BTreeSet<&String> = differences.iter().flat_map(|one| &one.explained_by).collect();
        let names = declared.iter().map(|one| one.object.to_string());
        let without_effect = names.filter(|name| !effective.contains(name)).collect();
        Self { differences, without_effect }
    }

    /// The number of differences that no declared object explains.
    pub fn unexplained(&self) -> usize {
        self.differences.iter().filter(|one| one.explained_by.is_empty()).count()
    }

    /// The receipt as a table. What nobody declared comes first.
    pub fn table(&self) -> Table {
        let title = format!(
            "Receipt: what the proxies were given differs in {} fields; nobody declared {} of them",
            self.differences.len(),
            self.unexplained()
        );
        let mut table = Table::new(title, &["proxy and part", "field", "control", "treatment", "declared by"]);
        let (explained, others): (Vec<_>, Vec<_>) =
            self.differences.iter().partition(|one| !one.explained_by.is_empty());
        let all: Vec<&Difference> = others.into_iter().chain(explained).collect();
        for one in all.iter().take(ROWS) {
            let value = |value: &Option<String>| value.as_deref().map_or_else(|| "–".into(), shortened);
            let declared = if one.explained_by.is_empty() { "NOBODY".into() } else { one.explained_by.join(", ") };
            let part = format!("{} {}", one.proxy, one.resource);
            table.rows.push(vec![part, ending(&one.field), value(&one.control), value(&one.treatment), declared]);
        }
        let more = all.len().saturating_sub(ROWS);
        if more > 0 {
            table.rows.push(row(format!("{more} more, in receipt.json"), "–"));
        }
        for object in &self.without_effect {
            table.rows.push(row("no effect on either proxy".into(), object));
        }
        table
    }

    /// The receipt in a few lines, for a terminal: how many fields of each part differ, and by what.
    pub fn summary(&self) -> String {
        let mut parts: BTreeMap<String, usize> = BTreeMap::new();
        for one in &self.differences {
            let by = if one.explained_by.is_empty() { "NOBODY".into() } else { one.explained_by.join(", ") };
            *parts.entry(format!("the {}'s {}, declared by {by}", one.proxy, one.resource)).or_default() += 1;
        }
        let (all, nobodys) = (self.differences.len(), self.unexplained());
        let first = format!("what the proxies were given differs in {all} fields; nobody declared {nobodys} of them");
        let mut lines = vec![first];
        lines.extend(parts.iter().take(LINES).map(|(part, fields)| format!("  {fields:>4} in {part}")));
        let more = parts.len().saturating_sub(LINES);
        lines.extend((more > 0).then(|| format!("  and {more} more parts, in receipt.json")));
        lines.extend(self.without_effect.iter().map(|object| format!("     0 by {object}: no effect on either proxy")));
        lines.join("\n")
    }

    /// The first difference between two receipts, as text.
    pub(super) fn changed(&self, now: &Self) -> Option<String> {
        let told = |one: &Difference| format!("{} {} {}", one.proxy, one.resource, one.field).trim_end().to_owned();
        let gone = self.differences.iter().find(|one| !now.differences.contains(one));
        let new = now.differences.iter().find(|one| !self.differences.contains(one));
        gone.map(|one| format!("gone or changed: {}", told(one)))
            .or_else(|| new.map(|one| format!("new: {}", told(one))))
    }
}

/// Fields of one resource, by path.
type Fields = BTreeMap<String, String>;

fn between(proxy: End, control: &Given, treatment: &Given, declared: &[Declared]) -> Vec<Difference> {
    let mut differences = Vec::new();
    let resources: BTreeSet<&Resource> = control.keys().chain(treatment.keys()).collect();
    for resource in resources {
        let explaining = declared.iter().filter(|one| explains(&one.object, proxy, resource.part));
        let explained_by: Vec<String> = explaining.map(|one| one.object.to_string()).collect();
        let difference = |path: &str, values: Values| Difference {
            proxy,
            resource: told(resource),
            field: shown(path),
            control: values.control,
            treatment: values.treatment,
            explained_by: explained_by.clone(),
        };
        match (control.get(resource), treatment.get(resource)) {
            (Some(one), Some(other)) => {
                differences.extend(changes(one, other).into_iter().map(|(path, values)| difference(&path, values)));
            }
            (one, other) => {
                let present = |fields: Option<&Fields>| fields.map(|_| PRESENT.to_owned());
                differences.push(difference("", Values { control: present(one), treatment: present(other) }));
            }
        }
    }
    differences
}

/// The values of a field in both arms.
#[derive(Debug, Default)]
struct Values {
    control: Option<String>,
    treatment: Option<String>,
}

/// The fields that differ, by path. What one arm lacks as a whole, such as a filter, is one of them.
fn changes(control: &Fields, treatment: &Fields) -> BTreeMap<String, Values> {
    let mut changes: BTreeMap<String, Values> = BTreeMap::new();
    for (path, value) in control {
        match treatment.get(path) {
            Some(other) if other == value => {}
            Some(other) => {
                let values = Values { control: Some(value.clone()), treatment: Some(other.clone()) };
                changes.insert(path.clone(), values);
            }
            None => {
                let Lacking { path, value } = lacking(path, value, treatment);
                changes.entry(path).or_default().control = Some(value);
            }
        }
    }
    for (path, value) in treatment.iter().filter(|(path, _)| !control.contains_key(*path)) {
        let Lacking { path, value } = lacking(path, value, control);
        changes.entry(path).or_default().treatment = Some(value);
    }
    changes
}

/// What an arm lacks.
struct Lacking {
    path: String,
    value: String,
}

/// The highest part above `path` that `other` lacks, or else the field itself.
fn lacking(path: &str, value: &str, other: &Fields) -> Lacking {
    let mut ends = path.match_indices(STEP).map(|(at, _)| at).filter(|at| *at > 0);
    let has = |part: &str| {
        let below = format!("{part}{STEP}");
        let next = other.range(below.clone()..).next();
        other.contains_key(part) || next.is_some_and(|(path, _)| path.starts_with(&below))
    };
    match ends.find(|end| !has(&path[..*end])) {
        Some(end) => Lacking { path: path[..end].into(), value: PRESENT.into() },
        None => Lacking { path: path.into(), value: value.into() },
    }
}

/// A path, as a reader writes it: `filters[rbac].rules`.
fn shown(path: &str) -> String {
    path.replace(&format!("{STEP}["), "[").replace(STEP, ".").trim_start_matches('.').to_owned()
}

fn told(resource: &Resource) -> String {
    let part = match resource.part {
        Part::Pod => "pod",
        Part::Bootstrap => "bootstrap",
        Part::Listener => "listener",
        Part::Route => "route",
        Part::Cluster => "cluster",
        Part::Other => "other",
    };
    format!("{part} {}", resource.name).trim_end().to_owned()
}

/// Whether an object of this kind can change that part of a proxy's configuration.
fn explains(object: &ObjectName, proxy: End, part: Part) -> bool {
    use Part::{Bootstrap, Cluster, Listener, Other, Pod, Route};
    match object.kind.as_str() {
        // A patch of one of our workloads changes its own proxy. The user's own workload is the server.
        "Deployment" if object.name == "client" => proxy == End::Client,
        "Deployment" => proxy == End::Server,
        "EnvoyFilter" | "Namespace" => true,
        "ProxyConfig" => matches!(part, Pod | Bootstrap),
        "ConfigMap" | "Secret" | "ServiceAccount" => matches!(part, Pod | Bootstrap),
        "AuthorizationPolicy" => part == Listener,
        "PeerAuthentication" | "RequestAuthentication" => matches!(part, Listener | Cluster),
        "WasmPlugin" => matches!(part, Listener | Other),
        // Also the filters of routes and clusters that a provider needs.
        "Telemetry" => matches!(part, Listener | Cluster),
        "DestinationRule" => matches!(part, Cluster | Route),
        "VirtualService" | "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "TLSRoute" => {
            matches!(part, Route | Listener | Cluster)
        }
        "ServiceEntry" | "WorkloadEntry" | "Service" | "Sidecar" => matches!(part, Cluster | Route | Listener),
        _ => false,
    }
}

/// A row without a field.
fn row(told: String, declared: &str) -> Vec<String> {
    [told, "–".into(), "–".into(), "–".into(), declared.into()].into()
}

/// The end of a long path: its beginning is the same for many.
fn ending(path: &str) -> String {
    let length = path.chars().count();
    if length <= WIDTH {
        path.to_owned()
    } else {
        std::iter::once('…').chain(path.chars().skip(length + 1 - WIDTH)).collect()
    }
}

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WIDTH { line } else { line.chars().take(WIDTH - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::configurations::manifests::Declaration;

    fn given(part: Part, name: &str, field: &str, value: &str) -> Given {
        let fields = [(field.to_owned(), value.to_owned())].into();
        [(Resource { part, name: name.into() }, fields)].into()
    }

    fn declared(kind: &str, name: &str) -> Declared {
        let object = ObjectName { kind: kind.into(), name: name.into() };
        Declared { object, how: Declaration::Added, selector: None }
    }

    #[test]
    fn a_difference_is_explained_by_the_kinds_that_can_make_it() {
        let control = GivenTo { server: given(Part::Listener, "virtualInbound", "rbac", "off"), ..GivenTo::default() };
        let treatment = GivenTo { server: given(Part::Listener, "virtualInbound", "rbac", "on"), ..GivenTo::default() };
        let objects = [declared("AuthorizationPolicy", "allow"), declared("ProxyConfig", "two")];
        let receipt = Receipt::of(&control, &treatment, &objects);
        let [one] = receipt.differences.as_slice() else { panic!("{receipt:?}") };
        assert_eq!(one.explained_by, ["AuthorizationPolicy/allow"]);
        assert_eq!((one.control.as_deref(), one.treatment.as_deref()), (Some("off"), Some("on")));
        assert_eq!(
            (receipt.unexplained(), receipt.without_effect.as_slice()),
            (0, &["ProxyConfig/two".to_owned()][..])
        );
        let nobody = Receipt::of(&control, &treatment, &[declared("Sidecar", "s"), declared("Deployment", "client")]);
        assert_eq!(nobody.unexplained(), 0, "a Sidecar has listeners");
        let nobody = Receipt::of(&control, &treatment, &[declared("Deployment", "client")]);
        assert_eq!(nobody.unexplained(), 1, "the client's patch does not change the server's proxy");
        assert!(nobody.table().rows[0].contains(&"NOBODY".to_owned()));
    }

    #[test]
    fn a_resource_of_one_arm_is_one_difference() {
        let treatment = GivenTo { client: given(Part::Cluster, "far", "type", "DNS"), ..GivenTo::default() };
        let receipt = Receipt::of(&GivenTo::default(), &treatment, &[]);
        let [one] = receipt.differences.as_slice() else { panic!("{receipt:?}") };
        assert_eq!((one.field.as_str(), one.control.as_deref(), one.treatment.as_deref()), ("", None, Some("present")));
        assert_eq!(one.resource, "cluster far");
        assert!(receipt.changed(&Receipt::default()).unwrap().contains("cluster far"));
        assert_eq!(receipt.changed(&receipt), None);
    }

    #[test]
    fn what_an_arm_lacks_as_a_whole_is_one_difference() {
        let fields = |paths: &[&str]| -> Fields {
            paths.iter().map(|path| (path.replace('/', &STEP.to_string()), "v".to_owned())).collect()
        };
        let control = fields(&["/filters/[a]/name", "/same"]);
        let treatment = fields(&["/filters/[a]/name", "/filters/[b]/name", "/filters/[b]/on", "/same"]);
        let changed = changes(&control, &treatment);
        let told: Vec<String> = changed.keys().map(|path| shown(path)).collect();
        assert_eq!(told, ["filters[b]"]);
        let values = changed.values().next().unwrap();
        assert_eq!((values.control.as_deref(), values.treatment.as_deref()), (None, Some(PRESENT)));
        assert_eq!(changes(&treatment, &control).values().next().unwrap().control.as_deref(), Some(PRESENT));
    }

    #[test]
    fn a_long_receipt_is_cut_and_says_so() {
        let fields = (0..100).map(|n| (format!("f{n}"), n.to_string())).collect();
        let all: Given = [(Resource { part: Part::Bootstrap, name: String::new() }, fields)].into();
        let none: Given = [(Resource { part: Part::Bootstrap, name: String::new() }, [].into())].into();
        let one = GivenTo { client: none, ..GivenTo::default() };
        let other = GivenTo { client: all, ..GivenTo::default() };
        let table = Receipt::of(&one, &other, &[]).table();
        assert_eq!(table.rows.len(), ROWS + 1);
        assert!(table.rows.last().unwrap()[0].starts_with("40 more"));
    }
}
