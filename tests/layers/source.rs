//! Which file of a crate uses which other file. Reads tokens, so that comments do not count and macros do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path from the root of the crate: `judge`, `run`, `Arm`.
type Segments = Vec<String>;

/// A use of a file by a file.
#[derive(Debug)]
pub(crate) struct Arrow {
    /// The using file, relative to the repository.
    pub(crate) from: String,
    /// The line.
    pub(crate) line: usize,
    /// The used file.
    pub(crate) to: String,
    /// The top-level module of `from`.
    pub(crate) from_layer: String,
    /// The top-level module of `to`.
    pub(crate) to_layer: String,
    /// Whether the use is in a test.
    pub(crate) in_test: bool,
}

/// The sources of one crate.
pub(crate) struct Sources {
    /// Their directory.
    pub(crate) root: String,
    /// All uses, in the order of files and lines.
    pub(crate) arrows: Vec<Arrow>,
    files: BTreeMap<String, String>,
}

/// A path in a file.
struct Named {
    file: String,
    module: Segments,
    line: usize,
    path: Segments,
    reexported: bool,
    in_test: bool,
}

/// All modules of a crate.
#[derive(Default)]
struct Modules {
    /// The file of each module.
    files: BTreeMap<Segments, String>,
    /// The names that each module imports by `use`, and the path of each name.
    brought: BTreeMap<(Segments, String), Segments>,
}

impl Sources {
    /// Reads the crate with the sources in `root`, relative to the repository.
    pub(crate) fn read(root: &str) -> Self {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        let mut files = BTreeMap::new();
        collect(&directory, "", &mut files);
        assert!(!files.is_empty(), "{} holds no sources", directory.display());
        Self::parse(root, files)
    }

    /// Parses files, by name relative to `root`.
    pub(crate) fn parse(root: &str, files: BTreeMap<String, String>) -> Self {
        let mut modules = Modules::default();
        for name in files.keys() {
            modules.files.insert(module_of(name), name.clone());
        }
        let mut named = Vec::new();
        for (name, text) in &files {
            let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{root}/{name}: {error}"));
            let module = module_of(name);
            let in_test = module.last().is_some_and(|last| last == "tests");
            modules.walk(&tokens.into_iter().collect::<Vec<_>>(), name, &module, in_test, &mut named);
        }
        let layer = |module: &Segments| module.first().cloned();
        let arrows = named.iter().filter(|named| !named.reexported).filter_map(|named| {
            let used = modules.resolve(&named.module, &named.path)?;
            let to = &modules.files[&used];
            let arrow = Arrow {
                from: format!("{root}/{}", named.file),
                line: named.line,
                to: format!("{root}/{to}"),
                from_layer: layer(&named.module)?,
                to_layer: layer(&used)?,
                in_test: named.in_test,
            };
            (arrow.from != arrow.to).then_some(arrow)
        });
        let arrows = arrows.collect();
        Self { root: root.into(), arrows, files }
    }

    /// The top-level modules of the crate.
    pub(crate) fn layers(&self) -> BTreeSet<String> {
        self.files.keys().filter_map(|name| module_of(name).into_iter().next()).collect()
    }
}

