//! Kubeconfig files, merged by kubectl's rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kube::config::{AuthInfo, Cluster, Context, Kubeconfig};
use serde::Serialize;

use super::environment::Environment;
use super::error::{Entry, Error, Place, Shadowed};

/// Variable with the list of kubeconfigs.
const VARIABLE: &str = "KUBECONFIG";

/// Several kubeconfigs as one. All paths in them are absolute.
#[derive(Clone)]
pub struct Kubeconfigs {
    files: Vec<PathBuf>,
    pub(super) merged: Kubeconfig,
    homes: BTreeMap<(Entry, String), PathBuf>,
    shadowed: Vec<Shadowed>,
    pub(super) environment: Environment,
}

/// What a context names.
#[derive(Clone)]
pub(super) struct Selected {
    pub(super) context: String,
    pub(super) namespace: String,
    pub(super) cluster_name: String,
    pub(super) cluster: Cluster,
    pub(super) cluster_file: PathBuf,
    /// `None` if the context names no user.
    pub(super) user_name: Option<String>,
    pub(super) user: AuthInfo,
    pub(super) user_file: PathBuf,
}

impl Kubeconfigs {
    /// Reads these files. With no file, reads those of `KUBECONFIG`, else `~/.kube/config`.
    ///
    /// A named file must exist. A file of the variable's list may be missing, and any file may be empty.
    ///
    /// # Errors
    /// [`Error::NoFile`], [`Error::Unreadable`].
    pub fn load(files: &[PathBuf]) -> Result<Self, Error> {
        let mut all = Self::none(Environment::of_process());
        if !files.is_empty() {
            files.iter().try_for_each(|file| all.add(file))?;
            return Ok(all);
        }
        let variable = std::env::var_os(VARIABLE).filter(|list| !list.is_empty());
        let home = std::env::home_dir();
        all.add_listed(variable.as_deref(), home.as_deref())?;
        Ok(all)
    }

    pub(super) fn none(environment: Environment) -> Self {
        let (files, homes, shadowed) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { files, merged: Kubeconfig::default(), homes, shadowed, environment }
    }

    /// Adds those files of the variable's list that exist, or the default file.
    pub(super) fn add_listed(&mut self, variable: Option<&std::ffi::OsStr>, home: Option<&Path>) -> Result<(), Error> {
        let named: Vec<PathBuf> = variable.map(std::env::split_paths).into_iter().flatten().collect();
        let named: Vec<PathBuf> = named.into_iter().filter(|file| !file.as_os_str().is_empty()).collect();
        let default = home.map(|home| home.join(".kube/config"));
        let (list, looked) = match (named.is_empty(), default) {
            (false, _) => {
                let names: Vec<String> = named.iter().map(|file| file.display().to_string()).collect();
                (named, format!("none of {VARIABLE}'s files exists ({})", names.join(", ")))
            }
            (true, Some(default)) => {
                let looked = format!("{VARIABLE} is not set, and {} does not exist", default.display());
                (vec![default], looked)
            }
            (true, None) => (Vec::new(), format!("{VARIABLE} is not set, and there is no home directory")),
        };
        list.iter().filter(|file| file.exists()).try_for_each(|file| self.add(file))?;
        if self.files.is_empty() { Err(Error::NoFile { looked }) } else { Ok(()) }
    }

    /// Adds one file. An entry whose name is taken has no effect.
    pub(super) fn add(&mut self, file: &Path) -> Result<(), Error> {
        let unreadable = |reason: String| Error::Unreadable { file: file.to_owned(), reason };
        let file = std::path::absolute(file).map_err(|error| unreadable(error.to_string()))?;
        let read = read(&file).map_err(unreadable)?;
        for one in read.clusters {
            if self.take(Entry::Cluster, &one.name, &file, &one, |all| find(&all.clusters, &one.name, |of| &of.name)) {
                self.merged.clusters.push(one);
            }
        }
        for one in read.auth_infos {
            if self.take(Entry::User, &one.name, &file, &one, |all| find(&all.auth_infos, &one.name, |of| &of.name)) {
                self.merged.auth_infos.push(one);
            }
        }
        for one in read.contexts {
            if self.take(Entry::Context, &one.name, &file, &one, |all| find(&all.contexts, &one.name, |of| &of.name)) {
                self.merged.contexts.push(one);
            }
        }
        // An empty text sets nothing: a later file may.
        let current = read.current_context.filter(|context| !context.is_empty());
        self.merged.current_context = self.merged.current_context.take().or(current);
        self.files.push(file);
        Ok(())
    }

