//! Kernel modules for a guest: picks some of a Debian kernel's, with all that they need, and writes the lists by which
//! modprobe finds them. A package brings no such lists; they are made where it is installed. The modules stay
//! compressed, as Debian ships them: the guest unpacks those that it loads.

use elf::ElfBytes;
use elf::endian::LittleEndian;
use hypo_common::error::{Error, Result};
use lzma_rust2::XzReader;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::Write;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How the file of a module ends.
const ENDING: &str = ".ko.xz";
/// What a module may have unpacked, so that a damaged one does not fill the memory.
const MODULE_LIMIT: u64 = 256 << 20;

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    /// The names of modules that must be loaded before it.
    depends: Vec<String>,
    /// Patterns of other names for it: devices, file systems, ciphers.
    aliases: Vec<String>,
}

/// The modules of one kernel.
struct Tree {
    /// `lib/modules/VERSION`.
    root: PathBuf,
    /// Names, and paths relative to the root.
    paths: BTreeMap<String, PathBuf>,
    /// Names of what is no module because the kernel has it built in.
    built_in: BTreeSet<String>,
}

/// Copies the modules of these names and those that they depend on from the kernel's modules in `from`
/// (`lib/modules/VERSION`) to `to`, with `modules.dep` and `modules.alias`. Gives the names that the kernel neither has
/// as modules nor built in.
///
/// # Errors
/// A module is damaged or depends on one that is not there, or a file cannot be read or written.
pub fn pick(wanted: &[&str], from: &Path, to: &Path) -> Result<Vec<String>> {
    let tree = Tree::read(from)?;
    let (there, missing) = tree.find(wanted);
    let infos = tree.infos(there)?;
    for name in infos.keys() {
        let (source, target) = (tree.path(name)?, to.join(tree.relative(name)?));
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent).map_err(|error| Error::file("make", parent, &error))?;
        fs::copy(&source, &target).map_err(|error| Error::file("copy", &source, &error))?;
    }
    for (name, text) in [("modules.dep", tree.dependencies(&infos)?), ("modules.alias", aliases(&infos))] {
        let path = to.join(name);
        fs::create_dir_all(to).map_err(|error| Error::file("make", to, &error))?;
        fs::write(&path, text).map_err(|error| Error::file("write", &path, &error))?;
    }
    Ok(missing)
}

/// The modules of these names and those that they depend on, from the kernel's modules in `from`, as object files that
/// are not compressed: their names and contents, in an order in which they can be loaded. Names of what is no module are
/// left out.
///
/// # Errors
/// A module is damaged or depends on one that is not there, or a file cannot be read.
pub fn in_order(wanted: &[&str], from: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let tree = Tree::read(from)?;
    let (there, _) = tree.find(wanted);
    let infos = tree.infos(there.clone())?;
    let mut names: Vec<String> = Vec::new();
    for name in there {
        let needed = needs(&name, &infos).into_iter().rev().chain([name]);
        let new: Vec<String> = needed.filter(|name| !names.contains(name)).collect();
        names.extend(new);
    }
    names.into_iter().map(|name| Ok((name.clone(), tree.unpack(&name)?))).collect()
}

