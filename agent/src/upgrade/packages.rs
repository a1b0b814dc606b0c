//! The package manager, apt or dnf, behind a few orders; and the shelf on which package files stay.
//!
//! ```text
//!   shelf: DATA_DIR/packages    what an admin put there, what was downloaded, and what this host came from
//!              │ not there
//!              ▼
//!   apt-get download            from the repository that the host's admin configured
//!   dnf install --downloadonly
//! ```
//! What a program is told is a list made by a pure function, and tested as such. A package is installed with the upper half
//! (apt-get, dnf), which may bring what it newly needs; again, after an interruption, or back, with the lower half alone
//! (dpkg, rpm), which asks no repository and takes up what it had left half-done.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use launchpad_protocol::reason::Reason;
use launchpad_protocol::version::Version;

use super::PACKAGE;

/// Under the data directory.
const SHELF: &str = "packages";
/// On the shelf, empty but during a download: what a program names itself is known only when it is there.
const INCOMING: &str = "incoming";
/// Seconds that apt-get waits for whoever else installs something, such as unattended-upgrades.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";
/// Characters of a program's complaint that are told on.
const COMPLAINT_MAX_CHARS: usize = 600;

/// Which package manager a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian's: apt-get and dpkg.
    Debian,
    /// RPM's: dnf and rpm.
    Rpm,
}

/// A program and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order(Vec<String>);

impl Order {
    fn of<const N: usize>(words: [&str; N]) -> Self {
        Self(words.map(str::to_owned).to_vec())
    }
}

impl Family {
    /// The end of a package file's name.
    const fn ending(self) -> &'static str {
        match self {
            Self::Debian => ".deb",
            Self::Rpm => ".rpm",
        }
    }

    /// What stands between the package's name and its version in a file's name.
    const fn joint(self) -> char {
        match self {
            Self::Debian => '_',
            Self::Rpm => '-',
        }
    }

    /// Says which version is installed.
    fn installed(self) -> Order {
        match self {
            Self::Debian => Order::of(["dpkg-query", "--show", "--showformat=${Version}", PACKAGE]),
            Self::Rpm => Order::of(["rpm", "--query", "--queryformat", "%{VERSION}-%{RELEASE}", PACKAGE]),
        }
    }

    /// Says what a file is: our package's name and a version.
    fn content(self, file: &str) -> Order {
        match self {
            Self::Debian => Order::of(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", file]),
            Self::Rpm => {
                Order::of(["rpm", "--query", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}", "--package", file])
            }
        }
    }

    /// Brings a version into the working directory, or into `into`: one order after the other, until one succeeds.
    fn download(self, version: &str, into: &str) -> Vec<Order> {
        let wanted = match self {
            Self::Debian => format!("{PACKAGE}={version}"),
            Self::Rpm => format!("{PACKAGE}-{version}"),
        };
        match self {
            Self::Debian => {
                let download =
                    Order::of(["apt-get", "--yes", "--option", "APT::Sandbox::User=root", "download", &wanted]);
                vec![download.clone(), Order::of(["apt-get", "--yes", "--option", LOCK_WAIT, "update"]), download]
            }
            // dnf takes an installed version for nothing to do, unless it is asked for again.
            Self::Rpm => vec![
                Order::of([
                    "dnf",
                    "--assumeyes",
                    "--refresh",
                    "install",
                    "--downloadonly",
                    "--downloaddir",
                    into,
                    &wanted,
                ]),
                Order::of(["dnf", "--assumeyes", "reinstall", "--downloadonly", "--downloaddir", into, &wanted]),
                Order::of(["dnf", "--assumeyes", "downgrade", "--downloadonly", "--downloaddir", into, &wanted]),
            ],
        }
    }

    /// Installs a file.
    fn install(self, file: &str, bare: bool) -> Order {
        match (self, bare) {
            (Self::Debian, false) => Order::of([
                "apt-get",
                "--yes",
                "--allow-downgrades",
                "--no-install-recommends",
                "--option",
                "Dpkg::Options::=--force-confold",
                "--option",
                LOCK_WAIT,
                "install",
                file,
            ]),
            (Self::Debian, true) => Order::of(["dpkg", "--force-confold", "--install", file]),
            (Self::Rpm, false) => {
                Order::of(["dnf", "--assumeyes", "--setopt=install_weak_deps=False", "install", file])
            }
            (Self::Rpm, true) => Order::of(["rpm", "--upgrade", "--oldpackage", "--replacepkgs", file]),
        }
    }
}

/// The shelf of package files.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
}

