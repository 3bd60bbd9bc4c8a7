//! Builds what runs on the bare machine: the hypervisor's image and our own guests.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use serde::Deserialize;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that everything bare-metal is built for.
pub const TARGET: &str = "riscv64imac-unknown-none-elf";
/// The workspace's profile for it.
pub const PROFILE: &str = "image";
/// The hypervisor's package and program.
const HYPERVISOR: &str = "hypocaust";

/// A line of cargo's `--message-format=json`, as far as it matters.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<BuiltTarget>,
}

#[derive(Deserialize)]
struct BuiltTarget {
    name: String,
}

/// The workspace that this program was built in.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The cargo that started this program, or the one on the path.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace());
    command
}

/// Builds the program `name` of the package of that name and gives the path of its ELF file.
///
/// # Errors
/// Cargo cannot be started or the program does not compile; cargo has then printed why.
pub fn build(name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--package", name, "--bin", name]);
    command.args(["--target", TARGET, "--profile", PROFILE, "--message-format=json-render-diagnostics"]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| {
        Error::new(format_args!("cannot start cargo: {error}")).remedy("run this through `cargo hypo`")
    })?;
    if !output.status.success() {
        return Err(Error::new(format_args!("`{name}` does not compile; cargo's messages are above")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    executable_in(&text, name)
        .ok_or_else(|| Error::new(format_args!("cargo built no program named `{name}`")))
}

/// Builds the hypervisor and gives the path of its flat image: a Linux `Image`, whose header is part of it.
///
/// # Errors
/// It does not compile, or the flat image cannot be written beside it.
pub fn hypervisor() -> Result<PathBuf> {
    let elf = build(HYPERVISOR)?;
    let bytes = fs::read(&elf).map_err(|error| Error::file("read", &elf, &error))?;
    let most = bytes.len() as u64;
    let kernel = Kernel::parse(bytes, most).map_err(|error| Error::new(error).within(elf.display()))?;
    let flat = elf.with_extension("bin");
    replace(&flat, &kernel.flatten())?;
    Ok(flat)
}

/// The flat image `flat` as a file in `folder` that says where in RAM it is loaded: `offset` bytes from its start.
///
/// # Errors
/// A file cannot be read or written.
pub fn loaded_at(flat: &Path, offset: u64, folder: &Path) -> Result<PathBuf> {
    let code = fs::read(flat).map_err(|error| Error::file("read", flat, &error))?;
    let path = folder.join("placed.elf");
    replace(&path, &placed(&code, bundle::RAM_BASE + offset))?;
    Ok(path)
}

/// An ELF executable with `code` at `address`, where it starts. System V gABI, "ELF Header" and "Program Header".
fn placed(code: &[u8], address: u64) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    const EXECUTABLE: u16 = 2;
    const RISCV: u16 = 243;
    const LOAD: u32 = 1;
    const ALL_ACCESS: u32 = 7;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([EXECUTABLE, RISCV].into_iter().flat_map(u16::to_le_bytes));
    file.extend(1u32.to_le_bytes());
    // The entry, the offset of the program header, no section headers.
    file.extend([address, 64, 0].into_iter().flat_map(u64::to_le_bytes));
    file.extend(0u32.to_le_bytes());
    // The sizes of this header and of one program header, one of them, no section headers.
    file.extend([64u16, 56, 1, 0, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    file.extend([LOAD, ALL_ACCESS].into_iter().flat_map(u32::to_le_bytes));
    let len = code.len() as u64;
    file.extend([HEADERS, address, address, len, len, 4096].into_iter().flat_map(u64::to_le_bytes));
    file.extend(code);
    file
}

/// Writes a file in one step, for another run may be reading the old one.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    tempfile::NamedTempFile::new_in(folder)
        .and_then(|file| {
            fs::write(file.path(), bytes)?;
            file.persist(path)?;
            Ok(())
        })
        .map_err(|error| Error::file("write", path, &error))
}

fn executable_in(messages: &str, name: &str) -> Option<PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    parsed
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| message.target.as_ref().is_some_and(|target| target.name == name))
        .find_map(|message| message.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"minikernel"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/x/other"}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"minikernel"},"executable":"/x/minikernel"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable_in(messages, "minikernel"), Some("/x/minikernel".into()));
        assert_eq!(executable_in(messages, "absent"), None);
    }
}
