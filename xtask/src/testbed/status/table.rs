//! The status as a table: one row per property, one column per cluster.

use std::fmt::Write;

use super::health::{Api, Cluster, Component, Ingress, Node, Pods, Status};
use crate::provider::node::State;

/// Placeholder for an unknown value.
const UNKNOWN: &str = "-";

/// Prefix of a problem, to make it visible.
const WRONG: &str = "✗ ";

/// The whole text, with a final line break.
pub(super) fn render(status: &Status) -> String {
    let mut head = Vec::new();
    if let Some(recorded) = &status.testbed {
        head.push(row("provider", [format!("{}, layout {}", recorded.provider, recorded.layout)]));
        head.push(row("mesh", [format!("{}, Istio {}", recorded.mesh, recorded.mesh_version)]));
    }
    head.push(row("directory", [status.directory.display().to_string()]));
    if let Some(last) = &status.last_up {
        let warmth = if last.warm { "artifacts cached" } else { "artifacts built" };
        let (total, first) = (last.total_seconds, last.first_cross_cluster_success_seconds);
        let text = format!("{total:.1} s, first cross-cluster success after {first:.1} s ({warmth})");
        head.push(row("last up", [text]));
    }
    let mut text = aligned(&[head, vec![Vec::new()], rows(&status.clusters)].concat());
    text.push('\n');
    if status.healthy {
        text.push_str("healthy\n");
    }
    for problem in &status.problems {
        let at = problem.cluster.as_deref().unwrap_or("testbed");
        let _ = writeln!(text, "{WRONG}{at}: {}", problem.problem);
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "! {warning}");
    }
    text
}

/// The roles of the nodes, if a cluster has several nodes.
fn roles(clusters: &[Cluster]) -> Vec<String> {
    let largest = clusters.iter().max_by_key(|cluster| cluster.nodes.len()).filter(|cluster| cluster.nodes.len() > 1);
    largest.into_iter().flat_map(|cluster| cluster.nodes.iter().map(|node| of_cluster(cluster, node))).collect()
}

/// What the node's name adds to that of the cluster's first node, its control plane: `worker1`.
fn of_cluster(cluster: &Cluster, node: &Node) -> String {
    let added = cluster.nodes.first().and_then(|first| node.name.strip_prefix(&first.name)).unwrap_or(&node.name);
    if added.is_empty() { "control plane".to_owned() } else { added.trim_start_matches('-').to_owned() }
}

fn one(node: &Node) -> String {
    let memory = node.memory_mib.map(|mib| format!(", {mib} MiB")).unwrap_or_default();
    let cpu = node.cpu_percent.map(|percent| format!(", {percent:.0} %")).unwrap_or_default();
    format!("{}{memory}{cpu}", node.state.word())
}

/// The clusters' rows. Leaves out a row without a value for any cluster.
fn rows(clusters: &[Cluster]) -> Vec<Vec<String>> {
    let mut rows = vec![row("", clusters.iter().map(|cluster| cluster.name.clone()))];
    let mut add = |label: &str, cell: &dyn Fn(&Cluster) -> Option<String>| {
        let cells: Vec<Option<String>> = clusters.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            rows.push(row(label, cells.into_iter().map(|cell| cell.unwrap_or_else(|| UNKNOWN.into()))));
        }
    };
    add("nodes", &|cluster| nodes(&cluster.nodes));
    add("  memory", &|cluster| Some(format!("{} MiB", sum(cluster.nodes.iter().filter_map(|node| node.memory_mib))?)));
    add("  CPU", &|cluster| {
        Some(format!("{:.0} % of one core", sum(cluster.nodes.iter().filter_map(|node| node.cpu_percent))?))
    });
    for role in roles(clusters) {
        add(&format!("  {role}"), &|cluster| {
            cluster.nodes.iter().find(|node| of_cluster(cluster, node) == role).map(one)
        });
    }
    add("API server", &|cluster| cluster.api.as_ref().map(api));
    let components: Vec<Component> = clusters.iter().flat_map(|cluster| cluster.components.clone()).collect();
    let mut names: Vec<&str> = Vec::new();
    for component in &components {
        if !names.contains(&component.name) {
            names.push(component.name);
        }
    }
    for name in names {
        add(name, &|cluster| cluster.components.iter().find(|component| component.name == name).map(component));
    }
    add("pods ready", &|cluster| cluster.pods.as_ref().map(pods));
    add("ingress", &|cluster| cluster.ingress.as_ref().map(ingress));
    add("peers", &|cluster| (!cluster.peers.is_empty()).then(|| peers(cluster)));
    rows
}

fn row(label: &str, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    std::iter::once(label.to_owned()).chain(cells).collect()
}

fn marked(good: bool, text: String) -> String {
    if good { text } else { format!("{WRONG}{text}") }
}