/// The package manager and the shelf.
#[derive(Debug)]
pub struct Packages {
    family: Family,
    shelf: Shelf,
}

impl Packages {
    /// The package manager that has installed us.
    ///
    /// # Errors
    /// When none says so: then this program was put here by hand, and is replaced by hand.
    pub fn find(data_dir: &Path) -> Result<Self, Reason> {
        let family = [Family::Debian, Family::Rpm].into_iter().find(|family| tell(&family.installed(), None).is_ok());
        let family = family.ok_or_else(|| {
            Reason::new("agent-not-packaged", format!("no package manager of this host knows {PACKAGE}"))
                .because("it was not installed from a deb or an rpm")
                .mend("install the package once by hand")
        })?;
        Ok(Self { family, shelf: Shelf { folder: data_dir.join(SHELF) } })
    }

    /// Has the package of a version on the shelf.
    ///
    /// # Errors
    /// The package manager's own words.
    pub fn fetch(&self, version: &Version) -> Result<(), Reason> {
        if self.on_shelf(version)?.is_some() {
            return Ok(());
        }
        let incoming = self.shelf.folder.join(INCOMING);
        self.empty(&incoming)?;
        let words = self.words_for(version);
        let mut complaint = None;
        for order in self.family.download(&words, &incoming.display().to_string()) {
            // `update` alone brings nothing, and its failure may not matter.
            let told = tell(&order, Some(&incoming));
            if let Some(file) = self.files(&incoming)?.pop() {
                let lasting = self.shelf.folder.join(file.file_name().unwrap_or_default());
                fs::rename(&file, &lasting).map_err(|error| unusable(&lasting, &error))?;
                break;
            }
            complaint = told.err().or(complaint);
        }
        if self.on_shelf(version)?.is_some() {
            return Ok(());
        }
        let missing =
            Reason::new("package-not-found", format!("there is no package of {PACKAGE} {version} for this host"));
        let missing = match complaint {
            Some(complaint) => missing.because(complaint),
            None => missing,
        };
        Err(missing.mend(format!(
            "configure a repository that has it, or put its file into {}",
            self.shelf.folder.display()
        )))
    }

    /// Installs a version from the shelf.
    ///
    /// # Errors
    /// The package manager's own words.
    pub fn install(&self, version: &Version, bare: bool) -> Result<(), Reason> {
        let file = self.on_shelf(version)?.ok_or_else(|| {
            let sentence = format!("the package of {version} is not in {} any more", self.shelf.folder.display());
            Reason::new("package-not-found", sentence)
        })?;
        tell(&self.family.install(&file.display().to_string(), bare), None).map(drop).map_err(|complaint| {
            Reason::new("install-failed", format!("{PACKAGE} {version} could not be installed")).because(complaint)
        })
    }

    /// Takes from the shelf what is of neither version: one way back is enough.
    pub fn keep_only(&self, versions: [&Version; 2]) {
        let kept: Vec<_> = versions.into_iter().filter_map(|version| self.on_shelf(version).ok().flatten()).collect();
        for file in self.files(&self.shelf.folder).unwrap_or_default() {
            if !kept.contains(&file) {
                drop(fs::remove_file(file));
            }
        }
    }

    /// How the package manager calls the version that is installed, where that is the one that is asked for: `0.1.0-1`
    /// holds `0.1.0`.
    fn words_for(&self, version: &Version) -> String {
        let installed = tell(&self.family.installed(), None).ok().and_then(|text| text.parse::<Version>().ok());
        let same = installed.filter(|installed| installed.is_package_of(version.as_str()));
        same.map_or_else(|| version.to_string(), |installed| installed.to_string())
    }

