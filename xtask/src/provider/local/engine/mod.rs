//! The container engine: loads images, starts nodes (through testcontainers), and runs commands in nodes.

mod exec;
mod images;
mod networks;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use meshproof::{Seen, eventually};
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::{
    ContainerInspectResponse, HostConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptions,
};
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{CgroupnsMode, IntoContainerPort, Mount, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerRequest, GenericImage, ImageExt, ReuseDirective};

pub(crate) use exec::Attached;

use super::capabilities;
use crate::progress;

/// Label on every container, volume and network of a testbed. Removal selects by this label.
pub(crate) const LABEL: &str = "meshproof.dev/testbed";

/// Time limit for an existing container to run again.
const START_BOUND: Duration = Duration::from_secs(30);

/// A connection to the engine.
#[derive(Clone)]
pub(crate) struct Engine {
    docker: Docker,
}

/// Parameters of a new container.
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) entrypoint: String,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) network: Option<String>,
    /// Container ports to publish on the loopback interface, each on a port that the engine chooses.
    pub(crate) ports: Vec<u16>,
    pub(crate) mounts: Vec<Mount>,
    /// Line that the container prints when ready.
    pub(crate) ready_line: Option<&'static str>,
    /// Whether the engine restarts the container after its exit or after a restart of the machine.
    pub(crate) restart: bool,
}

impl Engine {
    /// Connects to the engine and checks that the engine answers.
    ///
    /// # Errors
    /// Fails if no engine answers.
    pub(crate) async fn connect() -> Result<Self> {
        let docker = docker_client_instance().await.context("no container engine: cannot make a client for it")?;
        docker.ping().await.context("the container engine does not answer")?;
        Ok(Self { docker })
    }

    /// The engine's own client, for requests that only one command needs.
    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(crate) async fn version(&self) -> Result<String> {
        let version = self.docker.version().await?;
        Ok(version.version.unwrap_or_else(|| "of unknown version".into()))
    }

    pub(crate) async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>> {
        match self.docker.inspect_container(name, None).await {
            Ok(details) => Ok(Some(details)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot inspect container {name}")),
        }
    }

    /// Names of all containers with the label [`LABEL`].
    pub(crate) async fn containers(&self) -> Result<Vec<String>> {
        self.containers_with(HashMap::from([("label", vec![LABEL])])).await
    }

    /// Names of all containers of the network `name`, running or stopped.
    pub(crate) async fn containers_on(&self, name: &str) -> Result<Vec<String>> {
        self.containers_with(HashMap::from([("label", vec![LABEL]), ("network", vec![name])])).await
    }

    async fn containers_with(&self, filters: HashMap<&str, Vec<&str>>) -> Result<Vec<String>> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = self.docker.list_containers(Some(options)).await?;
        let name = |names: Vec<String>| names.into_iter().next().map(|name| name.trim_start_matches('/').to_owned());
        Ok(containers.into_iter().filter_map(|container| name(container.names?)).collect())
    }

    /// Starts a container with every capability that the engine has. The container keeps running.
    pub(crate) async fn start(&self, container: &Container) -> Result<()> {
        progress::count_command();
        let mut capabilities = capabilities::of_engine();
        loop {
            let Err(error) = self.start_with(container, capabilities.as_deref()).await else { return Ok(()) };
            let message = format!("{error:#}");
            match (&mut capabilities, capabilities::unknown(&message)) {
                (Some(names), Some(unknown)) if names.iter().any(|name| name == unknown) => {
                    tracing::debug!(capability = unknown, "the engine does not know it: starting without");
                    names.retain(|name| name != unknown);
                }
                _ => return Err(error),
            }
        }
    }

