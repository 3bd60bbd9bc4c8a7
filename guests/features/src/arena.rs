//! Page tables for a test: the kernel one to one, and a place of its own for what is under test.

use crate::exec;
use crate::insn::{self, A0, A1, ECALL};
use guest_rt::isa::{Exception, Width};
use guest_rt::paging::{self, Mode, Pte, Tables};
use guest_rt::trap::{Frame, Trap};
use guest_rt::{access, user};

/// Where the tests map data: an address that is canonical and unused in every mode.
pub const DATA: u64 = 0x10_0000_0000;
/// Where the tests map user code.
pub const USER: u64 = 0x10_4000_0000;

/// All permissions of user mode, accessed and dirty.
pub const USER_RWX: u64 = paging::RWX | Pte::U;

/// Page tables under test, active.
pub struct Arena {
    /// The tables.
    pub tables: Tables,
}

impl Arena {
    /// Tables that map the kernel, turned on with ASID 0.
    pub fn new(mode: Mode) -> Self {
        let tables = Tables::with_kernel(mode);
        tables.activate(0);
        Self { tables }
    }

    /// Maps the page at `virt` to `phys` with `flags`, and fences.
    pub fn map(&self, virt: u64, phys: u64, flags: u64) {
        self.set(virt, 0, Pte::new(phys, flags));
    }

    /// Writes the entry for `virt` at `level` and fences everything, since entries above may have come new.
    pub fn set(&self, virt: u64, level: usize, entry: Pte) {
        self.tables.set(virt, level, entry);
        paging::fence_all();
    }

    /// Maps a new page with these instructions for user mode at [`USER`].
    pub fn user_code(&self, words: &[u32]) {
        self.map(USER, exec::page(words), USER_RWX);
    }
}

/// User code for [`user_load`] and [`user_store`].
pub const USER_ACCESSES: [u32; 4] = [insn::ld(A0, A0, 0), ECALL, insn::sd(A1, A0, 0), ECALL];

/// Loads a double word in user mode. [`USER_ACCESSES`] must be mapped at [`USER`].
pub fn user_load(virt: u64) -> Result<u64, Trap> {
    user_call(USER, virt, 0)
}

/// Stores a double word in user mode. [`USER_ACCESSES`] must be mapped at [`USER`].
pub fn user_store(virt: u64, value: u64) -> Result<(), Trap> {
    user_call(USER + 8, virt, value).map(drop)
}

/// Runs user code that ends in an ECALL and gives its a0, or says which other trap came.
pub fn user_call(pc: u64, a0: u64, a1: u64) -> Result<u64, Trap> {
    let mut frame = Frame { pc, ..Frame::ZERO };
    (frame.x[10], frame.x[11]) = (a0, a1);
    let trap = user::run(&mut frame);
    if trap.is(Exception::EcallFromUser) { Ok(frame.x[10]) } else { Err(trap) }
}

/// A new frame whose first double word is `value`.
pub fn frame_with(value: u64) -> u64 {
    let frame = paging::frame();
    poke(frame, value);
    frame
}

/// Reads a double word of a frame by its physical address.
pub fn peek(frame: u64) -> u64 {
    // SAFETY: a frame of the pool, mapped one to one.
    unsafe { (frame as *const u64).read_volatile() }
}

/// Writes a double word of a frame by its physical address.
pub fn poke(frame: u64, value: u64) {
    // SAFETY: a frame of the pool, mapped one to one; no object of Rust's lies there.
    unsafe { (frame as *mut u64).write_volatile(value) }
}

/// Loads a double word at a virtual address.
pub fn load(virt: u64) -> Result<u64, Trap> {
    access::load(Width::Double, virt)
}

/// Stores a double word at a virtual address.
pub fn store(virt: u64, value: u64) -> Result<(), Trap> {
    access::store(Width::Double, virt, value)
}
