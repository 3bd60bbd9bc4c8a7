//! Builds what runs on the bare machine: our own kernel, a firmware, and what the image is made of.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target that everything bare-metal is built for. It has neither F nor V, so those registers stay the guest's:
/// *integer-only*.
pub const TARGET: &str = "riscv64imac-unknown-none-elf";
/// The workspace's profile for it.
pub const PROFILE: &str = "image";

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
    // The package is `hypo/common`.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
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
pub fn program(name: &str) -> Result<PathBuf> {
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

    /// *integer-only*
    #[test]
    fn the_target_has_neither_floating_point_nor_vectors() {
        let isa = TARGET.split('-').next().unwrap().strip_prefix("riscv64").unwrap();
        assert!(!isa.contains(['f', 'd', 'q', 'v', 'g']), "{isa}");
    }

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
