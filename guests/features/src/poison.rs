//! Patterns that are left in memory and registers, to see whether they turn up somewhere else. Each guest has one of its own.

use core::arch::asm;
use guest_rt::isa::csr::sstatus::{FS_INITIAL, VS, VS_INITIAL};
use guest_rt::{csr_clear, csr_read, csr_set, image};

/// The first byte of RAM.
pub const RAM: u64 = 0x8000_0000;
/// Where RAM ends: what the manifest gives these guests.
pub const RAM_END: u64 = RAM + (16 << 20);
/// Bytes that the device tree has at most.
pub const TREE: u64 = 2 << 20;
/// Bytes of the longest vector registers that these guests look at.
const VLENB: usize = 256;

type Vectors = [u8; 32 * VLENB];
static mut VECTORS: Vectors = [0; 32 * VLENB];

/// A guest's pattern: this byte, eight times.
pub fn pattern(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// The words of memory that are neither the image nor the device tree.
pub fn memory(device_tree: u64) -> impl Iterator<Item = u64> {
    let used = [image::text().start..image::data().end, device_tree..device_tree + TREE];
    let is_used = move |page: &u64| used.iter().any(|range| range.contains(page));
    let pages = (RAM..RAM_END).step_by(4096).filter(move |page| !is_used(page));
    // A few words of each page: there is little time.
    pages.flat_map(|page| (page..page + 4096).step_by(256))
}

/// The floating-point registers.
pub fn floats() -> [u64; 32] {
    let mut values = [0; 32];
    csr_set!(SSTATUS, FS_INITIAL);
    // SAFETY: stores 32 registers that Rust does not use.
    unsafe {
        asm!(".option push", ".option arch, +d",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fsd f\\n, 8 * \\n({})", ".endr", ".option pop", in(reg) values.as_mut_ptr(), options(nostack));
    }
    values
}

/// Puts a value into all floating-point registers.
pub fn set_floats(value: u64) {
    csr_set!(SSTATUS, FS_INITIAL);
    // SAFETY: writes registers that Rust does not use.
    unsafe {
        asm!(".option push", ".option arch, +d",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fmv.d.x f\\n, {}", ".endr", ".option pop", in(reg) value, options(nostack));
    }
}

/// Whether there are vector registers, not too long to be looked at.
pub fn has_vectors() -> bool {
    csr_set!(SSTATUS, VS_INITIAL);
    let has = csr_read!(SSTATUS) & VS != 0;
    csr_clear!(SSTATUS, VS);
    has && vlenb() <= VLENB
}

fn vlenb() -> usize {
    let bytes;
    csr_set!(SSTATUS, VS_INITIAL);
    // SAFETY: reads a constant, vlenb.
    unsafe { asm!("csrr {}, 0xc22", out(reg) bytes, options(nomem, nostack)) };
    bytes
}

/// The bytes of all vector registers. There have to be some.
pub fn vectors() -> &'static [u8] {
    let len = 32 * vlenb();
    let to = &raw mut VECTORS;
    // SAFETY: one hart, and no reference outlives the next call; `len` bytes are written, which were measured.
    unsafe {
        asm!(".option push", ".option arch, +v",
            "vs8r.v v0, ({to})", "add {to}, {to}, {eight}", "vs8r.v v8, ({to})", "add {to}, {to}, {eight}",
            "vs8r.v v16, ({to})", "add {to}, {to}, {eight}", "vs8r.v v24, ({to})",
            ".option pop", to = inout(reg) to => _, eight = in(reg) len / 4, options(nostack));
        core::slice::from_raw_parts(to.cast(), len)
    }
}

/// Puts a value into all bytes of all vector registers.
pub fn set_vectors(byte: u8) {
    csr_set!(SSTATUS, VS_INITIAL);
    // SAFETY: writes registers that Rust does not use.
    unsafe {
        asm!(".option push", ".option arch, +v", "vsetvli t0, zero, e8, m8, ta, ma",
            "vmv.v.x v0, {0}", "vmv.v.x v8, {0}", "vmv.v.x v16, {0}", "vmv.v.x v24, {0}",
            ".option pop", in(reg) u64::from(byte), out("t0") _, options(nomem, nostack));
    }
}
