//! No function is longer than 60 lines. No file is longer than 400 lines without a reason in the comment at its top.

use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Most lines of a function, from `fn` to the closing brace.
const FUNCTION: usize = 60;

/// Most lines of a file.
const FILE: usize = 400;

/// Begins the reason, in the `//!` comment of a longer file.
const REASON: &str = "Longer than 400 lines:";

/// The functions that are too long, and the file itself if the file is too long without a reason.
pub(crate) fn faults(name: &str, text: &str) -> Vec<String> {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut functions = Vec::new();
    collect(tokens, &mut functions);
    let long = functions.into_iter().filter(|function| function.lines > FUNCTION);
    let mut faults: Vec<String> = long
        .map(|Function { name: function, line, lines }| {
            format!("{name}:{line}: `{function}` has {lines} lines, more than {FUNCTION}")
        })
        .collect();
    let lines = text.lines().count();
    if lines > FILE && !has_reason(text) {
        faults.push(format!("{name} has {lines} lines, more than {FILE}, and no `//! {REASON} …` at its top"));
    }
    faults
}

/// Whether the comment at the top of the file gives a reason.
fn has_reason(text: &str) -> bool {
    let mut comment = text.lines().map_while(|line| line.strip_prefix("//!"));
    comment.any(|line| line.trim().strip_prefix(REASON).is_some_and(|reason| !reason.trim().is_empty()))
}

/// A function with a body.
struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// Finds the functions in `tokens`, at any depth.
fn collect(tokens: TokenStream, functions: &mut Vec<Function>) {
    let mut signature: Option<(String, usize)> = None;
    let mut after_fn = None;
    for token in tokens {
        match token {
            // A type such as `fn(u8)` has no name.
            TokenTree::Ident(name) if after_fn.is_some() => {
                signature = after_fn.take().map(|at| (name.to_string(), at))
            }
            TokenTree::Ident(word) if word == "fn" => after_fn = Some(word.span().start().line),
            TokenTree::Group(group) => {
                after_fn = None;
                if group.delimiter() == Delimiter::Brace
                    && let Some((name, line)) = signature.take()
                {
                    let lines = group.span_close().end().line + 1 - line;
                    functions.push(Function { name, line, lines });
                }
                collect(group.stream(), functions);
            }
            TokenTree::Punct(end) if end.as_char() == ';' => signature = None,
            _ => after_fn = None,
        }
    }
}

/// The Rust sources below a directory of the repository, as names and contents.
pub(crate) fn sources(directory: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let listed = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut sources = Vec::new();
    for entry in listed.flatten() {
        let (path, file) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let name = format!("{directory}/{file}");
        if path.is_dir() && file != "target" {
            sources.extend(self::sources(&name));
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            sources.push((name, text));
        }
    }
    sources.sort();
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function of this many lines.
    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}(f: fn(u8) -> u8) -> u8 {{\n{}}}\n", "    f(1);\n".repeat(lines - 2))
    }

    #[test]
    fn a_function_of_more_than_60_lines_is_named_wherever_it_is() {
        let nested = format!("mod inner {{\nimpl Thing {{\npub async {}}}\n}}\n", function("method", 61));
        let declared = "trait Likes { fn declared(&self); }\n";
        let text = [&function("fits", 60), declared, &function("long", 61), nested.as_str()].concat();
        let found = faults("a.rs", &text);
        assert_eq!(
            found,
            ["a.rs:62: `long` has 61 lines, more than 60", "a.rs:125: `method` has 61 lines, more than 60"]
        );
    }

    #[test]
    fn a_file_of_more_than_400_lines_needs_a_reason_at_its_top() {
        let text = |top: &str, lines: usize| format!("{top}\n{}", "const A: u8 = 1;\n".repeat(lines - 1));
        assert!(faults("a.rs", &text("//! A.", 400)).is_empty());
        assert!(faults("a.rs", &text("//! Longer than 400 lines: one table.", 401)).is_empty());
        for top in ["//! A.", "//! Longer than 400 lines: ", "// Longer than 400 lines: not the file's comment."] {
            let found = faults("a.rs", &text(top, 401));
            assert!(found.len() == 1 && found[0].starts_with("a.rs has 401 lines"), "{top}: {found:?}");
        }
    }
}
