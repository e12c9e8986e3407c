//! Credential plugins: programs that print credentials.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::config::{ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use x509_parser::prelude::Pem;

use super::error::Error;
use super::files::Selected;

/// Time limit of a plugin that asks nobody.
const BOUND: Duration = Duration::from_secs(60);

/// Time limit of a plugin that may ask the user, for example to sign in with a browser.
const INTERACTIVE_BOUND: Duration = Duration::from_secs(300);

/// Most characters of a plugin's own words in an error.
const MOST_WORDS: usize = 1000;

/// A credential plugin whose command exists.
#[derive(Clone)]
pub(super) struct Plugin {
    of: Selected,
    exec: ExecConfig,
    command: PathBuf,
    interactive: bool,
    information: String,
}

/// A plugin's answer.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// A bearer token.
    pub(super) token: Option<String>,
    /// A client certificate with its key.
    pub(super) identity: Option<Identity>,
    /// When the credentials end. `None` if nothing says so.
    pub(super) until: Option<Timestamp>,
}

/// A client certificate with its key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

#[derive(Deserialize)]
struct Answer {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<String>,
}

impl Plugin {
    /// The plugin of a context's user, if it has one. Finds its command, and does not run it.
    ///
    /// # Errors
    /// [`Error::NoPlugin`]. [`Error::Field`]: there is no command, or the plugin needs a terminal and there is none.
    pub(super) fn of(of: &Selected) -> Result<Option<Self>, Error> {
        let Some(exec) = of.user.exec.clone() else { return Ok(None) };
        let command = exec.command.as_deref().filter(|command| !command.is_empty());
        let command = command.ok_or_else(|| of.wrong(of.of_user("exec.command"), "it is missing"))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let command = find(command, &path).map_err(|looked| Error::NoPlugin {
            context: of.context.clone(),
            place: of.of_user("exec.command"),
            command: command.into(),
            looked,
            hint: exec.install_hint.clone(),
        })?;
        let terminal = std::io::stdin().is_terminal();
        let interactive = match exec.interactive_mode {
            Some(ExecInteractiveMode::Never) => false,
            Some(ExecInteractiveMode::Always) if !terminal => {
                let reason = "the plugin always asks the user, and standard input is not a terminal here";
                return Err(of.wrong(of.of_user("exec.interactiveMode"), reason));
            }
            _ => terminal,
        };
        let information = information(of, &exec, interactive)?;
        Ok(Some(Self { of: of.clone(), exec, command, interactive, information }))
    }

    /// Runs the plugin.
    ///
    /// # Errors
    /// [`Error::Plugin`].
    pub(super) async fn run(&self) -> Result<Credentials, Error> {
        let bound = if self.interactive { INTERACTIVE_BOUND } else { BOUND };
        let ran = tokio::time::timeout(bound, self.output()).await;
        let output = ran.unwrap_or_else(|_| Err(format!("it did not end within {bound:?}")));
        output.and_then(|output| credentials(&output)).map_err(|reason| self.failed(reason))
    }

    fn failed(&self, reason: String) -> Error {
        let arguments = self.exec.args.iter().flatten().map(String::as_str);
        let words: Vec<&str> = self.exec.command.as_deref().into_iter().chain(arguments).collect();
        Error::Plugin {
            context: self.of.context.clone(),
            place: self.of.of_user("exec"),
            command: words.join(" "),
            reason,
        }
    }

    /// The plugin's standard output.
    async fn output(&self) -> Result<Vec<u8>, String> {
        let mut command = tokio::process::Command::new(&self.command);
        command.args(self.exec.args.iter().flatten()).kill_on_drop(true);
        for variable in self.exec.env.iter().flatten() {
            if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
                command.env(name, value);
            }
        }
        command.env("KUBERNETES_EXEC_INFO", &self.information);
        command.stdin(if self.interactive { Stdio::inherit() } else { Stdio::null() });
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (output, words, ended) = tokio::join!(all(stdout, false), all(stderr, self.interactive), child.wait());
        let ended = ended.map_err(|error| error.to_string())?;
        let said = said(&words);
        if !ended.success() {
            return Err(format!("it ended with {ended}{said}"));
        }
        if output.iter().all(u8::is_ascii_whitespace) {
            return Err(format!("it printed nothing on standard output{said}"));
        }
        Ok(output)
    }
}

