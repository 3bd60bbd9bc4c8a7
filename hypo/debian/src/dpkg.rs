//! Unpacks packages for a system that does not run yet: their files go into a tar archive, and dpkg's own records of
//! them beside, so that in the end the system's dpkg finds everything as `dpkg --unpack` leaves it. Runs no script of a
//! package: `rootfs` lets the system itself do that. The records are described in deb(5), dpkg's "Internals" and
//! dpkg-query(1).

use hypo_common::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tar::{Archive, Builder, EntryType, Header};

/// Where dpkg keeps its records.
const RECORDS: &str = "var/lib/dpkg";
/// The file of triggers that are paths; each of the others has a file of its own.
const FILE_TRIGGERS: &str = "File";

/// An archive of unpacked packages in the making.
pub struct Unpacked<W: Write> {
    tree: Builder<W>,
    /// dpkg's list of packages.
    status: String,
    /// The names of dpkg's lists of triggers, and their lines.
    triggers: BTreeMap<String, String>,
}

impl<W: Write> Unpacked<W> {
    /// An empty archive that is written to `to`.
    pub fn new(to: W) -> Self {
        Self { tree: Builder::new(to), status: String::new(), triggers: BTreeMap::new() }
    }

    /// Adds the files of a package, and dpkg's records of it.
    ///
    /// # Errors
    /// The package is damaged, or the archive cannot be written.
    pub fn package(&mut self, package: &Path) -> Result<()> {
        self.unpack(package).map_err(|error| Error::file("unpack", package, &error))
    }

    /// Adds a regular file of root's with these permission bits.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn file(&mut self, path: &str, permissions: u32, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(permissions);
        header.set_size(bytes.len() as u64);
        self.tree.append_data(&mut header, path, bytes)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.tree.append_link(&mut header, path, target)
    }

    /// Writes dpkg's lists and ends the archive.
    ///
    /// # Errors
    /// The archive cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        let status = std::mem::take(&mut self.status);
        self.file(&format!("{RECORDS}/status"), 0o644, status.as_bytes())?;
        for (name, lines) in std::mem::take(&mut self.triggers) {
            self.file(&format!("{RECORDS}/triggers/{name}"), 0o644, lines.as_bytes())?;
        }
        self.file(&format!("{RECORDS}/info/format"), 0o644, b"1\n")?;
        self.tree.into_inner()
    }

    fn unpack(&mut self, package: &Path) -> io::Result<()> {
        let parts = DpkgDeb::start("--ctrl-tarfile", package)?.read(read_files)?;
        let control = parts.iter().find(|part| part.name == "control").map(Part::text).unwrap_or_default();
        let name = recorded_name(&control).ok_or_else(|| io::Error::other("it has no name"))?;
        let conffiles = parts.iter().find(|part| part.name == "conffiles").map(Part::text);
        let conffiles: Vec<String> = conffiles
            .iter()
            .flat_map(|text| text.lines())
            .filter(|line| line.starts_with('/'))
            .map(str::to_owned)
            .collect();
        for part in parts.iter().filter(|part| part.name != "control") {
            if part.name == "triggers" {
                self.add_triggers(&name, &part.text());
            }
            self.file(&format!("{RECORDS}/info/{name}.{}", part.name), part.permissions, &part.bytes)?;
        }
        let tree = &mut self.tree;
        let list =
            DpkgDeb::start("--fsys-tarfile", package)?.read(|archive| copy(archive, &conffiles, tree))?;
        self.file(&format!("{RECORDS}/info/{name}.list"), 0o644, list.as_bytes())?;
        self.status.push_str(&stanza(&control, &conffiles));
        Ok(())
    }

    /// Notes the triggers that a package wants to hear of.
    fn add_triggers(&mut self, package: &str, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
            let mark = match directive {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            let (file, subject) = if trigger.starts_with('/') {
                (FILE_TRIGGERS, format!("{trigger} "))
            } else {
                (trigger, String::new())
            };
            let lines = self.triggers.entry(file.to_owned()).or_default();
            // A string takes whatever is written to it.
            let _ = writeln!(lines, "{subject}{package}{mark}");
        }
    }
}

/// A file of a package's control part.
struct Part {
    name: String,
    permissions: u32,
    bytes: Vec<u8>,
}

impl Part {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A running `dpkg-deb` that writes one of a package's two archives.
struct DpkgDeb {
    child: Child,
    stdout: ChildStdout,
}

impl DpkgDeb {
    fn start(part: &str, package: &Path) -> io::Result<Self> {
        let mut command = Command::new("dpkg-deb");
        command.arg(part).arg(package).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { child, stdout })
    }

    /// Reads the archive with `reader`, to its end, and sees that all went well.
    fn read<T>(mut self, reader: impl FnOnce(&mut Archive<ChildStdout>) -> io::Result<T>) -> io::Result<T> {
        let mut archive = Archive::new(self.stdout);
        let outcome = reader(&mut archive);
        // What follows the last member would else end dpkg-deb by a signal.
        let rest = io::copy(&mut archive.into_inner(), &mut io::sink());
        let status = self.child.wait()?;
        let outcome = outcome?;
        rest?;
        if status.success() { Ok(outcome) } else { Err(io::Error::other("dpkg-deb failed")) }
    }
}

fn read_files(archive: &mut Archive<impl Read>) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let name = absolute(&entry.path()?).trim_start_matches('/').to_owned();
        let permissions = entry.header().mode()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        parts.push(Part { name, permissions, bytes });
    }
    Ok(parts)
}

