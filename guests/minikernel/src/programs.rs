//! The user programs, which are part of the kernel's image: `build.rs` builds them and makes the table.

/// A program.
pub struct Program {
    /// The name that `run` takes.
    pub name: &'static str,
    /// Its ELF file.
    pub elf: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// The program with this name.
pub fn find(name: &str) -> Option<&'static Program> {
    PROGRAMS.iter().find(|program| program.name == name)
}