impl Tree {
    /// Without a list of what is built in, nothing is.
    fn read(root: &Path) -> Result<Self> {
        let mut paths = BTreeMap::new();
        for path in files(root)? {
            let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(name) = file.strip_suffix(ENDING) {
                paths.insert(normal(name), path);
            }
        }
        let path = root.join("modules.builtin");
        let list = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            list => list.map_err(|error| Error::file("read", &path, &error))?,
        };
        let file = |line: &str| Some(normal(line.rsplit('/').next()?.strip_suffix(".ko")?));
        Ok(Self { root: root.to_owned(), paths, built_in: list.lines().filter_map(file).collect() })
    }

    /// Of these names those that are modules, and those that are neither modules nor built in.
    fn find(&self, wanted: &[&str]) -> (Vec<String>, Vec<String>) {
        let wanted = wanted.iter().map(|name| normal(name));
        wanted.filter(|name| !self.built_in.contains(name)).partition(|name| self.paths.contains_key(name))
    }

    /// What these modules, and those that they depend on, say of themselves.
    fn infos(&self, names: Vec<String>) -> Result<BTreeMap<String, Info>> {
        let mut infos = BTreeMap::new();
        let mut open = names;
        while let Some(name) = open.pop() {
            if let Entry::Vacant(entry) = infos.entry(name) {
                let info = self.info(entry.key())?;
                open.extend(info.depends.iter().cloned());
                entry.insert(info);
            }
        }
        Ok(infos)
    }

    fn relative(&self, name: &str) -> Result<&Path> {
        let path = self.paths.get(name).map(PathBuf::as_path);
        path.ok_or_else(|| {
            Error::new(format_args!("the kernel in `{}` has no module `{name}`", self.root.display()))
        })
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.root.join(self.relative(name)?))
    }

    /// The module's object file.
    fn unpack(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        let bytes = fs::File::open(&path).and_then(|file| {
            let mut bytes = Vec::new();
            XzReader::new(io::BufReader::new(file), true).take(MODULE_LIMIT).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        bytes.map_err(|error| Error::file("read", &path, &error))
    }

    fn info(&self, name: &str) -> Result<Info> {
        let path = self.path(name)?;
        Info::read(&self.unpack(name)?).map_err(|error| Error::new(error).within(path.display()))
    }

    /// `modules.dep`: a line for each module, with all that must be loaded before it, the last first.
    fn dependencies(&self, infos: &BTreeMap<String, Info>) -> Result<String> {
        let mut text = String::new();
        for name in infos.keys() {
            let mut line = format!("{}:", self.relative(name)?.display());
            for needed in needs(name, infos) {
                line.push(' ');
                line.push_str(&self.relative(&needed)?.display().to_string());
            }
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }
}

impl Info {
    /// Reads the section `.modinfo` of an object file: strings `key=value`, each ended by a zero byte.
    fn read(object: &[u8]) -> std::result::Result<Self, elf::ParseError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(object)?;
        let mut info = Self::default();
        let Some(header) = elf.section_header_by_name(".modinfo")? else { return Ok(info) };
        let (bytes, _) = elf.section_data(&header)?;
        for entry in bytes.split(|&byte| byte == 0) {
            match String::from_utf8_lossy(entry).split_once('=') {
                Some(("depends", names)) => {
                    info.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(normal));
                }
                Some(("alias", pattern)) => info.aliases.push(pattern.to_owned()),
                _ => {}
            }
        }
        Ok(info)
    }
}

/// The name by which modules are compared: `-` and `_` are the same, and files have either.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// All modules that `name` depends on, directly or not; each stands before those that it depends on itself.
fn needs(name: &str, infos: &BTreeMap<String, Info>) -> Vec<String> {
    fn visit<'a>(
        name: &'a str,
        infos: &'a BTreeMap<String, Info>,
        seen: &mut Vec<&'a str>,
        out: &mut Vec<String>,
    ) {
        for needed in infos.get(name).iter().flat_map(|info| &info.depends) {
            if !seen.contains(&needed.as_str()) {
                seen.push(needed);
                visit(needed, infos, seen, out);
                out.push(needed.clone());
            }
        }
    }
    let mut all = Vec::new();
    visit(name, infos, &mut vec![name], &mut all);
    all.reverse();
    all
}

/// `modules.alias`: a line for each other name of each module.
fn aliases(infos: &BTreeMap<String, Info>) -> String {
    let mut text = String::new();
    for (name, info) in infos {
        for pattern in &info.aliases {
            // A string takes whatever is written to it.
            let _ = writeln!(text, "alias {pattern} {name}");
        }
    }
    text
}

