//! What each test stands on: a host's directories of its own, and a look at what is left of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use launchpad_agent::execute::places::{Home, Places};
use launchpad_agent::execute::volume::door::Door;
use launchpad_agent::execute::volume::{Owner, Volumes, loops, mounts};
use launchpad_agent::observe::VolumeSight;
use launchpad_protocol::id::DeploymentId;
use launchpad_protocol::time::Moment;

pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const MIB: u64 = 1 << 20;

/// A volume that is quick to fill: one grain.
pub(crate) const SMALL: u64 = 128 * MIB;

/// A bot on an engine that remaps nothing.
pub(crate) const OWNER: Owner = Owner { uid: 1000, gid: 1001, offset_uid: 0, offset_gid: 0 };

/// How long a condition may take to come true on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A process in a mount namespace of its own holds every mount that was there when it began, also other
/// tests' volumes.
static APART: RwLock<()> = RwLock::new(());

/// A host of a test's own.
pub(crate) struct Ground {
    dir: tempfile::TempDir,
    data: PathBuf,
    _turn: Turn,
}

/// Beside other tests, or while there is none.
enum Turn {
    Beside { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

pub(crate) fn bot() -> DeploymentId {
    numbered(1)
}

pub(crate) fn numbered(n: u32) -> DeploymentId {
    format!("dep_{n:032x}").parse().expect("an id")
}

pub(crate) fn noon() -> Moment {
    Moment::from_micros(1_800_000_000_000_000)
}

impl Ground {
    /// On the machine's own disk.
    pub(crate) fn new() -> Self {
        Self::taking(Turn::Beside { _guard: APART.read().unwrap_or_else(PoisonError::into_inner) })
    }

    /// The same for a test with processes that are [`Alive::apart`].
    pub(crate) fn alone() -> Self {
        Self::taking(Turn::Alone { _guard: APART.write().unwrap_or_else(PoisonError::into_inner) })
    }

    fn taking(turn: Turn) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "volumes are mounted by root: run the tests as root");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data = dir.path().join("data");
        Self { dir, data, _turn: turn }
    }

    /// On a disk of its own, of that size and that filesystem, sparse.
    pub(crate) fn on_disk(bytes: u64, mkfs: &[&str]) -> Self {
        Self::new().with_disk("loop", bytes, mkfs).expect("a filesystem that this kernel mounts")
    }

    /// The same, mounted with those options; none where this kernel does not know them.
    pub(crate) fn with_disk(mut self, options: &str, bytes: u64, mkfs: &[&str]) -> Option<Self> {
        let (disk, host) = (self.path("disk"), self.path("host"));
        fs::File::create(&disk).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        fs::create_dir(&host).expect("a directory");
        run(mkfs[0], mkfs[1..].iter().map(AsRef::as_ref).chain([disk.as_path()]));
        let mounted = Command::new("mount").arg("-o").arg(options).args([&disk, &host]).output().expect("a program");
        self.data = host.join("data");
        mounted.status.success().then_some(self)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn places(&self) -> Places {
        Places::under(&self.data, &self.path("run"))
    }

    pub(crate) fn home(&self, deployment: DeploymentId) -> Home {
        self.places().volume(deployment)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.places().volume_data(bot())
    }

    /// An agent that starts, or starts again. There is no engine.
    pub(crate) async fn volumes(&self) -> Volumes {
        Volumes::open(&self.places(), &self.path("no docker.sock")).await.expect("opened")
    }

    pub(crate) async fn volumes_behind<D: Door>(&self, door: impl FnOnce(&Places) -> D) -> Volumes {
        let (places, engine) = (self.places(), self.path("no docker.sock"));
        let opened = Volumes::open_behind(&places, &engine, |places| std::sync::Arc::new(door(places))).await;
        opened.expect("opened")
    }

    /// A mounted volume of the bot.
    pub(crate) async fn with_volume(&self, bytes: u64) -> Volumes {
        let volumes = self.volumes().await;
        volumes.prepare(bot(), bytes, OWNER).await.expect("prepared");
        volumes
    }

    /// What is mounted from or below this ground, and what is attached, apart from its own disk.
    pub(crate) fn held(&self) -> Vec<String> {
        let root = self.dir.path();
        let mounted = mounts::own().expect("a mount table").into_iter().map(|mount| mount.point);
        let host = self.path("host");
        let mounted = mounted.filter(|point| point.starts_with(root) && *point != host);
        let attached = loops::attached().expect("devices").into_iter();
        let disk = self.path("disk");
        let attached = attached.filter(|device| device.file.starts_with(root) && device.file != disk);
        mounted
            .map(|point| format!("mounted {}", point.display()))
            .chain(attached.map(|device| format!("{} has {}", device.name, device.file.display())))
            .collect()
    }

    /// That nothing at all is left: no volume, nothing in the making, nothing in the trash, nothing mounted.
    pub(crate) async fn assert_nothing_is_left(&self, volumes: &Volumes) {
        assert_eq!(volumes.all().await.expect("a look"), BTreeMap::new());
        for directory in [self.places().making(), self.places().trash()] {
            let left: Vec<_> = fs::read_dir(&directory).expect("a directory").flatten().map(|e| e.path()).collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
        assert_eq!(self.held(), Vec::<String>::new());
    }
}

impl Drop for Ground {
    /// Whatever a test that failed has left.
    fn drop(&mut self) {
        let root = self.dir.path();
        for mount in mounts::own().unwrap_or_default().iter().rev().filter(|mount| mount.point.starts_with(root)) {
            let _ = nix::mount::umount2(&mount.point, nix::mount::MntFlags::MNT_DETACH);
        }
        for device in loops::attached().unwrap_or_default().iter().filter(|device| device.file.starts_with(root)) {
            let _ = Command::new("losetup").arg("-d").arg(device.node()).output();
        }
    }
}

/// The bot's volume as it is seen.
pub(crate) async fn sight(volumes: &Volumes) -> VolumeSight {
    volumes.all().await.expect("a look").remove(&bot()).expect("the bot's volume")
}

/// Bytes of the disk that a file has.
pub(crate) fn on_the_disk(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").blocks() * 512
}

/// Runs a program that must succeed, and gives what it wrote.
pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let output = Command::new(program).args(arguments).output().expect("a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A process that lives until it is dropped.
pub(crate) struct Alive(Child);

impl Alive {
    /// A shell in a mount namespace of its own ([`Ground::alone`]), which runs the script, then says so and
    /// waits.
    pub(crate) fn apart(propagation: &str, script: &str) -> Self {
        let script = format!("set -e; {script}\necho ready; exec sleep 600");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", propagation, "sh", "-c", &script]);
        Self::ready(&mut command)
    }

    /// A process that has said that it is ready.
    pub(crate) fn ready(command: &mut Command) -> Self {
        use std::io::BufRead as _;
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
        let mut said = String::new();
        std::io::BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("a line");
        let alive = Self(child);
        assert_eq!(said.trim(), "ready");
        alive
    }

    pub(crate) fn id(&self) -> i32 {
        self.0.id().try_into().expect("a process id")
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain for {what}");
}
