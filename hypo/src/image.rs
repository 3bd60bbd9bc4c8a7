//! The hypervisor's image as QEMU loads it: flat, or with an address.

use crate::kernel::Kernel;
use hypo_common::build;
use hypo_common::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The hypervisor's package and program.
const HYPERVISOR: &str = "hypocaust";

/// Builds the hypervisor and gives the path of its flat image: a Linux `Image`, whose header is part of it.
///
/// # Errors
/// It does not compile, or the flat image cannot be written beside it.
pub fn hypervisor() -> Result<PathBuf> {
    let elf = build::program(HYPERVISOR)?;
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
