//! Rules about source files themselves: where unsafe code may be (*one-unsafe-crate*), who moves a guest's pc (*one-pc*), and
//! how long a file is.

use crate::project::Project;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The attribute that the root of every other crate carries.
const FORBID: &str = "#![forbid(unsafe_code)]";

/// The image cannot forbid it, since its entry's name is an unsafe attribute; nothing else of it may be.
const IMAGE: &str = "hypocaust";
/// The attribute that the root of the image carries instead.
const DENY: &str = "#![deny(unsafe_code)]";
/// The one line of the image that may say `unsafe`.
const NAMED: &str = "#[unsafe(no_mangle)]";

/// Where guests' instructions are served, and the files of it that may move a guest's pc: `frame.rs` by handing a hart over.
const SERVING: &[&str] = &["crates/vmm/src", "crates/vhart/src", "hypocaust/src"];
const MOVES_PC: &[&str] = &["crates/vmm/src/vcpu.rs", "crates/vhart/src/frame.rs"];

/// Directories whose crates may hold unsafe code: the hypervisor's one such crate, and what runs beside it on the bare
/// machine, below (our firmware) and above (guests).
const UNSAFE: &[&str] = &["crates/hart", "firmware", "guests"];

/// Lines from which on a file should be looked at again.
const LONG: usize = 500;

/// Fails with a line for each crate root that does not forbid unsafe code and should.
pub fn unsafe_only_where_it_may_be(project: &Project) -> Result<()> {
    let mut wrong = Vec::new();
    for package in project.packages() {
        if UNSAFE.iter().any(|place| package.directory(project).starts_with(place)) {
            continue;
        }
        let attribute = if package.name == IMAGE { DENY } else { FORBID };
        for target in package.targets.iter().filter(|target| target.is_code()) {
            if !has_line(&read(&target.src_path)?, attribute) {
                wrong.push(format!("{} lacks {attribute}", target.src_path.display()));
            }
        }
    }
    for path in source_files(project, &["*.rs"])?.iter().filter(|path| path.starts_with(IMAGE)) {
        if let Some(line) = unsafe_line(&read(&project.root().join(path))?) {
            wrong.push(format!("{}: `{}`", path.display(), line));
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// Fails with a line for each place that moves a guest's pc and is not `vcpu.rs`.
pub fn one_file_moves_the_pc(project: &Project) -> Result<()> {
    let mut wrong = Vec::new();
    for path in source_files(project, &["*.rs"])? {
        let serves = SERVING.iter().any(|place| path.starts_with(place));
        if serves && !MOVES_PC.iter().any(|file| path == Path::new(file)) {
            let text = read(&project.root().join(&path))?;
            wrong.extend(pc_line(&text).map(|line| format!("{}: `{line}`", path.display())));
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// The first line that assigns to a field `pc`.
fn pc_line(source: &str) -> Option<&str> {
    let assigns = |line: &&str| {
        line.split_once(".pc").is_some_and(|(_, rest)| {
            let rest = rest.trim_start();
            let rest = rest.trim_start_matches(['+', '-', '|', '&', '^']);
            rest.starts_with('=') && !rest.starts_with("==")
        })
    };
    source.lines().map(str::trim).filter(|line| !line.starts_with("//")).find(assigns)
}

/// Prints a line for each long file; never fails, as a long file may have a reason.
pub fn warn_of_long_rooms(project: &Project) -> Result<()> {
    for path in source_files(project, &["*.rs", "*.s"])? {
        let lines = read(&project.root().join(&path))?.lines().count();
        if lines > LONG {
            println!("warning: {}: {lines} lines; more than one subject?", path.display());
        }
    }
    Ok(())
}

fn has_line(source: &str, wanted: &str) -> bool {
    source.lines().any(|line| line.trim() == wanted)
}

/// The first line of the image's code that says `unsafe` and may not.
fn unsafe_line(source: &str) -> Option<&str> {
    let code = |line: &&str| !line.starts_with("//") && *line != NAMED;
    let says =
        |line: &&str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    source.lines().map(str::trim).filter(code).find(says)
}

/// The checkout's files with these names, relative to its top; files that git ignores are not among them.
pub fn source_files(project: &Project, names: &[&str]) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .args(names)
        .current_dir(project.root())
        .output()
        .context("git ls-files cannot be started")?;
    let listing = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(listing.lines().map(PathBuf::from).filter(|path| project.root().join(path).exists()).collect())
}

pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// *one-unsafe-crate*
    #[test]
    fn only_the_attribute_itself_counts() {
        assert!(has_line("//! Head.\n#![no_std]\n#![forbid(unsafe_code)]\n", FORBID));
        assert!(!has_line("//! Head.\n// #![forbid(unsafe_code)]\n", FORBID));
    }

    #[test]
    fn the_image_may_name_its_entry_and_nothing_else() {
        let entry = "#![deny(unsafe_code)]\n#[allow(unsafe_code)]\n#[unsafe(no_mangle)]\nfn entry() {}\n";
        assert_eq!(unsafe_line(entry), None);
        assert_eq!(unsafe_line("// unsafe {}\nlet x = unsafe { y() };"), Some("let x = unsafe { y() };"));
    }

    /// *one-pc*
    #[test]
    fn an_assignment_to_a_pc_is_found() {
        for line in ["vcpu.frame.pc = 0;", "frame.pc += 4;", "self.frame.pc=pc;"] {
            assert_eq!(pc_line(&format!("// x.pc = 1\nlet a = 1;\n    {line}\n")), Some(line));
        }
        assert_eq!(pc_line("if frame.pc == pc {}\nlet pc = vcpu.frame.pc;\nf(frame.pc)"), None);
    }

    #[test]
    fn this_file_is_among_the_rust_files() {
        let files = source_files(&Project::load().unwrap(), &["*.rs"]).unwrap();
        assert!(files.contains(&PathBuf::from("xtask/src/lint/sources.rs")));
    }
}
