//! Tests of the live mesh hold its lock, also between processes. Tests that change what others rely on hold the lock
//! alone, other tests share the lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Methods that change what other tests rely on, and types that pause clusters.
const CHANGING: &[&str] = &[".inject", ".place", ".scale", ".label_nodes", "Isolation", "interleave"];

/// Lock attributes: for a test that runs alone, and for a test that shares the mesh.
const ALONE: &str = "file_serial(mesh)";
const SHARED: &str = "file_parallel(mesh)";

/// A function: its attributes, and all names in its body.
#[derive(Debug, Default)]
struct Function {
    attributes: Vec<String>,
    names: BTreeSet<String>,
}

impl Function {
    fn has(&self, attribute: &str) -> bool {
        self.attributes.iter().any(|one| one == attribute)
    }

    /// Whether the function is a test that is not ignored.
    fn is_test(&self) -> bool {
        self.has("tokio::test") && !self.attributes.iter().any(|one| one.starts_with("ignore"))
    }
}

/// Faults in the locks of the tests in `sources`, the files of one target.
pub(crate) fn faults(target: &str, sources: &[String]) -> Vec<String> {
    let mut functions = BTreeMap::new();
    for source in sources {
        let tokens: TokenStream = source.parse().unwrap_or_else(|error| panic!("{target}: {error}"));
        collect(tokens, &mut functions);
    }
    let changing = changing(&functions);
    let tests = functions.iter().filter(|(_, function)| function.is_test());
    let wrong = tests.filter_map(|(name, function)| match (function.has(ALONE), function.has(SHARED)) {
        (true, _) => None,
        (false, true) if changing.contains(name) => {
            Some(format!("{target}: {name} changes what others rely on: give it #[{ALONE}]"))
        }
        (false, true) => None,
        (false, false) => Some(format!("{target}: {name} holds no lock: give it #[{SHARED}], or #[{ALONE}]")),
    });
    wrong.collect()
}

/// Functions that change what others rely on, directly or through a call.
fn changing(functions: &BTreeMap<String, Function>) -> BTreeSet<String> {
    let mut changing: BTreeSet<String> = CHANGING.iter().map(|&name| name.to_owned()).collect();
    loop {
        let calls = |function: &Function| !function.names.is_disjoint(&changing);
        let more: Vec<String> = functions
            .iter()
            .filter(|(name, function)| !changing.contains(*name) && calls(function))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return changing;
        }
        changing.extend(more);
    }
}

/// Finds the functions in `tokens`, including modules and impl blocks.
fn collect(tokens: TokenStream, functions: &mut BTreeMap<String, Function>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut attributes = Vec::new();
    let mut named = None;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket && is_punct(&tokens, at, '#') => {
                attributes.push(group.stream().to_string().replace(' ', ""));
            }
            TokenTree::Ident(word) if word == "fn" => named = tokens.get(at + 1).map(ToString::to_string),
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                let mut inner = BTreeSet::new();
                names(body.stream(), &mut inner);
                let attributes = std::mem::take(&mut attributes);
                match named.take() {
                    Some(name) => drop(functions.insert(name, Function { attributes, names: inner })),
                    None => collect(body.stream(), functions),
                }
            }
            TokenTree::Punct(end) if end.as_char() == ';' => attributes.clear(),
            _ => {}
        }
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, sign: char) -> bool {
    let before = at.checked_sub(1).and_then(|before| tokens.get(before));
    matches!(before, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// All names, and all called methods as `.name`.
fn names(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) => {
                if is_punct(&tokens, at, '.') {
                    found.insert(format!(".{word}"));
                }
                found.insert(word.to_string());
            }
            TokenTree::Group(group) => names(group.stream(), found),
            _ => {}
        }
    }
}

/// The sources below a file or directory of `tests`.
pub(crate) fn sources(target: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(target);
    let read =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.is_file() {
        return vec![read(&path)];
    }
    let listed = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut sources = Vec::new();
    for entry in listed.flatten() {
        let name = format!("{target}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() || name.ends_with(".rs") {
            sources.extend(self::sources(&name));
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_without_a_lock_and_one_that_changes_the_mesh_under_a_shared_lock_are_faults() {
        let source = r#"
            #[tokio::test]
            async fn unlocked() { looks().await }

            #[tokio::test]
            #[file_parallel(mesh)]
            async fn changes() { loses(scope).await }

            #[tokio::test]
            #[file_serial(mesh)]
            async fn alone() { loses(scope).await }

            #[tokio::test]
            #[file_serial(perf)]
            async fn another_lock() { looks().await }

            #[tokio::test]
            #[ignore = "run by another"]
            async fn asked_for() { loses(scope).await }

            async fn loses(scope: &Scope) { scope.inject(change).await }
        "#;
        let found = faults("t", &[source.into()]);
        assert_eq!(found.len(), 3, "{found:?}");
        for (name, what) in [("unlocked", "no lock"), ("changes", "changes what"), ("another_lock", "no lock")] {
            assert!(
                found.iter().any(|fault| fault.contains(&format!("{name} ")) && fault.contains(what)),
                "{name}: {found:?}"
            );
        }
    }
}