impl Modules {
    /// Finds the paths in `tokens` of `module`.
    fn walk(&mut self, tokens: &[TokenTree], file: &str, module: &Segments, in_test: bool, named: &mut Vec<Named>) {
        let mut at = 0;
        while at < tokens.len() {
            let name = |path: Segments, line, reexported| Named {
                file: file.into(),
                module: module.clone(),
                line,
                path,
                reexported,
                in_test,
            };
            match (&tokens[at], tokens.get(at + 1), tokens.get(at + 2)) {
                (TokenTree::Ident(word), Some(TokenTree::Ident(inner)), Some(TokenTree::Group(body)))
                    if word == "mod" && body.delimiter() == Delimiter::Brace =>
                {
                    let mut nested = module.clone();
                    nested.push(inner.to_string());
                    self.files.insert(nested.clone(), file.into());
                    let body: Vec<_> = body.stream().into_iter().collect();
                    self.walk(&body, file, &nested, in_test || inner == "tests", named);
                    at += 3;
                }
                (TokenTree::Ident(word), ..) if word == "use" => {
                    let end = tokens[at..].iter().position(|token| is(token, ';')).map_or(tokens.len(), |end| at + end);
                    let public = at > 0 && is_public(&tokens[..at]);
                    let mut leaves = Vec::new();
                    tree(&tokens[at + 1..end], &Vec::new(), &mut leaves);
                    for leaf in leaves {
                        let bound = (module.clone(), leaf.name);
                        self.brought.insert(bound, leaf.path.clone());
                        named.push(name(leaf.path, leaf.line, public));
                    }
                    at = end + 1;
                }
                (TokenTree::Ident(word), ..) => {
                    let line = word.span().start().line;
                    let (path, next) = path(tokens, at);
                    if path.len() > 1 {
                        named.push(name(path, line, false));
                    }
                    at = next;
                }
                (TokenTree::Group(group), ..) => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    self.walk(&inner, file, module, in_test, named);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// The module of this crate that contains what `path` names within `module`. `None` for another crate.
    fn resolve(&self, module: &Segments, path: &Segments) -> Option<Segments> {
        let mut base = module.clone();
        let mut rest: Vec<String> = path.clone();
        // An imported name leads to another path. Sources that compile have no import cycles.
        for _ in 0..32 {
            let (first, tail) = rest.split_first()?;
            match first.as_str() {
                "crate" => base.clear(),
                "super" => drop(base.pop()),
                "self" => {}
                name if self.files.contains_key(&child(&base, name)) => base.push(name.into()),
                name => match self.brought.get(&(base.clone(), name.to_owned())) {
                    Some(brought) if brought.first() != Some(first) || brought.len() > 1 => {
                        // A name imported from a path outside this crate: `use anyhow`, `use serde_json::json`.
                        let known = ["crate", "super", "self"].contains(&brought[0].as_str())
                            || self.files.contains_key(&child(&base, &brought[0]));
                        if !known {
                            return None;
                        }
                        rest = brought.iter().chain(tail).cloned().collect();
                        continue;
                    }
                    _ => return (rest.len() < path.len() || base != *module).then_some(base),
                },
            }
            if tail.is_empty() {
                return Some(base);
            }
            rest = tail.to_vec();
        }
        None
    }
}

fn child(module: &Segments, name: &str) -> Segments {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// A name imported by a `use`.
struct Leaf {
    /// The local name.
    name: String,
    path: Segments,
    line: usize,
}

/// The leaves of a `use` tree.
fn tree(tokens: &[TokenTree], before: &Segments, leaves: &mut Vec<Leaf>) {
    for branch in tokens.split(|token| is(token, ',')) {
        let mut segments = before.clone();
        let mut name = None;
        let mut line = 0;
        for (at, token) in branch.iter().enumerate() {
            match token {
                TokenTree::Ident(word) if word == "as" => {
                    name = branch.get(at + 1).map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(word) => {
                    line = word.span().start().line;
                    segments.push(word.to_string());
                }
                TokenTree::Group(group) => {
                    tree(&group.stream().into_iter().collect::<Vec<_>>(), &segments, leaves);
                    line = 0;
                }
                _ => {}
            }
        }
        if line == 0 {
            continue;
        }
        if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        let Some(last) = segments.last().cloned() else { continue };
        leaves.push(Leaf { name: name.unwrap_or(last), path: segments, line });
    }
}

/// The path that starts at `at`, and its end.
fn path(tokens: &[TokenTree], at: usize) -> (Segments, usize) {
    let mut segments = Segments::new();
    let mut at = at;
    while let Some(TokenTree::Ident(word)) = tokens.get(at) {
        segments.push(word.to_string());
        at += 1;
        match (tokens.get(at), tokens.get(at + 1)) {
            (Some(one), Some(two)) if is(one, ':') && is(two, ':') => at += 2,
            _ => break,
        }
    }
    (segments, at)
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

/// Whether these tokens end with `pub`, or `pub(…)`.
fn is_public(tokens: &[TokenTree]) -> bool {
    let word = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Ident(word)) if word == "pub");
    match tokens.split_last() {
        Some((TokenTree::Group(_), rest)) => word(rest.last()),
        Some((last, _)) => word(Some(last)),
        None => false,
    }
}

/// The module of a file: `judge/mod.rs` and `judge.rs` are `judge`. `lib.rs` and `main.rs` are the root.
fn module_of(name: &str) -> Segments {
    let name = name.strip_suffix(".rs").unwrap_or(name);
    let mut segments: Segments = name.split('/').map(str::to_owned).collect();
    let last = segments.last().map(String::as_str);
    if last == Some("mod") || (segments.len() == 1 && matches!(last, Some("lib" | "main"))) {
        segments.pop();
    }
    segments
}

fn collect(directory: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path = entry.expect("a directory can be read to its end").path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.insert(name, text);
        }
    }
}
