//! Flat binaries: nothing to read, so they go where QEMU puts them.

use super::contents::{Format, Kernel, LOAD_ADDRESS, Piece};

pub(super) fn parse(file: Vec<u8>) -> Kernel {
    let occupied = file.len() as u64;
    let piece = Piece { address: LOAD_ADDRESS, data: file, occupied };
    Kernel { format: Format::Flat, entry: LOAD_ADDRESS, pieces: vec![piece] }
}