    /// Whether the name is free. Remembers an entry that differs from the one that counts.
    fn take<T: Serialize>(
        &mut self,
        entry: Entry,
        name: &str,
        file: &Path,
        new: &T,
        old: impl FnOnce(&Kubeconfig) -> Option<&T>,
    ) -> bool {
        let Some(old) = old(&self.merged) else {
            self.homes.insert((entry, name.to_owned()), file.to_owned());
            return true;
        };
        let differs = serde_json::to_value(old).ok() != serde_json::to_value(new).ok();
        if differs && let Some(kept) = self.homes.get(&(entry, name.to_owned())).cloned() {
            self.shadowed.push(Shadowed { entry, name: name.to_owned(), kept, dropped: file.to_owned() });
        }
        false
    }

    /// The files, in order of precedence.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The names of all contexts, as written.
    pub fn contexts(&self) -> Vec<&str> {
        self.merged.contexts.iter().map(|context| context.name.as_str()).collect()
    }

    /// The current context, if a file sets one.
    pub fn current_context(&self) -> Option<&str> {
        self.merged.current_context.as_deref()
    }

    /// Entries that have no effect, because an earlier file defines the same name differently.
    pub fn shadowed(&self) -> &[Shadowed] {
        &self.shadowed
    }

    pub(super) fn home(&self, entry: Entry, name: &str) -> PathBuf {
        self.homes.get(&(entry, name.to_owned())).or(self.files.first()).cloned().unwrap_or_default()
    }

    /// What a context names. Names are compared verbatim.
    pub(super) fn select(&self, context: &str) -> Result<Selected, Error> {
        let found = find(&self.merged.contexts, context, |of| &of.name).and_then(|named| named.context.clone());
        let Some(Context { cluster, user, namespace, .. }) = found else {
            let known = self.contexts().into_iter().map(str::to_owned).collect();
            return Err(Error::NoContext { context: context.into(), known, files: self.files.clone() });
        };
        let dangling = |entry, name: &str| Error::Dangling {
            context: context.into(),
            file: self.home(Entry::Context, context),
            entry,
            name: name.into(),
            files: self.files.clone(),
        };
        let server = find(&self.merged.clusters, &cluster, |of| &of.name).and_then(|named| named.cluster.clone());
        let server = server.ok_or_else(|| dangling(Entry::Cluster, &cluster))?;
        let user_name = user.filter(|user| !user.is_empty());
        let user = match &user_name {
            None => AuthInfo::default(),
            Some(name) => {
                let named = find(&self.merged.auth_infos, name, |of| &of.name);
                named.ok_or_else(|| dangling(Entry::User, name))?.auth_info.clone().unwrap_or_default()
            }
        };
        Ok(Selected {
            context: context.into(),
            namespace: namespace.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into()),
            cluster_file: self.home(Entry::Cluster, &cluster),
            cluster_name: cluster,
            cluster: server,
            user_file: self.home(Entry::User, user_name.as_deref().unwrap_or_default()),
            user_name,
            user,
        })
    }
}

impl Selected {
    /// A field of the cluster.
    pub(super) fn of_cluster(&self, field: &'static str) -> Box<Place> {
        let (file, name) = (self.cluster_file.clone(), self.cluster_name.clone());
        Box::new(Place { file, entry: Entry::Cluster, name, field })
    }

    /// A field of the user.
    pub(super) fn of_user(&self, field: &'static str) -> Box<Place> {
        let (file, name) = (self.user_file.clone(), self.user_name.clone().unwrap_or_default());
        Box::new(Place { file, entry: Entry::User, name, field })
    }

    /// The error for a field.
    pub(super) fn wrong(&self, place: Box<Place>, reason: impl Into<String>) -> Error {
        Error::Field { context: self.context.clone(), place, reason: reason.into() }
    }

    /// The API server's URL as written.
    pub(super) fn server(&self) -> &str {
        self.cluster.server.as_deref().unwrap_or_default()
    }
}

fn find<'a, T>(all: &'a [T], name: &str, name_of: impl Fn(&T) -> &String) -> Option<&'a T> {
    all.iter().find(|one| name_of(one) == name)
}

/// Reads a file whose path is absolute. kube makes the paths in it absolute.
fn read(file: &Path) -> Result<Kubeconfig, String> {
    let empty = std::fs::read(file).is_ok_and(|bytes| bytes.iter().all(u8::is_ascii_whitespace));
    if empty {
        return Ok(Kubeconfig::default());
    }
    Kubeconfig::read_from(file).map_err(|error| match error {
        kube::config::KubeconfigError::ReadConfig(error, _) => error.to_string(),
        // The parser quotes the lines around the fault, and these may hold a key.
        kube::config::KubeconfigError::Parse(error) => {
            let text = error.to_string();
            format!("it is not a kubeconfig: {}", text.lines().next().unwrap_or_default())
        }
        other => other.to_string(),
    })
}
