//! From reset to the next stage. All harts arrive at once; one sets the machine up, the others wait for it.

use crate::uart::println;
use crate::{enter, hart, map, sbi, uart, vector};
use core::arch::global_asm;
use core::slice;
use core::sync::atomic::{AtomicBool, Ordering};
use firmware::tree::{self, Machine};

/// Whether the machine is set up. Not in .bss, which the waiting harts must not see being cleared: QEMU loads the rest
/// again at each reset.
#[unsafe(link_section = ".data")]
static READY: AtomicBool = AtomicBool::new(false);

// a0 = hart, a1 = device tree, a2 = what QEMU says of the next stage. Other harts than the first wait for `READY`
// before they use a stack: there may be more harts than stacks. Only the first one clears .bss.
global_asm!(
    ".pushsection .text.entry, \"ax\"",
    ".globl _start",
    "_start:",
    "    csrw mie, zero",
    "    csrci mstatus, 8",
    "    csrw mscratch, zero",
    "    lla t0, {entry}",
    "    csrw mtvec, t0",
    "    csrr a0, mhartid",
    "    bnez a0, 2f",
    "    lla t0, __bss_start",
    "    lla t1, __bss_end",
    "1:  bgeu t0, t1, 4f",
    "    sd zero, 0(t0)",
    "    addi t0, t0, 8",
    "    j 1b",
    // Woken by a software interrupt, which is enabled and not taken.
    "2:  csrwi mie, 8",
    "3:  wfi",
    "    lla t0, {ready}",
    "    lbu t0, 0(t0)",
    "    beqz t0, 3b",
    "    fence",
    "    li t0, {max_harts}",
    "    bgeu a0, t0, 3b",
    "4:  lla sp, __stacks",
    "    li t0, {stack}",
    "    addi t1, a0, 1",
    "    mul t0, t0, t1",
    "    add sp, sp, t0",
    "    bnez a0, 5f",
    "    j {first}",
    "5:  j {other}",
    ".popsection",
    entry = sym vector::entry,
    ready = sym READY,
    max_harts = const firmware::harts::MAX_HARTS,
    stack = const enter::STACK,
    first = sym first,
    other = sym other,
);

/// The hart that boots: QEMU's `virt` always has a hart 0.
extern "C" fn first(_hart: u64, tree: *mut u8, dynamic: *const Dynamic) -> ! {
    uart::init();
    let machine = match machine(tree) {
        Ok(machine) => machine,
        Err(wrong) => panic!("{wrong}"),
    };
    hart::init();
    sbi::init(&machine);
    let next = next_stage(dynamic);
    println!("RustSBI firmware {}: {} harts", env!("CARGO_PKG_VERSION"), machine.harts.iter().count());
    READY.store(true, Ordering::Release);
    for hart in machine.harts.iter().filter(|&hart| hart != hart::id()) {
        map::msip(hart).write(1);
    }
    sbi::hsm::boot();
    enter::supervisor(next, tree as u64)
}

/// Any other hart: waits to be started.
extern "C" fn other() -> ! {
    hart::init();
    sbi::hsm::wait_for_start()
}

/// Reads the device tree and adds the reservation of our own memory to it.
fn machine(tree: *mut u8) -> Result<Machine, &'static str> {
    if tree.is_null() || !(tree as usize).is_multiple_of(8) {
        return Err("QEMU gave no device tree");
    }
    // SAFETY: QEMU has put a device tree there, in RAM that nobody else uses yet; eight bytes of it are its magic
    // number, which `size` looks at, and its size.
    let size = tree::size(unsafe { tree.cast::<[u8; 8]>().read() }).ok_or("QEMU gave no device tree")?;
    // SAFETY: as above; the tree is that long.
    let bytes = unsafe { slice::from_raw_parts(tree, size) };
    let machine = tree::read(bytes, map::OWN.start).ok_or("the device tree has no RAM to run in")?;
    let end = (tree as u64).checked_add((size + tree::GROWTH) as u64);
    let fits = end.is_some_and(|end| tree as u64 >= map::OWN.end && end <= machine.ram.end);
    if fits {
        // SAFETY: the tree, which is read no more by itself, and memory behind it: RAM, and by QEMU's layout free.
        let buffer = unsafe { slice::from_raw_parts_mut(tree, size + tree::GROWTH) };
        if tree::reserve(buffer, map::OWN_NODE, &map::OWN).is_some() {
            return Ok(machine);
        }
    }
    println!("firmware: its memory could not be reserved in the device tree");
    Ok(machine)
}

/// What QEMU tells a firmware that is not part of the next stage ("dynamic information" in OpenSBI's terms).
#[repr(C)]
struct Dynamic {
    magic: u64,
    version: u64,
    next: u64,
}

/// "OSBI".
const DYNAMIC: u64 = 0x4942_534f;

fn next_stage(dynamic: *const Dynamic) -> u64 {
    if !map::ROM.contains(&(dynamic as usize)) || !dynamic.is_aligned() {
        return map::NEXT;
    }
    // SAFETY: aligned and in the ROM, which is larger than the highest such address and this structure together.
    let dynamic = unsafe { dynamic.read() };
    if dynamic.magic == DYNAMIC && dynamic.next != 0 { dynamic.next } else { map::NEXT }
}
