//! A throw-away Debian: this machine's own, seen through an overlay in memory, with processes of its own.
//!
//! dpkg, rpm, systemd-sysusers and the maintainer scripts in it are the real ones; `systemctl` and `docker` are stand-ins
//! that say what a story tells them and write down what they were asked, because the machine's own services are not to
//! hear of it. Nothing of it outlives the test, killed or not: its first process ends with our end of a pipe.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Makes the root, says which process is its first one, and waits for the end. `/mnt` is only a place that every Debian
/// has: what is mounted there is seen by nobody else.
const ENTER: &str = r#"
set -e
mount -t tmpfs -o mode=755 launchpad-test /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work launchpad-test /mnt/root
mount --rbind /dev /mnt/root/dev
# A machine that has been a host, or has run our tests, leaves nothing in a story.
rm -rf /mnt/root/etc/launchpad /mnt/root/var/lib/launchpad* /mnt/root/etc/systemd/system/*.wants/launchpad*
mkdir -p /mnt/root/upper-of-launchpad-test /mnt/root/run/systemd/system
mount --bind /mnt/upper /mnt/root/upper-of-launchpad-test
read -r pid rest </proc/self/stat
mount -t proc proc /mnt/root/proc
exec chroot /mnt/root sh -c 'echo "$1"; exec cat' sh "$pid"
"#;

/// Where the root shows all that differs from the machine: a directory that no machine has.
const UPPER: &str = "/upper-of-launchpad-test";

/// Answers `is-enabled` by the links that are there and `show` by a file, and writes down the rest. A story may hold it.
const SYSTEMCTL: &str = r#"#!/bin/sh
for word; do unit=$word; done
case $* in
*is-enabled*)
    for link in /etc/systemd/system/*.wants/"$unit"; do [ ! -L "$link" ] || exit 0; done
    exit 1
    ;;
*show*) cat "/run/stand-in/$unit" 2>/dev/null || echo 0 ;;
*) echo "$*" >>/run/stand-in/asked ;;
esac
if [ -p /run/stand-in/hold ]; then cat /run/stand-in/hold; fi
"#;

/// Lists the bots that a story has put into a file; without the file, Docker does not answer.
const DOCKER: &str = "#!/bin/sh\ncat /run/stand-in/bots\n";

/// The root, until it is dropped.
pub(crate) struct Root {
    first: Child,
    /// Of the first process, as this process sees it.
    pid: u32,
}

impl Root {
    /// A Debian in which nothing of ours is installed.
    pub(crate) fn new() -> Result<Self> {
        let mut first = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start unshare")?;
        let mut said = String::new();
        BufReader::new(first.stdout.take().context("its stdout")?).read_line(&mut said)?;
        let pid = said.trim().parse().context("no root: these tests need root, and a kernel with overlayfs")?;
        let root = Self { first, pid };
        // Nothing is written before it is certain that this is not the machine itself.
        ensure!(root.has(UPPER), "process {pid} is not in a root of ours");
        fs::create_dir(root.path("/run/stand-in"))?;
        root.program("/usr/bin/systemctl", SYSTEMCTL)?;
        root.program("/usr/bin/docker", DOCKER)?;
        root.write("/run/stand-in/bots", "")?;
        Ok(root)
    }

    /// Where this process sees a path of the root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Whether there is something, a link that leads nowhere too.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let place = self.path(path);
        fs::create_dir_all(place.parent().context("a file has a directory")?)?;
        // Not through a link of the machine's.
        let _ = fs::remove_file(&place);
        fs::write(&place, text).with_context(|| format!("write {path}"))
    }

    /// Reads a file.
    pub(crate) fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.path(path)).with_context(|| format!("read {path}"))
    }

    fn program(&self, path: &str, text: &str) -> Result<()> {
        self.write(path, text)?;
        Ok(fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755))?)
    }

    /// Puts a file of the machine's into the root.
    pub(crate) fn take_in(&self, file: &Path) -> Result<String> {
        let name = file.file_name().context("a file")?.to_string_lossy();
        let place = format!("/packages/{name}");
        fs::create_dir_all(self.path("/packages"))?;
        fs::copy(file, self.path(&place)).with_context(|| format!("copy {}", file.display()))?;
        Ok(place)
    }

    /// A command in the root, not started.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                format!("--target={}", self.pid),
                "--mount".into(),
                "--pid".into(),
                "--root".into(),
                "--wd".into(),
            ])
            .arg(program)
            .args(args)
            // Nobody else's docker, wherever the machine may have one.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C");
        command
    }

    /// Runs a command that succeeds, and gives what it said on stdout.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.command(program, args).output()?;
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        ensure!(status.success(), "{program} {args:?}: {status}\n{stdout}\n{stderr}");
        Ok(stdout.into_owned())
    }

    /// Starts something that runs on, as a service of that name, and gives its process as the root sees it.
    pub(crate) fn serve(&self, unit: &str, program: &str) -> Result<u32> {
        let script = format!("{program} infinity >/dev/null 2>&1 & echo $!");
        let pid: u32 = self.run("sh", &["-c", &script])?.trim().parse()?;
        self.write(&format!("/run/stand-in/{unit}"), &format!("{pid}\n"))?;
        Ok(pid)
    }

    /// Whether that process still runs.
    pub(crate) fn runs(&self, pid: u32) -> bool {
        self.has(&format!("/proc/{pid}/exe"))
    }

    /// What systemctl was asked since this was asked before.
    pub(crate) fn asked_of_systemd(&self) -> Result<Vec<String>> {
        let path = "/run/stand-in/asked";
        let asked = if self.has(path) { self.read(path)? } else { String::new() };
        self.write(path, "")?;
        Ok(asked.lines().map(str::to_owned).collect())
    }

    /// Everything with our name that is in the root and not on the machine.
    pub(crate) fn ours(&self) -> Result<Vec<String>> {
        let script = "cd \"$0\" && find . -path ./packages -prune -o -path ./run/stand-in -prune -o -path ./var/lib/dpkg -prune -o -path ./var/log -prune -o \
                      -path ./var/cache -prune -o -path \".$0\" -prune -o -iname '*launchpad*' ! -type c -print";
        let mut found: Vec<String> = self.run("sh", &["-c", script, UPPER])?.lines().map(str::to_owned).collect();
        found.sort();
        Ok(found)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Its first process reads until our end is closed; with it goes every other one, and then every mount.
        drop(self.first.stdin.take());
        let _ = self.first.wait();
    }
}