    /// The file of a version, as the file itself says.
    fn on_shelf(&self, version: &Version) -> Result<Option<PathBuf>, Reason> {
        let start = format!("{PACKAGE}{}{version}", self.family.joint());
        for file in self.files(&self.shelf.folder)? {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // Debian writes `:` and `~` in other ways; the rest of the name says nothing.
            if !name.starts_with(&start) {
                continue;
            }
            let content = tell(&self.family.content(&file.display().to_string()), None).unwrap_or_default();
            let found = content.strip_prefix(PACKAGE).map(str::trim).and_then(|text| text.parse::<Version>().ok());
            if found.is_some_and(|found| found == *version || found.is_package_of(version.as_str())) {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>, Reason> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unusable(folder, &error)),
        };
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.to_string_lossy().ends_with(self.family.ending()));
        files.sort();
        Ok(files)
    }

    fn empty(&self, folder: &Path) -> Result<(), Reason> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(folder, &error)),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(folder).map_err(|error| unusable(folder, &error))
    }
}

fn unusable(path: &Path, error: &io::Error) -> Reason {
    Reason::new("shelf-unusable", format!("{} cannot be used: {error}", path.display()))
        .mend("see that the disk is not full, and that root may write there")
}

/// Runs a program to its end. What it wrote, or what it complains of.
fn tell(order: &Order, folder: Option<&Path>) -> Result<String, String> {
    let Some((program, arguments)) = order.0.split_first() else { return Ok(String::new()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    if let Some(folder) = folder {
        command.current_dir(folder);
    }
    let line = || order.0.iter().map(OsStr::new).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    let output = command.output().map_err(|error| format!("`{}`: {error}", line()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let end: Vec<char> = said.trim().chars().rev().take(COMPLAINT_MAX_CHARS).collect();
    Err(format!("`{}` ended with {}: {}", line(), output.status, end.into_iter().rev().collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(orders: &[Order]) -> Vec<String> {
        orders.iter().map(|order| order.0.join(" ")).collect()
    }

    #[test]
    fn apt_downloads_what_it_knows_and_asks_its_repositories_anew_otherwise() {
        let orders = lines(&Family::Debian.download("0.2.0", "/in"));
        assert_eq!(
            orders,
            [
                "apt-get --yes --option APT::Sandbox::User=root download launchpad-agent=0.2.0",
                "apt-get --yes --option DPkg::Lock::Timeout=300 update",
                "apt-get --yes --option APT::Sandbox::User=root download launchpad-agent=0.2.0",
            ]
        );
    }

    #[test]
    fn dnf_downloads_newer_installed_and_older_versions_each_by_its_own_word() {
        let orders = lines(&Family::Rpm.download("0.2.0", "/in"));
        for (order, word) in orders.iter().zip(["install", "reinstall", "downgrade"]) {
            assert!(
                order.ends_with(&format!("{word} --downloadonly --downloaddir /in launchpad-agent-0.2.0")),
                "{order}"
            );
        }
    }

    #[test]
    fn an_upgrade_keeps_the_admins_configuration_and_asks_nobody() {
        let order = lines(&[Family::Debian.install("/p/a.deb", false)]).concat();
        assert!(order.starts_with("apt-get --yes --allow-downgrades --no-install-recommends"), "{order}");
        assert!(order.contains("Dpkg::Options::=--force-confold") && order.ends_with("install /p/a.deb"), "{order}");
        let rpm = lines(&[Family::Rpm.install("/p/a.rpm", false)]).concat();
        assert_eq!(rpm, "dnf --assumeyes --setopt=install_weak_deps=False install /p/a.rpm");
    }

    #[test]
    fn the_way_back_needs_no_repository() {
        let back = lines(&[Family::Debian.install("/p/a.deb", true), Family::Rpm.install("/p/a.rpm", true)]);
        assert_eq!(
            back,
            ["dpkg --force-confold --install /p/a.deb", "rpm --upgrade --oldpackage --replacepkgs /p/a.rpm"]
        );
    }
}