/// The files in a folder and its folders, relative to it, in the order of their names.
///
/// # Errors
/// A folder cannot be read.
pub fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let fail = |error| Error::file("read", &folder, &error);
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(fail)?);
            if kind.is_dir() {
                folders.push(path);
            } else if let Ok(path) = path.strip_prefix(root) {
                found.push(path.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elf::abi::{EM_RISCV, ET_REL, SHT_PROGBITS, SHT_STRTAB};
    use std::io::Write;

    /// An object file whose only section of interest is `.modinfo`.
    fn object(modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut file = vec![0; 64];
        file[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        file.extend_from_slice(names);
        file.extend_from_slice(modinfo);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &ET_REL.to_le_bytes());
        put(18, &EM_RISCV.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(40, &(64 + names.len() as u64 + modinfo.len() as u64).to_le_bytes());
        put(52, &64u16.to_le_bytes());
        put(58, &64u16.to_le_bytes());
        put(60, &3u16.to_le_bytes());
        put(62, &2u16.to_le_bytes());
        let section = |name: u32, kind: u32, offset: usize, size: usize| {
            let fields = [0, 0, offset as u64, size as u64, 0, 1, 0];
            let mut header = [name.to_le_bytes(), kind.to_le_bytes()].concat();
            header.extend(fields.iter().flat_map(|field: &u64| field.to_le_bytes()));
            header
        };
        file.extend_from_slice(&[0; 64]);
        file.extend(section(1, SHT_PROGBITS, 64 + names.len(), modinfo.len()));
        file.extend(section(10, SHT_STRTAB, 64, names.len()));
        file
    }

    /// A folder like `lib/modules/VERSION`, of paths and what the modules say of themselves.
    fn tree(modules: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("modules.builtin"), "kernel/drivers/char/virtio_console.ko\n").unwrap();
        for (path, modinfo) in modules {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut xz = lzma_rust2::XzWriter::new(fs::File::create(path).unwrap(), options).unwrap();
            xz.write_all(&object(modinfo.replace(' ', "\0").as_bytes())).unwrap();
            xz.finish().unwrap();
        }
        folder
    }

    #[test]
    fn a_module_comes_with_all_that_it_needs_and_nothing_else() {
        let from = tree(&[
            ("kernel/fs/ext4.ko.xz", "depends=jbd2,crc16 alias=fs-ext4 alias=ext3"),
            ("kernel/fs/jbd2.ko.xz", "depends=crc16"),
            ("kernel/lib/crc16.ko.xz", "depends= license=GPL"),
            ("kernel/net/x-y.ko.xz", "depends=ext4"),
        ]);
        let to = tempfile::tempdir().unwrap();
        let to = to.path().join("new");
        assert_eq!(pick(&["ext4", "virtio-console", "no-such"], from.path(), &to).unwrap(), ["no_such"]);
        let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!(
            read("modules.dep"),
            "kernel/lib/crc16.ko.xz:\n\
             kernel/fs/ext4.ko.xz: kernel/fs/jbd2.ko.xz kernel/lib/crc16.ko.xz\n\
             kernel/fs/jbd2.ko.xz: kernel/lib/crc16.ko.xz\n"
        );
        assert_eq!(read("modules.alias"), "alias fs-ext4 ext4\nalias ext3 ext4\n");
        let copied = fs::read(to.join("kernel/fs/jbd2.ko.xz")).unwrap();
        assert_eq!(copied, fs::read(from.path().join("kernel/fs/jbd2.ko.xz")).unwrap());
        assert!(!to.join("kernel/net").exists());
    }

    #[test]
    fn modules_in_order_come_after_those_that_they_need_and_once() {
        let from = tree(&[
            ("kernel/ext4.ko.xz", "depends=jbd2,crc16"),
            ("kernel/jbd2.ko.xz", "depends=crc16"),
            ("kernel/crc16.ko.xz", "depends="),
            ("kernel/virtio-blk.ko.xz", "depends=crc16"),
        ]);
        let modules = in_order(&["ext4", "virtio_blk", "virtio_console"], from.path()).unwrap();
        let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["crc16", "jbd2", "ext4", "virtio_blk"]);
        assert_eq!(modules[0].1, object(b"depends="));
        fs::remove_file(from.path().join("modules.builtin")).unwrap();
        assert_eq!(in_order(&["ext4", "virtio_console"], from.path()).unwrap().len(), 3);
    }

    #[test]
    fn a_dash_and_an_underscore_are_the_same() {
        let from = tree(&[("x-y.ko.xz", "depends=a-b"), ("a_b.ko.xz", "")]);
        let to = tempfile::tempdir().unwrap();
        assert!(pick(&["x_y"], from.path(), to.path()).unwrap().is_empty());
        let text = fs::read_to_string(to.path().join("modules.dep")).unwrap();
        assert_eq!(text, "a_b.ko.xz:\nx-y.ko.xz: a_b.ko.xz\n");
    }

    #[test]
    fn a_dependency_that_is_not_there_and_a_damaged_module_are_named() {
        let from = tree(&[("a.ko.xz", "depends=gone"), ("b.ko.xz", "")]);
        let to = tempfile::tempdir().unwrap();
        let message = |name: &str| pick(&[name], from.path(), to.path()).unwrap_err().to_string();
        assert!(message("a").contains("no module `gone`"), "{}", message("a"));
        fs::write(from.path().join("b.ko.xz"), "no xz").unwrap();
        assert!(message("b").contains("b.ko.xz"), "{}", message("b"));
    }

    #[test]
    fn modules_that_need_each_other_end_the_search() {
        let info = |needed: &str| Info { depends: vec![needed.into()], aliases: Vec::new() };
        let infos = BTreeMap::from([("a".to_owned(), info("b")), ("b".to_owned(), info("a"))]);
        assert_eq!(needs("a", &infos), ["b"]);
    }

    #[test]
    fn an_object_without_the_section_says_nothing() {
        let mut file = object(b"alias=x\0");
        let at = file.windows(8).position(|name| name == b".modinfo").unwrap();
        file[at + 1] = b'X';
        assert_eq!(Info::read(&file).unwrap(), Info::default());
        for len in 0..file.len() {
            // Whatever it says of a part of a file, it says it.
            let _ = Info::read(&file[..len]);
        }
    }
}
