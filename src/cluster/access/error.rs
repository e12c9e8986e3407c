//! Errors of access to a cluster. Each names the context, the file and the field to change.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A kind of entry in a kubeconfig.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// An API server.
    Cluster,
    /// Credentials.
    User,
    /// A cluster with a user.
    Context,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::User => "user",
            Self::Context => "context",
        })
    }
}

/// A field of a kubeconfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The kind of the entry.
    pub entry: Entry,
    /// The entry's name.
    pub name: String,
    /// The field.
    pub field: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of {} `{}` in {}", self.field, self.entry, self.name, self.file.display())
    }
}

/// An entry that has no effect, because an earlier file has another entry with the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadowed {
    /// The kind of the entry.
    pub entry: Entry,
    /// The entry's name.
    pub name: String,
    /// The file whose entry counts.
    pub kept: PathBuf,
    /// The file whose entry has no effect.
    pub dropped: PathBuf,
}

impl fmt::Display for Shadowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entry, name, kept, dropped } = self;
        let (kept, dropped) = (kept.display(), dropped.display());
        write!(
            f,
            "{entry} `{name}` is defined in {kept} and again in {dropped}; the first one counts: rename one of them"
        )
    }
}

/// Why a cluster cannot be reached by the given kubeconfigs.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No kubeconfig is named, and there is none at the default place.
    #[error("no kubeconfig: {looked}; name one by `--kubeconfig` or KUBECONFIG")]
    NoFile {
        /// Where it was looked for.
        looked: String,
    },
    /// A kubeconfig cannot be read.
    #[error("kubeconfig {} cannot be used: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No file has the context.
    #[error("there is no context `{context}` in {}: {}", list(files), known_contexts(known))]
    NoContext {
        /// The requested context.
        context: String,
        /// The contexts of all files.
        known: Vec<String>,
        /// The files.
        files: Vec<PathBuf>,
    },
    /// A context names a cluster or a user that no file has.
    #[error("context `{context}` ({}) names {entry} `{name}`, and no kubeconfig has it: searched {}", file.display(), list(files))]
    Dangling {
        /// The context.
        context: String,
        /// The context's file.
        file: PathBuf,
        /// What is missing.
        entry: Entry,
        /// Its name.
        name: String,
        /// The searched files.
        files: Vec<PathBuf>,
    },
    /// A field is missing or wrong.
    #[error("context `{context}`: {place}: {reason}")]
    Field {
        /// The context.
        context: String,
        /// The field.
        place: Box<Place>,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// The credential plugin is not installed.
    #[error("context `{context}`: the credential plugin `{command}` ({place}) is not installed: {looked}{}", hinted(hint.as_deref()))]
    NoPlugin {
        /// The context.
        context: String,
        /// The field.
        place: Box<Place>,
        /// The command.
        command: String,
        /// Where it was looked for.
        looked: String,
        /// The kubeconfig's hint on how to install it.
        hint: Option<String>,
    },
    /// The credential plugin gave no credentials.
    #[error("context `{context}`: the credential plugin `{command}` ({place}) gave no credentials: {reason}")]
    Plugin {
        /// The context.
        context: String,
        /// The field.
        place: Box<Place>,
        /// The command with its arguments.
        command: String,
        /// What happened, with the plugin's own words.
        reason: String,
    },
    /// The proxy cannot be used, or does not let the connection through.
    #[error("context `{context}`: {server} is not reached through the proxy {proxy}: {reason}")]
    Proxy {
        /// The context.
        context: String,
        /// The API server's URL.
        server: String,
        /// The proxy's URL without credentials, and who chose it.
        proxy: String,
        /// What happened.
        reason: String,
    },
    /// TLS with the API server failed.
    #[error("context `{context}`: no TLS with {server}{via}: {reason}")]
    Tls {
        /// The context.
        context: String,
        /// The API server's URL.
        server: String,
        /// The proxy, if there is one.
        via: String,
        /// What happened, and the field to change.
        reason: String,
    },
    /// The API server does not know the credentials.
    #[error("context `{context}`: {server} refuses the credentials of {user} (401): {reason}")]
    Unauthorized {
        /// The context.
        context: String,
        /// The API server's URL.
        server: String,
        /// The user and its file.
        user: String,
        /// The likely cause.
        reason: String,
    },
    /// The API server cannot be reached.
    #[error("context `{context}`: no API server answers at {server}{via}: {reason}")]
    Unreachable {
        /// The context.
        context: String,
        /// The API server's URL.
        server: String,
        /// The proxy, if there is one.
        via: String,
        /// What happened.
        reason: String,
    },
    /// The API server answers that it is starting or overloaded.
    #[error("context `{context}`: {server} was not ready within {bound:?}: {reason}")]
    Busy {
        /// The context.
        context: String,
        /// The API server's URL.
        server: String,
        /// How long it was asked.
        bound: Duration,
        /// Its last answer.
        reason: String,
    },
}

fn list(files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if files.is_empty() { "any kubeconfig".into() } else { files.join(", ") }
}

fn known_contexts(known: &[String]) -> String {
    if known.is_empty() {
        return "no context at all is defined".into();
    }
    let known: Vec<String> = known.iter().map(|context| format!("`{context}`")).collect();
    format!("known are {}", known.join(", "))
}

fn hinted(hint: Option<&str>) -> String {
    match hint.map(str::trim).filter(|hint| !hint.is_empty()) {
        Some(hint) => format!("; the kubeconfig says: {hint}"),
        None => "; install it, or use a context without it".into(),
    }
}
