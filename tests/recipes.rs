//! The recipes of `docs/how-to/compare-two-configurations.md` are the files below `examples/compare`. Needs no testbed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use meshproof::compare::configurations::{Manifests, Sides};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn guide() -> String {
    std::fs::read_to_string(root().join("docs/how-to/compare-two-configurations.md")).unwrap()
}

fn recipes() -> BTreeSet<String> {
    let listed = std::fs::read_dir(root().join("examples/compare")).unwrap();
    listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The manifests of a side. A kustomization is read as the files that it names, for a machine without kustomize.
fn side(directory: &Path) -> Manifests {
    let Ok(text) = std::fs::read_to_string(directory.join("kustomization.yaml")) else {
        return Manifests::read(directory).unwrap();
    };
    let kustomization: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let resources = kustomization["resources"].as_array().unwrap().iter();
    let paths: Vec<PathBuf> = resources.map(|resource| directory.join(resource.as_str().unwrap())).collect();
    let texts = paths.iter().map(|path| {
        let file = if path.is_dir() { path.join("services.yaml") } else { path.clone() };
        std::fs::read_to_string(file).unwrap()
    });
    Manifests::parse(&texts.collect::<Vec<_>>().join("\n---\n"), directory).unwrap()
}

#[test]
fn every_recipe_is_in_the_guide_with_its_command_and_its_sides_differ() {
    let guide = guide();
    assert!(recipes().len() > 5);
    for name in recipes() {
        let place = format!("examples/compare/{name}");
        let command = format!("meshproof compare --control {place}/control --treatment {place}/treatment");
        assert!(guide.contains(&command), "the guide has no line `{command}`");
        let [control, treatment] = ["control", "treatment"].map(|one| side(&root().join(&place).join(one)));
        let differ = Sides::of(control, treatment);
        assert!(differ.is_ok(), "{name}: {}", differ.unwrap_err());
    }
}

#[test]
fn every_file_that_the_guide_shows_is_as_it_shows() {
    let guide = guide();
    let blocks: Vec<&str> = guide.split("```yaml\n").skip(1).collect();
    assert!(blocks.len() > 3, "the guide shows {} files", blocks.len());
    for block in blocks {
        let block = block.split("```").next().unwrap();
        let (name, shown) = block.split_once('\n').unwrap();
        let name = name.strip_prefix("# ").unwrap_or_else(|| panic!("a block does not begin with its file: {name}"));
        let file = std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(file, shown, "{name}");
    }
}

/// What `istioctl manifest generate` prints of a control plane whose istiod has this name.
fn manifest(istiod: &str) -> String {
    let object = |kind: &str, name: &str| format!("---\nkind: {kind}\nmetadata:\n  name: {name}\nspec: {{}}\n");
    [
        object("CustomResourceDefinition", "sidecars.networking.istio.io"),
        object("ServiceAccount", "istio-reader-service-account"),
        object("ClusterRole", &istiod.replace("istiod", "istiod-clusterrole").replace("next", "next-istio-system")),
        object("Deployment", istiod),
    ]
    .concat()
}

/// Runs `control-plane.sh` where istioctl makes this manifest. Returns whether it succeeded, and the commands of kubectl
/// with the objects that they were given.
fn control_plane(arguments: &[&str], manifest: &str) -> (bool, String) {
    let place = tempfile::tempdir().unwrap();
    let called = place.path().join("called");
    let given = place.path().join("manifest");
    std::fs::write(&given, manifest).unwrap();
    let kubectl = format!(
        "echo \"$*\" >> {called}\nwhile [ $# -gt 0 ]; do [ \"$1\" != --filename ] || cat \"$2\" >> {called}; shift; done",
        called = called.display()
    );
    for (program, script) in [("istioctl", format!("cat {}", given.display())), ("kubectl", kubectl)] {
        let path = place.path().join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", place.path().display(), std::env::var("PATH").unwrap());
    let script = root().join("examples/compare/another-revision/control-plane.sh");
    let ended = std::process::Command::new(script).args(arguments).env("PATH", path).output().unwrap();
    (ended.status.success(), std::fs::read_to_string(called).unwrap_or_default())
}

#[test]
fn a_second_control_plane_leaves_that_of_today_as_it_is() {
    for (action, command) in
        [("add", "apply --server-side --filename"), ("remove", "delete --ignore-not-found --filename")]
    {
        let (succeeded, called) = control_plane(&[action, "next"], &manifest("istiod-next"));
        assert!(succeeded && called.contains(command), "{called}");
        let names: Vec<&str> = called.lines().filter_map(|line| line.strip_prefix("  name: ")).collect();
        assert_eq!(names, ["istiod-clusterrole-next-istio-system", "istiod-next"], "{called}");
    }
    // The settings of today's control plane win.
    let (succeeded, called) = control_plane(&["add", "next"], &manifest("istiod"));
    assert!(!succeeded && !called.contains("apply"), "{called}");
    for wrong in [&["add"][..], &["add", "default"], &["add", ""], &["add", "a b"], &["adopt", "next"]] {
        let (succeeded, called) = control_plane(wrong, &manifest("istiod-next"));
        assert!(!succeeded && !called.contains("apply") && !called.contains("delete"), "{wrong:?}: {called}");
    }
}
