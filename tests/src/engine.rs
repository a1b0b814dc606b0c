//! A private Docker engine: containerd and dockerd with roots, sockets and pid file of their own.
//!
//! Called by [`crate::lab`] for each host and by [`crate::images`] to build. containerd is a process apart, as
//! Debian runs it: a dockerd that owns its containerd cannot be killed and started again within a second. With
//! live-restore, containers outlive a killed dockerd; nothing in the laboratory relies on its not being killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::kernel;
use crate::process::{Process, Recipe, run};

/// Half a second each on a quiet machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Linux's limit for a socket's path is 108 bytes with the final zero.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Whose network dockerd may arrange.
#[derive(Debug, Clone, Copy)]
pub enum Network<'a> {
    /// It lives in this namespace and may do as it likes there.
    Host(&'a Path),
    /// It lives in the caller's namespace, which may be the machine's, and changes nothing there. For builds.
    None,
}

/// Whose user ids containers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// The host's.
    OfHost,
    /// Their own range: dockerd makes a user `dockremap` with one (`/etc/subuid`) where there is none.
    Remapped,
}

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    dir: PathBuf,
    /// Present as long as the engine lives; dockerd can be killed without it.
    containerd: Process,
    /// The daemon, for a test to kill and restart.
    dockerd: Process,
}

impl Engine {
    /// Starts an engine whose every file lies in `dir`.
    ///
    /// # Errors
    /// When a daemon ends early: the error repeats the end of its log.
    pub fn start(dir: &Path, network: Network<'_>, users: Users) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        anyhow::ensure!(
            socket(dir).as_os_str().len() <= SOCKET_PATH_MAX_BYTES,
            "{} is too long for a socket: use a shorter directory",
            socket(dir).display()
        );
        let namespace = match network {
            Network::Host(path) => Some(path),
            Network::None => None,
        };
        let mut containerd = containerd(dir)?.in_namespace(namespace).spawn()?;
        let containerd_socket = containerd_socket(dir);
        containerd.wait_ready(READY_WITHIN, || {
            UnixStream::connect(&containerd_socket).map(drop).map_err(|error| error.to_string())
        })?;
        // Our own: the machine's /etc/docker/daemon.json and ~/.docker are not for us.
        fs::write(dir.join("daemon.json"), daemon_config(dir, users)?).context("write dockerd's config")?;
        fs::create_dir_all(client_config(dir)).context("make the client's config folder")?;
        let mut engine = Self { dir: dir.to_owned(), containerd, dockerd: dockerd(dir, network).spawn()? };
        engine.wait_ready()?;
        Ok(engine)
    }

    /// dockerd's socket.
    pub fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// The environment that makes the `docker` command speak to this engine, and forget the user's own settings.
    pub fn client_environment(&self) -> [(&'static str, String); 2] {
        [
            ("DOCKER_HOST", format!("unix://{}", self.socket().display())),
            ("DOCKER_CONFIG", client_config(&self.dir).display().to_string()),
        ]
    }

    /// Runs the `docker` command against this engine and returns its standard output, trimmed.
    ///
    /// # Errors
    /// When the command fails: the error repeats what it wrote.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        let output = run(Command::new("docker").envs(self.client_environment()).args(arguments))?;
        Ok(output.trim().to_owned())
    }

    /// `docker inspect` of one object.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn inspect(&self, name: &str) -> Result<serde_json::Value> {
        let text = self.docker(&["inspect", name])?;
        let mut objects: Vec<serde_json::Value> = serde_json::from_str(&text).context("read docker inspect")?;
        objects.pop().with_context(|| format!("docker inspect {name} described nothing"))
    }

    /// Ids of the containers that run.
    ///
    /// # Errors
    /// When dockerd does not answer.
    pub fn running(&self) -> Result<Vec<String>> {
        Ok(self.docker(&["ps", "--quiet", "--no-trunc"])?.lines().map(str::to_owned).collect())
    }

    /// SIGKILL to dockerd; containerd and the containers go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill_dockerd(&mut self) -> Result<()> {
        self.dockerd.kill()
    }

    /// Starts a killed dockerd again, and waits until it answers.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn restart_dockerd(&mut self) -> Result<()> {
        self.dockerd.restart()?;
        self.wait_ready()
    }

    /// Removes every container and stops both daemons, in the order that leaves nothing behind.
    ///
    /// # Errors
    /// When dockerd does not answer or a daemon cannot be stopped.
    pub fn stop(&mut self) -> Result<()> {
        let all = self.docker(&["ps", "--all", "--quiet"])?;
        let mut parents = BTreeSet::from([cgroup_parent(&self.dir)]);
        if !all.is_empty() {
            let mut inspect = vec!["inspect", "--format", "{{.HostConfig.CgroupParent}}"];
            inspect.extend(all.lines());
            parents.extend(self.docker(&inspect)?.lines().map(str::to_owned));
            let mut command = vec!["rm", "--force", "--volumes"];
            command.extend(all.lines());
            self.docker(&command)?;
        }
        self.dockerd.stop()?;
        self.containerd.stop()?;
        // runc makes the groups above a container's and leaves them.
        parents.iter().for_each(|parent| kernel::remove_empty_cgroups(parent));
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let socket = self.socket();
        self.dockerd.wait_ready(READY_WITHIN, || ping(&socket).map_err(|error| error.to_string()))
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("docker.sock")
}

