//! A bare guest that measures each kind of exit: one privileged operation in a loop, less the loop itself.
//!
//! It prints `bench NAME ITERATIONS TICKS` for `cargo xtask bench` to read. Under QEMU's `-icount` a tick of
//! the 10 MHz clock is 100 instructions, so loops are long enough for a tick not to matter. It runs in Sv39
//! with interrupts off; `round_trips` holds what needs a trap vector or user mode of its own. With `bench=code-read` in its
//! command line it measures that alone, which takes a second.
#![no_std]
#![no_main]

mod poking;
mod reading;
mod round_trips;
mod spinning;
mod teaching;
mod timing;

use guest_rt::isa::csr::sstatus;
use guest_rt::paging::{self, Mode, PAGE, RW, Tables};
use guest_rt::{console, csr_clear, csr_read, csr_set, csr_write, println, sbi, time};

use timing::{item, net_ticks, report};

guest_rt::entry!(main);

/// Often enough that a tick is below one hundredth of a one-instruction operation.
const MANY: u64 = 20_000;
/// For operations that natively take hundreds of instructions.
const SOME: u64 = 2_000;

/// Pages mapped at [`FRESH`]: what two second-level entries map.
const FRESH_PAGES: u64 = 1024;
/// Virtual and physical address of memory that nothing has touched before.
const FRESH: u64 = 0x1_0000_0000;
const FRESH_PHYS: u64 = 0x8400_0000;
/// A page that is mapped to one of two others, and where those are.
const CHANGING: u64 = 0x1_4000_0000;
const CHANGING_PHYS: u64 = 0x8300_0000;

/// Base extension, function 0: which version of the SBI this is.
const GET_SPEC_VERSION: u64 = 0;
/// The PLIC's priority register of source 1.
const PLIC_PRIORITY: *const u32 = 0x0c00_0004 as *const u32;

fn main(_hart: u64, device_tree: u64) {
    // The clock starts with the machine.
    report("start", 1, time::now());
    let tables = Tables::with_kernel(Mode::Sv39);
    let other = Tables::with_kernel(Mode::Sv39);
    let only_reading = is_told(device_tree, b"bench=code-read");
    tables.activate(1);
    if only_reading {
        return reading::measure();
    }

    csrs();
    fences(&tables, &other);
    firmware();
    devices();
    fresh_memory(&tables);
    round_trips::measure(&tables);
    spinning::measure();
    poking::measure(&tables);
    teaching::measure();
    tables.activate(1);
    reading::measure();
    poking::measure_many();
    teaching::measure_growing();
}

/// Whether a text is in the device tree, for instance in the kernel command line.
fn is_told(device_tree: u64, text: &[u8]) -> bool {
    // SAFETY: the boot protocol says that there is a device tree, and its second word how long it is; nobody writes to it.
    let tree = unsafe {
        let size = u32::from_be((device_tree as *const u32).add(1).read_volatile());
        core::slice::from_raw_parts(device_tree as *const u8, size as usize)
    };
    tree.windows(text.len()).any(|window| window == text)
}

fn csrs() {
    item("csr-read", MANY, || {
        csr_read!(SSCRATCH);
    });
    item("csr-write", MANY, || csr_write!(SSCRATCH, 0));
    // What a kernel does most: interrupts off, with a look at what they were. They are off already.
    item("interrupts-off", MANY, || {
        csr_clear!(SSTATUS, sstatus::SIE);
    });
    item("sum-set-clear", MANY, || {
        csr_set!(SSTATUS, sstatus::SUM);
        csr_clear!(SSTATUS, sstatus::SUM);
    });
}

fn fences(tables: &Tables, other: &Tables) {
    item("sfence-va", MANY, || paging::fence_address(FRESH));
    item("sfence-all", MANY, paging::fence_all);
    // As above, but one entry is another each time.
    let mut page = CHANGING_PHYS;
    item("sfence-changed", SOME, || {
        page ^= PAGE;
        tables.map(CHANGING, page, 0, RW);
        paging::fence_all();
        // SAFETY: a page just mapped, which no Rust object lies in.
        unsafe { (CHANGING as *const u64).read_volatile() };
    });
    let (here, there) = (tables.satp(8), other.satp(16));
    let pair = || {
        csr_write!(SATP, there);
        csr_write!(SATP, here);
    };
    // The first time, the hypervisor makes the other address space.
    pair();
    report("satp-switch", MANY, net_ticks(MANY / 2, pair));
}

fn firmware() {
    item("sbi-base", SOME, || {
        sbi::call2(sbi::BASE, GET_SPEC_VERSION, 0, 0);
    });
    // Never: the interrupt that is due is none.
    item("sbi-set-timer", SOME, || {
        sbi::set_timer(u64::MAX);
    });
}

fn devices() {
    // SAFETY: a register of the PLIC without side effects, mapped one to one.
    item("mmio-read", MANY, || unsafe {
        PLIC_PRIORITY.read_volatile();
    });
    let characters = net_ticks(SOME, || console::put(b'.'));
    println!();
    report("uart-character", SOME, characters);
}

/// Touches pages that are mapped already. For a hypervisor the first pass gives out memory and fills its
/// shadow; after a fence only the shadow is to be filled again.
fn fresh_memory(tables: &Tables) {
    for page in 0..FRESH_PAGES {
        tables.map(FRESH + page * PAGE, FRESH_PHYS + page * PAGE, 0, RW);
    }
    paging::fence_all();
    let touch_all = || {
        let mut next = FRESH;
        move || {
            // SAFETY: a page of the range just mapped, which no Rust object lies in.
            unsafe { (next as *mut u64).write_volatile(1) };
            next += PAGE;
        }
    };
    item("first-touch", FRESH_PAGES, touch_all());
    paging::fence_all();
    item("touch-after-fence", FRESH_PAGES, touch_all());
}