    async fn start_with(&self, container: &Container, capabilities: Option<&[String]>) -> Result<()> {
        let (name, tag) = container.image.rsplit_once(':').context("an image reference without a tag")?;
        let mut image = GenericImage::new(name, tag).with_entrypoint(&container.entrypoint);
        for port in &container.ports {
            image = image.with_exposed_port(port.tcp());
        }
        if let Some(line) = container.ready_line {
            image = image.with_wait_for(WaitFor::message_on_stdout(line));
        }
        let mut request: ContainerRequest<GenericImage> = image
            .with_cmd(container.command.iter().cloned())
            .with_container_name(&container.name)
            .with_hostname(&container.name)
            .with_labels(container.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())))
            .with_cgroupns_mode(CgroupnsMode::Private)
            .with_security_opt("seccomp=unconfined")
            .with_security_opt("apparmor=unconfined")
            .with_startup_timeout(Duration::from_secs(60))
            .with_reuse(ReuseDirective::Always);
        for (key, value) in &container.environment {
            request = request.with_env_var(key, value);
        }
        for mount in &container.mounts {
            request = request.with_mount(mount.clone());
        }
        if let Some(network) = &container.network {
            request = request.with_network(network);
        }
        request = match capabilities {
            Some(names) => names.iter().fold(request, |request, name| request.with_cap_add(name)),
            None => request.with_privileged(true),
        };
        let (ports, restart) = (container.ports.clone(), container.restart);
        request = request.with_host_config_modifier(move |host| configure(host, &ports, restart));
        let handle = request.start().await.with_context(|| format!("cannot start container {}", container.name))?;
        // Dropping the handle could remove the container, but the container must outlive this process.
        std::mem::forget(handle);
        Ok(())
    }

    /// Starts an existing container unless it runs, and waits until it does. An engine that was started again restarts
    /// containers by itself, and answers before it has done so.
    pub(crate) async fn start_again(&self, name: &str) -> Result<()> {
        if self.runs(name).await? {
            return Ok(());
        }
        progress::count_command();
        self.docker
            .start_container(name, None)
            .await
            .with_context(|| format!("cannot start container {name} again"))?;
        let started = eventually(format!("container {name} to run"), START_BOUND, async || -> Result<Seen<()>> {
            Ok(if self.runs(name).await? { Seen::Yes(()) } else { Seen::NotYet("it does not".into()) })
        });
        Ok(started.await?)
    }

    /// Whether a container runs. The engine says so of one between two runs as well, but no command can be run in it.
    pub(crate) async fn runs(&self, name: &str) -> Result<bool> {
        let state = self.inspect(name).await?.and_then(|details| details.state);
        Ok(state.is_some_and(|state| state.running == Some(true) && state.restarting != Some(true)))
    }

    /// Pauses a container with all its processes. The container stays paused until it is resumed.
    pub(crate) async fn pause(&self, name: &str) -> Result<()> {
        if self.is_paused(name).await? {
            return Ok(());
        }
        self.docker.pause_container(name).await.with_context(|| format!("cannot pause container {name}"))
    }

    /// Resumes every paused container, including containers that an earlier command left paused.
    pub(crate) async fn resume_all(&self) -> Result<()> {
        for name in self.containers().await? {
            if self.is_paused(&name).await? {
                let resumed = self.docker.unpause_container(&name).await;
                resumed.with_context(|| format!("cannot resume container {name}"))?;
            }
        }
        Ok(())
    }

    async fn is_paused(&self, name: &str) -> Result<bool> {
        Ok(self.inspect(name).await?.and_then(|details| details.state?.paused).unwrap_or(false))
    }

    /// Time of the container's last start, in seconds after the epoch.
    pub(crate) async fn started_at(&self, name: &str) -> Result<i64> {
        let details = self.inspect(name).await?.with_context(|| format!("container {name} is gone"))?;
        let started = details.state.and_then(|state| state.started_at).unwrap_or_default();
        let time = time::OffsetDateTime::parse(&started, &time::format_description::well_known::Rfc3339);
        Ok(time.with_context(|| format!("container {name} was never started"))?.unix_timestamp())
    }

    /// Waits for a container to end, and returns its exit code.
    pub(crate) async fn wait(&self, name: &str) -> Result<i64> {
        let mut answers = std::pin::pin!(self.docker.wait_container(name, None::<WaitContainerOptions>));
        match answers.next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            Some(Err(testcontainers::bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(error).with_context(|| format!("cannot wait for container {name}")),
            None => bail!("the engine no longer reports on container {name}"),
        }
    }

    /// Removes a container, running or stopped, with its anonymous volumes. Succeeds if the container does not exist.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(name, Some(options)).await {
            Err(error) if !is_missing(&error) => Err(error).with_context(|| format!("cannot remove container {name}")),
            _ => Ok(()),
        }
    }

    /// The port on this machine's loopback interface that publishes `port` of the container.
    pub(crate) async fn published(&self, name: &str, port: u16) -> Result<u16> {
        let details = self.inspect(name).await?.with_context(|| format!("container {name} is gone"))?;
        let ports = details.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let bindings = ports.get(&format!("{port}/tcp")).cloned().flatten().unwrap_or_default();
        bindings
            .iter()
            .find_map(|binding| binding.host_port.as_ref()?.parse().ok())
            .with_context(|| format!("the engine publishes no port for {port} of {name}; is it running?"))
    }
}

/// Sets options that testcontainers' request does not offer.
fn configure(host: &mut HostConfig, ports: &[u16], restart: bool) {
    // Unmask the paths that an unprivileged container may not see (`systempaths=unconfined` on the command line).
    host.masked_paths = Some(Vec::new());
    host.readonly_paths = Some(Vec::new());
    host.device_cgroup_rules = Some(vec!["a *:* rwm".into()]);
    host.tmpfs = Some(HashMap::from([("/run".to_owned(), "exec".to_owned()), ("/tmp".to_owned(), String::new())]));
    host.publish_all_ports = Some(false);
    let binding = || vec![PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(String::new()) }];
    host.port_bindings = Some(ports.iter().map(|port| (format!("{port}/tcp"), Some(binding()))).collect());
    if restart {
        host.restart_policy =
            Some(RestartPolicy { name: Some(RestartPolicyNameEnum::UNLESS_STOPPED), maximum_retry_count: None });
    }
}

fn is_missing(error: &testcontainers::bollard::errors::Error) -> bool {
    matches!(error, testcontainers::bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}