/// Where containers go that name no parent of their own.
fn cgroup_parent(dir: &Path) -> String {
    format!("/lab{}", dir.display().to_string().replace('/', "-"))
}

fn client_config(dir: &Path) -> PathBuf {
    dir.join("docker-client")
}

fn containerd_socket(dir: &Path) -> PathBuf {
    dir.join("containerd.sock")
}

fn containerd(dir: &Path) -> Result<Recipe> {
    let path = |name: &str| dir.join(name).display().to_string();
    let config = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\n\
         # Kubernetes' part: dockerd does not use it, and it wants the machine's CNI folders.\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = {:?}\n\
         # Otherwise it makes /opt/containerd.\n\
         [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
        path("containerd"),
        path("containerd-state"),
        path("containerd.sock"),
        path("containerd-opt"),
    );
    let file = dir.join("containerd.toml");
    fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
    let recipe = Recipe::new("containerd", "containerd", dir.join("containerd.log"));
    Ok(recipe.args(["--config".as_ref(), file.as_os_str()]))
}

/// dockerd's config file. Docker 20.10, Debian 12's, keeps its id in /etc/docker unless told otherwise by a name that
/// later versions refuse.
fn daemon_config(dir: &Path, users: Users) -> Result<String> {
    let version = run(Command::new("dockerd").arg("--version"))?;
    let mut config = serde_json::Map::new();
    if version.starts_with("Docker version 20.") {
        config.insert("deprecated-key-path".to_owned(), serde_json::json!(dir.join("key.json")));
    }
    if users == Users::Remapped {
        config.insert("userns-remap".to_owned(), serde_json::json!("default"));
    }
    Ok(serde_json::Value::Object(config).to_string())
}

fn dockerd(dir: &Path, network: Network<'_>) -> Recipe {
    let flag = |name: &str, value: &Path| format!("--{name}={}", value.display());
    let mut flags = vec![
        flag("containerd", &containerd_socket(dir)),
        flag("data-root", &dir.join("data")),
        flag("exec-root", &dir.join("exec")),
        flag("pidfile", &dir.join("docker.pid")),
        format!("--host=unix://{}", socket(dir).display()),
        flag("config-file", &dir.join("daemon.json")),
        "--live-restore".to_owned(),
        // Apart from the machine's own containers.
        format!("--cgroup-parent={}", cgroup_parent(dir)),
        // No docker0: the agent makes the networks that it needs.
        "--bridge=none".to_owned(),
        // The laboratory's registry speaks plain HTTP.
        "--insecure-registry=198.18.0.0/15".to_owned(),
    ];
    let namespace = match network {
        Network::Host(path) => Some(path),
        Network::None => {
            flags.extend(["--iptables=false", "--ip-forward=false", "--ip-masq=false"].map(str::to_owned));
            None
        }
    };
    Recipe::new("dockerd", "dockerd", dir.join("dockerd.log")).args(flags).in_namespace(namespace)
}

/// Docker's own health check, asked without a client.
fn ping(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(std::io::Error::other(answer.lines().next().unwrap_or("no answer").to_owned()))
}
