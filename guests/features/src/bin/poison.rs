//! One of several guests that share a hart, each with a pattern of its own: looks that memory and registers hold nothing
//! when it starts, fills them, sees to it that they keep what they hold while others run, and resets itself; at `END` it
//! powers off. Its kernel command line says which pattern: `poison=a` to `z`, and `poison=-` touches no register.
#![no_std]
#![no_main]

use core::arch::asm;
use core::ptr;
use features::role;
use guest_rt::isa::Interrupt;
use guest_rt::isa::csr::sstatus::{FS, FS_INITIAL, VS, VS_INITIAL};
use guest_rt::time::{FREQUENCY, now};
use guest_rt::{check, csr_clear, csr_read, csr_set, image, sbi};

features::feature!(checks);

/// In ticks.
const END: u64 = 2 * FREQUENCY;
const LIFE: u64 = FREQUENCY / 5;
/// What the manifest gives it.
const RAM: u64 = 0x8000_0000;
const RAM_END: u64 = RAM + (16 << 20);
const TREE: u64 = 2 << 20;
/// Bytes of the longest vector registers that this guest looks at.
const VLENB: usize = 256;

type Vectors = [u8; 32 * VLENB];
static mut VECTORS: Vectors = [0; 32 * VLENB];

fn checks(_hart: u64, device_tree: u64) {
    let role = role(device_tree, "poison=").as_bytes().first().copied().unwrap_or(b'?');
    let poison = 0x0101_0101_0101_0101 * u64::from(role);
    let dirty = memory(device_tree).find(|at| read(*at) != 0).map(|at| (at, read(at)));
    check!("memory_is_zero", dirty, None);
    memory(device_tree).for_each(|at| write(at, poison));
    let uses_units = role != b'-';
    let has_vectors = has_vectors();
    if uses_units {
        check!("floating_point_registers_are_zero", floats(), [0; 32]);
        set_floats(poison);
    }
    if uses_units && has_vectors {
        check!("vector_registers_are_zero", vectors().iter().all(|byte| *byte == 0));
        set_vectors(role);
    }
    let (mut floats_keep, mut vectors_keep) = (true, true);
    let end = now() + LIFE;
    csr_set!(SIE, Interrupt::Timer.mask());
    let mut rounds = 0_u64;
    while now() < end {
        if uses_units {
            floats_keep &= floats() == [poison; 32];
            vectors_keep &= !has_vectors || vectors().iter().all(|byte| *byte == role);
        }
        // Off and on again, and others in between.
        rounds += 1;
        if rounds.is_multiple_of(3) {
            csr_clear!(SSTATUS, FS | VS);
        }
        sbi::set_timer(now() + 1000);
        // SAFETY: waits.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }
    check!("floating_point_registers_keep", floats_keep);
    check!("vector_registers_keep", vectors_keep);
    let changed = memory(device_tree).find(|at| read(*at) != poison).map(|at| (at, read(at)));
    check!("memory_keeps", changed, None);
    check!("it_was_not_alone", rounds > 10);
    if now() < END && guest_rt::check::summary("a life") {
        sbi::system_reset(1, 0);
    }
}

/// The words of memory that are neither the image nor the device tree.
fn memory(device_tree: u64) -> impl Iterator<Item = u64> {
    let used = [image::text().start..image::data().end, device_tree..device_tree + TREE];
    let is_used = move |page: &u64| used.iter().any(|range| range.contains(page));
    let pages = (RAM..RAM_END).step_by(4096).filter(move |page| !is_used(page));
    // A few words of each page: there is little time.
    pages.flat_map(|page| (page..page + 4096).step_by(256))
}

fn read(address: u64) -> u64 {
    // SAFETY: RAM that nothing else uses.
    unsafe { ptr::read_volatile(address as *const u64) }
}

fn write(address: u64, value: u64) {
    // SAFETY: as above.
    unsafe { ptr::write_volatile(address as *mut u64, value) }
}

fn floats() -> [u64; 32] {
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

fn set_floats(value: u64) {
    csr_set!(SSTATUS, FS_INITIAL);
    // SAFETY: writes registers that Rust does not use.
    unsafe {
        asm!(".option push", ".option arch, +d",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fmv.d.x f\\n, {}", ".endr", ".option pop", in(reg) value, options(nostack));
    }
}

fn has_vectors() -> bool {
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

/// The bytes of all vector registers.
fn vectors() -> &'static [u8] {
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

fn set_vectors(byte: u8) {
    csr_set!(SSTATUS, VS_INITIAL);
    // SAFETY: writes registers that Rust does not use.
    unsafe {
        asm!(".option push", ".option arch, +v", "vsetvli t0, zero, e8, m8, ta, ma",
            "vmv.v.x v0, {0}", "vmv.v.x v8, {0}", "vmv.v.x v16, {0}", "vmv.v.x v24, {0}",
            ".option pop", in(reg) u64::from(byte), out("t0") _, options(nomem, nostack));
    }
}