/// The number of nodes in each state. For a single node, only its state.
fn nodes(nodes: &[Node]) -> Option<String> {
    let mut states: Vec<State> = nodes.iter().map(|node| node.state).collect();
    states.sort();
    let text = match states[..] {
        [] => return None,
        [state] => state.word().to_owned(),
        _ => {
            let counted = states.chunk_by(PartialEq::eq).map(|same| format!("{} {}", same.len(), same[0].word()));
            counted.collect::<Vec<_>>().join(", ")
        }
    };
    Some(marked(!states.iter().any(|state| state.is_down()), text))
}

/// The sum of the values. `None` if there are no values.
fn sum<T: std::iter::Sum>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values = values.peekable();
    values.peek().is_some().then(|| values.sum())
}

fn api(api: &Api) -> String {
    match &api.version {
        Some(version) if api.error.is_none() => format!("ready, Kubernetes {version}"),
        _ => marked(false, "not ready".into()),
    }
}

fn component(component: &Component) -> String {
    match component.available {
        Some(available) => marked(component.is_available(), format!("{available}/{}", component.wanted)),
        None => marked(false, "missing".into()),
    }
}

fn pods(pods: &Pods) -> String {
    marked(pods.not_ready.is_empty(), format!("{}/{}", pods.ready, pods.total))
}

fn ingress(ingress: &Ingress) -> String {
    marked(ingress.error.is_none(), format!("http://{}", ingress.address))
}

fn peers(cluster: &Cluster) -> String {
    let peers = cluster.peers.iter().map(|peer| marked(peer.is_synced(), format!("{} {}", peer.name, peer.status)));
    peers.collect::<Vec<_>>().join(", ")
}

/// Pads each column to the same width, except the last column of a row. A row with one cell after its label, such as
/// those in the table's head, does not widen other columns.
fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            if index >= widths.len() {
                widths.push(0);
            }
            if index + 1 < row.len() {
                widths[index] = widths[index].max(cell.chars().count());
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::health::tests::{healthy, node, stopped};
    use super::super::health::{LastUp, Recorded, SCHEMA};
    use super::*;

    fn status(clusters: Vec<Cluster>) -> Status {
        let problems: Vec<_> = clusters.iter().flat_map(Cluster::problems).collect();
        Status {
            schema: SCHEMA,
            healthy: problems.is_empty(),
            problems,
            warnings: Vec::new(),
            directory: "/work/target/testbed".into(),
            testbed: Some(Recorded {
                provider: "local".into(),
                layout: "istio".into(),
                mesh: "mesh1".into(),
                mesh_version: "1.31".into(),
            }),
            last_up: Some(LastUp { total_seconds: 80.49, first_cross_cluster_success_seconds: 79.12, warm: true }),
            clusters,
        }
    }

    #[test]
    fn one_stopped_cluster_beside_a_healthy_one() {
        let expected = "\
provider    local, layout istio
mesh        mesh1, Istio 1.31
directory   /work/target/testbed
last up     80.5 s, first cross-cluster success after 79.1 s (artifacts cached)

            cluster1                   cluster2
nodes       running                    ✗ stopped
  memory    811 MiB                    -
  CPU       11 % of one core           -
API server  ready, Kubernetes v1.34.3  -
istiod      1/1                        -
pods ready  11/11                      -
ingress     http://127.0.0.1:32778     -
peers       cluster2 synced            -

✗ cluster2: container meshproof-cluster2 is stopped
";
        assert_eq!(render(&status(vec![healthy(), stopped()])), expected);
    }

    #[test]
    fn a_healthy_testbed_says_so_and_marks_nothing() {
        let text = render(&status(vec![healthy()]));
        assert!(text.ends_with("\n\nhealthy\n") && !text.contains(WRONG), "{text}");
    }

    #[test]
    fn a_cluster_of_another_machine_has_no_row_of_nodes() {
        let elsewhere = Cluster { nodes: Vec::new(), ..healthy() };
        assert!(!render(&status(vec![elsewhere])).contains("nodes"));
    }

    #[test]
    fn several_nodes_are_counted_by_what_they_do_and_what_they_use_is_added_up() {
        let nodes = [("", State::Running), ("-worker1", State::Stopped), ("-worker2", State::Running)];
        let nodes = nodes.map(|(role, state)| node(&format!("meshproof-cluster1{role}"), state)).to_vec();
        let text = render(&status(vec![Cluster { nodes, ..healthy() }]));
        for part in [
            "✗ 2 running, 1 stopped",
            "1622 MiB",
            "23 % of one core",
            "container meshproof-cluster1-worker1 is stopped",
        ] {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for row in ["control plane  running, 811 MiB", "worker1        stopped", "worker2        running, 811 MiB"] {
            assert!(lines.iter().any(|line| line.starts_with(row)), "no `{row}` in {text}");
        }
    }

    #[test]
    fn a_warning_is_shown_also_of_a_healthy_testbed() {
        let warned = Status { warnings: vec!["110 of 128 are in use".into()], ..status(vec![healthy()]) };
        assert!(render(&warned).ends_with("healthy\n! 110 of 128 are in use\n"));
    }
}