/// The text of `KUBERNETES_EXEC_INFO`.
fn information(of: &Selected, exec: &ExecConfig, interactive: bool) -> Result<String, Error> {
    let mut spec = json!({ "interactive": interactive });
    if exec.provide_cluster_info {
        let cluster = ExecAuthCluster::try_from(&of.cluster)
            .map_err(|error| of.wrong(of.of_cluster("certificate-authority"), error.to_string()))?;
        spec["cluster"] = json!(cluster);
    }
    Ok(json!({"kind": "ExecCredential", "apiVersion": exec.api_version, "spec": spec}).to_string())
}

/// The file of a command. A command with a separator is a path; any other is looked up in `path`.
fn find(command: &str, path: &std::ffi::OsStr) -> Result<PathBuf, String> {
    if command.contains(std::path::MAIN_SEPARATOR) {
        let file = PathBuf::from(command);
        return match std::fs::metadata(&file) {
            Ok(_) if is_program(&file) => Ok(file),
            Ok(_) => Err(format!("{} is not a program", file.display())),
            Err(_) => Err(format!("there is no file {}", file.display())),
        };
    }
    let mut found = std::env::split_paths(path).map(|directory| directory.join(command));
    found.find(|file| is_program(file)).ok_or_else(|| format!("it is not in PATH ({})", Path::new(path).display()))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Reads a stream to its end. What the user must see is also shown at once.
async fn all(stream: Option<impl AsyncRead + Unpin>, show: bool) -> Vec<u8> {
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    let Some(mut stream) = stream else { return text };
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        text.extend_from_slice(&part[..count]);
        if show {
            // A closed standard error is no reason to fail.
            let _ = std::io::stderr().write_all(&part[..count]);
        }
    }
    text
}

/// The end of the plugin's own words, for an error.
fn said(words: &[u8]) -> String {
    let words = String::from_utf8_lossy(words);
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines.join(" | ");
    if words.is_empty() {
        return " and said nothing".into();
    }
    let skipped = words.chars().count().saturating_sub(MOST_WORDS);
    let end: String = words.chars().skip(skipped).collect();
    format!("; it said: {}{end}", if skipped > 0 { "…" } else { "" })
}

/// The credentials in a plugin's output. An error does not quote the output, which may hold a token.
fn credentials(output: &[u8]) -> Result<Credentials, String> {
    let text = std::str::from_utf8(output).map_err(|_| "its output is not text")?;
    // Plugins may print YAML, and JSON is YAML.
    let answer: Answer = serde_saphyr::from_str(text)
        .map_err(|_| format!("its output ({} bytes) is not an ExecCredential", output.len()))?;
    let status = answer.status.ok_or("its ExecCredential has no status")?;
    let until = status.expiration_timestamp.as_deref().filter(|time| !time.is_empty());
    let until = until.map(|time| {
        time.parse::<Timestamp>().map_err(|error| format!("its expirationTimestamp `{time}` is not a time: {error}"))
    });
    let mut until = until.transpose()?;
    let identity = match (status.client_certificate_data, status.client_key_data) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        (None, None) => None,
        _ => return Err("it printed only one of clientCertificateData and clientKeyData".into()),
    };
    if let Some(identity) = &identity {
        let ends = Pem::iter_from_buffer(identity.certificate.as_bytes()).find_map(|block| {
            let ends = block.ok()?.parse_x509().ok()?.validity().not_after.timestamp();
            Timestamp::from_second(ends).ok()
        });
        let ends = ends.ok_or("its clientCertificateData holds no certificate in PEM")?;
        until = Some(until.map_or(ends, |until| until.min(ends)));
    }
    let token = status.token.filter(|token| !token.is_empty());
    if token.is_none() && identity.is_none() {
        return Err("its answer has neither a token nor a client certificate".into());
    }
    Ok(Credentials { token, identity, until })
}