/// Copies a package's files, and gives dpkg's list of them. Configuration files come twice: as themselves, since scripts
/// that run before their package is configured may read them, and under the name where dpkg looks for new ones.
fn copy<W: Write>(
    archive: &mut Archive<impl Read>,
    conffiles: &[String],
    tree: &mut Builder<W>,
) -> io::Result<String> {
    let mut list = String::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = absolute(&entry.path()?);
        list.push_str(if path == "/" { "/." } else { &path });
        list.push('\n');
        let relative = path.trim_start_matches('/').to_owned();
        let mut header = entry.header().clone();
        if relative.is_empty() {
            continue;
        }
        if let Some(target) = entry.link_name()? {
            // The other name of a file, which is relative to the archive's root, or a symbolic link's text.
            let hard = header.entry_type() == EntryType::Link;
            let target =
                if hard { absolute(&target).trim_start_matches('/').into() } else { target.into_owned() };
            tree.append_link(&mut header, &relative, target)?;
        } else if conffiles.contains(&path) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            tree.append_data(&mut header, &relative, bytes.as_slice())?;
            tree.append_data(&mut header, format!("{relative}.dpkg-new"), bytes.as_slice())?;
        } else {
            tree.append_data(&mut header, &relative, &mut entry)?;
        }
    }
    Ok(list)
}

/// A path in a package, which begins with `./`, as the installed system has it.
fn absolute(path: &Path) -> String {
    let clean: PathBuf =
        path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    format!("/{}", clean.display())
}

/// The name under which dpkg keeps a package's records: with the architecture where several of them can be installed.
fn recorded_name(control: &str) -> Option<String> {
    let name = field(control, "Package")?;
    match (field(control, "Multi-Arch"), field(control, "Architecture")) {
        (Some("same"), Some(architecture)) => Some(format!("{name}:{architecture}")),
        _ => Some(name.to_owned()),
    }
}

/// What dpkg's list of packages says of one that is unpacked.
fn stanza(control: &str, conffiles: &[String]) -> String {
    let mut text = format!("{}\nStatus: install ok unpacked\n", control.trim_end());
    if !conffiles.is_empty() {
        text.push_str("Conffiles:\n");
        for path in conffiles {
            // A string takes whatever is written to it.
            let _ = writeln!(text, " {path} newconffile");
        }
    }
    text.push('\n');
    text
}

/// A field of one line in a control file.
fn field<'a>(control: &'a str, name: &str) -> Option<&'a str> {
    control.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "Package: libx1\nArchitecture: riscv64\nMulti-Arch: same\nDescription: x\n more\n";

    #[test]
    fn a_package_that_can_be_there_twice_is_recorded_with_its_architecture() {
        assert_eq!(recorded_name(CONTROL).as_deref(), Some("libx1:riscv64"));
        assert_eq!(
            recorded_name("Package: x\nArchitecture: all\nMulti-Arch: foreign\n").as_deref(),
            Some("x")
        );
        assert_eq!(recorded_name("Architecture: all\n"), None);
    }

    #[test]
    fn an_unpacked_package_awaits_its_configuration_files() {
        assert_eq!(
            stanza(CONTROL, &["/etc/x".to_owned()]),
            "Package: libx1\nArchitecture: riscv64\nMulti-Arch: same\nDescription: x\n more\n\
             Status: install ok unpacked\nConffiles:\n /etc/x newconffile\n\n"
        );
        assert!(!stanza(CONTROL, &[]).contains("Conffiles"));
    }

    #[test]
    fn triggers_of_paths_share_a_list_and_others_have_their_own() {
        let mut unpacked = Unpacked::new(Vec::new());
        unpacked.add_triggers(
            "a",
            "# text\ninterest-noawait /usr/lib/x\ninterest-await ldconfig\nactivate ldconfig\n",
        );
        unpacked.add_triggers("b:riscv64", "interest /usr/lib/x\n");
        let lists: Vec<_> =
            unpacked.triggers.iter().map(|(name, lines)| (name.as_str(), lines.as_str())).collect();
        assert_eq!(lists, [("File", "/usr/lib/x a/noawait\n/usr/lib/x b:riscv64\n"), ("ldconfig", "a\n")]);
    }

    #[test]
    fn files_keep_what_the_package_says_and_configuration_files_come_twice() {
        let mut package = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        package.append_data(&mut header, "./etc/", io::empty()).unwrap();
        let mut header = Header::new_gnu();
        header.set_mode(0o4750);
        header.set_gid(42);
        header.set_size(2);
        for path in ["./etc/conf", "./etc/tool"] {
            package.append_data(&mut header, path, &b"hi"[..]).unwrap();
        }
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Link);
        link.set_size(0);
        package.append_link(&mut link, "./etc/other", "./etc/tool").unwrap();
        let package = package.into_inner().unwrap();

        let mut tree = Builder::new(Vec::new());
        let list = copy(&mut Archive::new(package.as_slice()), &["/etc/conf".to_owned()], &mut tree).unwrap();
        assert_eq!(list, "/etc\n/etc/conf\n/etc/tool\n/etc/other\n");
        let tree = tree.into_inner().unwrap();
        let mut archive = Archive::new(tree.as_slice());
        let names = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            if entry.header().entry_type() == EntryType::Regular {
                assert_eq!((entry.header().mode().unwrap(), entry.header().gid().unwrap()), (0o4750, 42));
            }
            if let Some(target) = entry.link_name().unwrap() {
                assert_eq!(target, Path::new("etc/tool"));
            }
            entry.path().unwrap().display().to_string()
        });
        let names: Vec<String> = names.collect();
        assert_eq!(names, ["etc", "etc/conf", "etc/conf.dpkg-new", "etc/tool", "etc/other"]);
    }

    #[test]
    fn a_file_that_is_no_package_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        std::fs::write(&path, "no package").unwrap();
        let message = Unpacked::new(Vec::new()).package(&path).unwrap_err().to_string();
        assert!(message.contains("x.deb"), "{message}");
    }
}
