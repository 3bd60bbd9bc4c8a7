//! Packages from Debian's archive for riscv64, whatever this machine's own architecture and release: apt with a
//! private state, so that the system's package lists stay as they are. apt checks signatures and hashes.

use hypo_common::error::{Error, Result};
use hypo_common::setup;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release that guests come from.
const RELEASE: &str = "trixie";
/// Under which names a mirror may have it, the best first. Each name has lists of its own, and those of one can
/// be out of step with their signature for days on a mirror that caches them.
const SUITES: &[&str] = &[RELEASE, "stable"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where apt's own configuration lies.
const APT_CONFIGURATION: &str = "/etc/apt";
/// Names the mirror where apt's configuration has none, for example on another distribution.
const MIRROR_VARIABLE: &str = "HYPO_MIRROR";

/// A private apt.
#[derive(Debug)]
pub struct Archive {
    folder: tempfile::TempDir,
    mirror: String,
}

impl Archive {
    /// Sets up the private state and gets the lists of packages.
    ///
    /// # Errors
    /// apt, the keyring or a mirror is missing, or the mirror cannot be reached.
    pub fn open(progress: &ProgressBar) -> Result<Self> {
        setup::ensure_programs(&[("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("tar", "tar")])?;
        if !Path::new(KEYRING).is_file() {
            setup::install(&["debian-archive-keyring"])?;
        }
        let mirror = mirror()?;
        let fail = |error| Error::new(format_args!("cannot set up a folder for apt: {error}"));
        let folder = tempfile::Builder::new().prefix("hypo-apt-").tempdir().map_err(fail)?;
        for path in ["lists/partial", "cache/archives/partial", "state"] {
            fs::create_dir_all(folder.path().join(path)).map_err(fail)?;
        }
        fs::write(folder.path().join("status"), "").map_err(fail)?;
        let archive = Self { folder, mirror };
        progress.set_message(format!("package lists from {}", archive.mirror));
        let mut attempts = SUITES.iter().map(|suite| archive.update(suite, progress));
        // What went wrong with the first name is what the user should read.
        let first = attempts.next().unwrap_or(Ok(()));
        first.or_else(|error| attempts.find(Result::is_ok).unwrap_or(Err(error)))?;
        Ok(archive)
    }

    /// Gets the lists of packages under one of the release's names.
    fn update(&self, suite: &str, progress: &ProgressBar) -> Result<()> {
        let fail = |error| Error::new(format_args!("cannot set up a folder for apt: {error}"));
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", self.mirror);
        fs::write(self.folder.path().join("sources.list"), source).map_err(fail)?;
        self.run(self.apt("apt-get").arg("update"), progress)?;
        // Of a name tried before, the list may be there, too.
        let ending = format!("_dists_{suite}_InRelease");
        let lists = fs::read_dir(self.folder.path().join("lists")).map_err(fail)?;
        let mut paths = lists.filter_map(|entry| Some(entry.ok()?.path()));
        let path = paths.find(|path| path.to_str().is_some_and(|path| path.ends_with(&ending)));
        if path.and_then(|path| fs::read_to_string(path).ok()).is_some_and(|list| is_release(&list)) {
            return Ok(());
        }
        Err(Error::new(format_args!("`{suite}` on {} is not Debian {RELEASE}", self.mirror)))
    }

    /// Downloads `package` and gives the path of its file, in a folder that lasts as long as `self`.
    ///
    /// # Errors
    /// There is no such package, or the download fails.
    pub fn download(&self, package: &str, progress: &ProgressBar) -> Result<PathBuf> {
        let folder = self.folder.path().join(package);
        fs::create_dir(&folder).map_err(|error| Error::file("make", &folder, &error))?;
        progress.set_message(package.to_owned());
        progress.set_position(0);
        self.run(self.apt("apt-get").args(["download", package]).current_dir(&folder), progress)?;
        let files = fs::read_dir(&folder).map_err(|error| Error::file("read", &folder, &error))?;
        let mut files = files.filter_map(|entry| Some(entry.ok()?.path()));
        files
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| Error::new(format_args!("apt-get downloaded no file for `{package}`")))
    }

    /// Downloads these packages and all that they depend on; a name may be one of apt's patterns. Gives the paths of the
    /// files, in the order of their names, in a folder that lasts as long as `self`.
    ///
    /// # Errors
    /// A package is not there or cannot be installed with the others, or the download fails.
    pub fn download_system(&self, packages: &[&str], progress: &ProgressBar) -> Result<Vec<PathBuf>> {
        progress.set_message("packages");
        progress.set_position(0);
        let mut command = self.apt("apt-get");
        command.args(["install", "--yes", "--download-only", "--no-install-recommends"]).args(packages);
        self.run(&mut command, progress)?;
        let folder = self.folder.path().join("cache/archives");
        let files = fs::read_dir(&folder).map_err(|error| Error::file("read", &folder, &error))?;
        let files = files.filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect();
        files.sort();
        Ok(files)
    }

    /// The package of this prefix that `package` depends on: a name with a version in it, behind one without.
    ///
    /// # Errors
    /// There is none.
    pub fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        let output = self.apt("apt-cache").args(["show", "--no-all-versions", package]).output();
        let output = output.map_err(|error| Error::new(format_args!("cannot start apt-cache: {error}")))?;
        dependency_in(&String::from_utf8_lossy(&output.stdout), prefix).ok_or_else(|| {
            Error::new(format_args!("`{package}` in Debian {RELEASE} depends on no package `{prefix}...`"))
                .remedy(format_args!("check that {} has the architecture riscv64", self.mirror))
        })
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let options = [
            ("APT::Architecture", "riscv64".to_owned()),
            ("APT::Architectures", "riscv64".to_owned()),
            // Without this, apt run by root downloads as a user that may not write here.
            ("APT::Sandbox::User", "root".to_owned()),
            ("Dir::State", at("state")),
            ("Dir::State::Lists", at("lists")),
            ("Dir::State::Status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::SourceList", at("sources.list")),
            ("Dir::Etc::SourceParts", "/nonexistent".to_owned()),
            // It is nobody else's state, and the system's locks are for root.
            ("Debug::NoLocking", "true".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
        ];
        options.iter().for_each(|(name, value)| {
            command.arg("-o").arg(format!("{name}={value}"));
        });
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, command: &mut Command, progress: &ProgressBar) -> Result<()> {
        let fail = |error| Error::new(format_args!("cannot run apt-get: {error}"));
        command.args(["-q", "-o", "APT::Status-Fd=1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(fail)?;
        if let Some(lines) = child.stdout.take() {
            BufReader::new(lines).lines().map_while(std::result::Result::ok).for_each(|line| {
                if let Some(percent) = percent_in(&line) {
                    progress.set_position(percent);
                }
            });
        }
        let output = child.wait_with_output().map_err(fail)?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::new(format_args!("apt-get failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
            .remedy(format_args!(
                "check that {} can be reached; {MIRROR_VARIABLE} names another mirror",
                self.mirror
            )))
    }
}

/// A bar for downloads; silent where standard error is no terminal.
pub fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:40!} [{bar:40}] {percent:>3}% {elapsed}");
    ProgressBar::new(100)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}

/// Unpacks the files of a package that match one of `patterns` into `folder`.
///
/// # Errors
/// The package is damaged or has no file for one of them.
pub fn unpack(package: &Path, patterns: &[&str], folder: &Path) -> Result<()> {
    let fail = |error| Error::file("unpack", package, &error);
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let mut tar = Command::new("tar");
    tar.arg("-x").arg("-C").arg(folder).args(["--wildcards", "--no-same-owner"]).args(patterns);
    if let Some(stream) = archive.stdout.take() {
        tar.stdin(stream);
    }
    let output = tar.output().map_err(fail)?;
    archive.wait().map_err(fail)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::new(format_args!(
        "cannot unpack `{}` from `{}`: {}",
        patterns.join("`, `"),
        package.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// Whether this is the signed description of the release that guests come from.
fn is_release(list: &str) -> bool {
    list.lines().any(|line| line.strip_prefix("Codename:").is_some_and(|name| name.trim() == RELEASE))
}

/// The mirror of Debian's archive that this machine uses.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var(MIRROR_VARIABLE)
        && !mirror.is_empty()
    {
        return Ok(mirror);
    }
    let folder = Path::new(APT_CONFIGURATION);
    let parts = fs::read_dir(folder.join("sources.list.d")).into_iter().flatten();
    let mut files: Vec<PathBuf> = parts.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files.insert(0, folder.join("sources.list"));
    let found = files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        match file.extension()?.to_str()? {
            "list" => mirror_in_list(&text),
            "sources" => mirror_in_sources(&text),
            _ => None,
        }
    });
    found.ok_or_else(|| {
        Error::new(format_args!(
            "apt's configuration in {APT_CONFIGURATION} names no mirror of Debian's archive"
        ))
        .remedy(format_args!("set {MIRROR_VARIABLE} to the address of one, as it stands in a sources.list"))
    })
}

/// Whether an archive at this address is Debian's main archive: mirrors keep the name of its top folder.
fn is_debian(uri: &str) -> bool {
    uri.trim_end_matches('/').rsplit('/').next().is_some_and(|name| matches!(name, "debian" | "debian.list"))
}

/// The first mirror in the one-line format: `deb [options] uri suite components`.
fn mirror_in_list(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => rest,
        };
        let uri = rest.split_whitespace().next()?;
        is_debian(uri).then(|| uri.to_owned())
    })
}

/// The first mirror in the deb822 format: paragraphs of `Field: value`.
fn mirror_in_sources(text: &str) -> Option<String> {
    let text = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    text.split("\n\n").find_map(|paragraph| {
        // A line that begins with a blank continues the field before it.
        let paragraph = paragraph.replace("\n ", " ").replace("\n\t", " ");
        let field = |name: &str| {
            paragraph.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if field("Enabled").is_some_and(|enabled| enabled.eq_ignore_ascii_case("no")) {
            return None;
        }
        if !field("Types")?.split_whitespace().any(|word| word == "deb") {
            return None;
        }
        field("URIs")?.split_whitespace().find(|uri| is_debian(uri)).map(str::to_owned)
    })
}

/// A name with this prefix in the `Depends` field of a package's description.
fn dependency_in(description: &str, prefix: &str) -> Option<String> {
    let depends = description.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let mut names = depends.split([',', '|']).filter_map(|entry| entry.split_whitespace().next());
    names.find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// How far a download is, from apt's `dlstatus:item:percent:text`.
fn percent_in(line: &str) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?.parse::<f64>().ok()?;
    Some(percent.clamp(0.0, 100.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_format_is_read() {
        let text = "# deb http://no.example/debian trixie main\n\
                    deb-src http://src.example/debian trixie main\n\
                    deb http://security.example/debian-security trixie-security main\n\
                    deb [arch=amd64 signed-by=/k] http://one.example/debian/ trixie main # comment\n";
        assert_eq!(mirror_in_list(text).as_deref(), Some("http://one.example/debian/"));
        assert_eq!(mirror_in_list("deb http://archive.example/ubuntu noble main"), None);
        assert_eq!(mirror_in_list("debug http://x.example/debian"), None);
        assert_eq!(mirror_in_list("deb [broken http://x.example/debian"), None);
    }

    #[test]
    fn the_new_format_is_read() {
        let text = "Types: deb\nURIs: http://security.example/debian-security\nSuites: trixie-security\n\n\
                    # a comment\nTypes: deb deb-src\nuris:\n http://one.example/debian\n http://two.example/debian\n\
                    Suites: trixie\n";
        assert_eq!(mirror_in_sources(text).as_deref(), Some("http://one.example/debian"));
        assert_eq!(mirror_in_sources("Types: deb\nEnabled: no\nURIs: http://one.example/debian\n"), None);
        assert_eq!(mirror_in_sources("Types: deb-src\nURIs: http://one.example/debian\n"), None);
        assert_eq!(mirror_in_sources(""), None);
    }

    #[test]
    fn a_file_of_mirrors_counts_as_one() {
        let text = "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\n";
        assert_eq!(mirror_in_sources(text).as_deref(), Some("mirror+file:///etc/apt/mirrors/debian.list"));
    }

    #[test]
    fn a_release_goes_by_its_codename() {
        assert!(is_release("Origin: Debian\nSuite: stable\nVersion: 13.7\nCodename: trixie\n"));
        assert!(!is_release("Origin: Debian\nSuite: stable\nCodename: forky\n"));
        assert!(!is_release("Package: trixie\nVersion: 1\n"));
    }

    #[test]
    fn the_kernel_behind_the_metapackage_is_found() {
        let text =
            "Package: linux-image-riscv64\nDepends: x, linux-image-6.12.1+deb13-riscv64 (= 6.12.1-1)\n";
        assert_eq!(dependency_in(text, "linux-image-6").as_deref(), Some("linux-image-6.12.1+deb13-riscv64"));
        assert_eq!(dependency_in(text, "linux-image-7"), None);
        assert_eq!(dependency_in("", "x"), None);
    }

    #[test]
    fn apts_progress_is_read() {
        assert_eq!(percent_in("dlstatus:1:45.25:Retrieving file 1 of 1"), Some(45));
        assert_eq!(percent_in("dlstatus:1:nonsense"), None);
        assert_eq!(percent_in("Get:1 http://x.example"), None);
    }
}
