//! Rules about source files themselves: where unsafe code may be (*one-unsafe-crate*), who moves a guest's pc (*one-pc*), and
//! how long a file is.

use crate::project::Project;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The attribute that the root of every other crate carries.
const FORBID: &str = "#![forbid(unsafe_code)]";

/// Crates that cannot forbid it, where their code is, and the one line of them that may say `unsafe`: the name of the image's
/// entry, and the declaration of what only `crates/hart` may call.
const ONE_LINE: &[(&str, &str, &str)] = &[
    ("hypocaust", "hypocaust", "#[unsafe(no_mangle)]"),
    ("memory", "crates/memory", "pub const unsafe fn new() -> Self {"),
];
/// The attribute that their roots carry instead.
const DENY: &str = "#![deny(unsafe_code)]";

/// Where guests' instructions are served, and the files of it that may move a guest's pc: `frame.rs` by handing a hart over.
const SERVING: &[&str] = &["crates/vmm/src", "crates/vhart/src", "crates/world/src", "hypocaust/src"];
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
        let has_line_of_its_own = ONE_LINE.iter().any(|(name, ..)| *name == package.name);
        let attribute = if has_line_of_its_own { DENY } else { FORBID };
        for target in package.targets.iter().filter(|target| target.is_code()) {
            if !has_line(&read(&target.src_path)?, attribute) {
                wrong.push(format!("{} lacks {attribute}", target.src_path.display()));
            }
        }
    }
    for path in source_files(project, &["*.rs"])? {
        let Some((.., allowed)) = ONE_LINE.iter().find(|(_, place, _)| path.starts_with(place)) else {
            continue;
        };
        if let Some(line) = unsafe_line(&read(&project.root().join(&path))?, allowed) {
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

/// Fails with a line for each number in the fast path's assembly: shifts, sizes, offsets and masks come from Rust, which
/// asserts what they rest on.
pub fn no_numbers_in_assembly(project: &Project) -> Result<()> {
    let mut wrong = Vec::new();
    for path in source_files(project, &["crates/hart/src/fast/*.s"])? {
        for (number, line) in (1..).zip(read(&project.root().join(&path))?.lines()) {
            if !literals(line).is_empty() {
                wrong.push(format!("{}:{number}: `{}` has a number of its own", path.display(), line.trim()));
            }
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

/// The numbers of an instruction but 0 and 1; what is in braces comes from Rust, and what begins with a dot is a directive.
fn literals(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap_or_default().trim();
    if code.starts_with('.') || code.ends_with(':') {
        return Vec::new();
    }
    let words = code.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '{' | '}'));
    let is_number = |word: &&str| {
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let is_hexadecimal = digits.len() < word.len();
        !digits.is_empty()
            && digits.chars().all(|c| if is_hexadecimal { c.is_ascii_hexdigit() } else { c.is_ascii_digit() })
    };
    words.filter(is_number).filter(|word| !matches!(*word, "0" | "1")).collect()
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

/// The first line of code that says `unsafe`, but for the one that may.
fn unsafe_line<'a>(source: &'a str, allowed: &str) -> Option<&'a str> {
    let code = |line: &&str| !line.starts_with("//") && *line != allowed;
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
        let allowed = ONE_LINE[0].2;
        let entry = "#![deny(unsafe_code)]\n#[allow(unsafe_code)]\n#[unsafe(no_mangle)]\nfn entry() {}\n";
        assert_eq!(unsafe_line(entry, allowed), None);
        let block = "let x = unsafe { y() };";
        assert_eq!(unsafe_line(&format!("// unsafe {{}}\n{block}"), allowed), Some(block));
        assert_eq!(unsafe_line("unsafe fn other() {}", ONE_LINE[1].2), Some("unsafe fn other() {}"));
    }

    #[test]
    fn numbers_in_the_assembly_are_found() {
        let wrong = |line: &str| !literals(line).is_empty();
        for line in [
            "slli t1, t0, 64 - 13",
            "ld t0, 16(t2)",
            "addi t0, t0, -4 // why",
            "li t2, 0xff",
            "andi t0, t0, ~3",
        ] {
            assert!(wrong(line), "{line}");
        }
        for line in [
            "ld t0, 0(t2)",
            "srli t1, t0, {SHIFT}",
            "beqz t2, 1b",
            "1:",
            "li t4, 1",
            ".balign 4",
            "// 17",
            "96:",
        ] {
            assert!(!wrong(line), "{line}");
        }
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
