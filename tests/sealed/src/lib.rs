//! What a program that forbids unsafe code cannot do with our crates: make the assembly read a wild address, jump to a wild
//! handler, or run under a wild root. `cargo xtask lint` turns each feature on and expects this error, and no other:
//!
//! - hints-by-number: E0616
//! - memory-by-number: E0616
//! - root-by-number: E0423
//! - root-without-authority: E0133
//! - satp-by-number: E0308
//! - handlers-of-ones-own: E0423
//! - handlers-without-authority: E0133
//! - site-by-number: E0616
//! - authority-by-hand: E0423
//! - authority-simulated: E0599
//! - authority-with-unsafe: usage of an `unsafe` block
//! - words-by-number: E0451
//! - tables-by-number: E0451
//! - ram-by-number: E0599
//! - window-overwritten: E0624
//! - registers-elsewhere: E0616
//! - guard-lifted: E0616
//! - units-invented: E0616
//! - image-moved: E0616
//!
//! Without a feature it compiles: what an attempt is refused stands beside what is allowed.
#![no_std]
#![cfg(target_arch = "riscv64")]
#![forbid(unsafe_code)]
#![allow(missing_docs, unused_variables, clippy::missing_const_for_fn)]

extern crate alloc;

use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::sync::atomic::AtomicU64;

use hart::memory::HostMemory;
use hart::{Hart, Image};
use isa::paging::{Mode, Pte};
use memory::{GuestPhysAddr, GuestRam, HartAuthority, HostPhysAddr, HostWords};
use mmu::{AsidBlock, ContextKey, ShadowMmu};
use vhart::{
    HandlerTables, Handlers, HostTables, RootSatp, Roots, ShadowTables, SharedTable, VcpuFrame, Window,
};

/// The hints come from the shadow that owns them, and the memory from the RAM.
pub fn hints_and_memory(frame: &mut VcpuFrame, ram: &GuestRam, shadow: &ShadowMmu) {
    frame.fast.set_memory(ram, shadow.hints());
    #[cfg(feature = "hints-by-number")]
    {
        frame.fast.hints = 0x1234_5678;
    }
    #[cfg(feature = "memory-by-number")]
    {
        frame.fast.memory.plain = 0x1234_5678;
    }
}

/// A root comes from the shadow, too.
pub fn root(frame: &mut VcpuFrame, ram: &GuestRam, shadow: &mut ShadowMmu, key: ContextKey) -> RootSatp {
    let root = shadow.activate(ram, key);
    let root = shadow.satp(root);
    #[cfg(feature = "root-by-number")]
    let root = RootSatp(NonZeroU64::MIN);
    #[cfg(feature = "root-without-authority")]
    let root = RootSatp::new(NonZeroU64::MIN, HartAuthority::new());
    frame.fast.roots = Roots { user: Some(root), ..Roots::NONE };
    root
}

/// A guest runs under a root.
pub fn run(hart: &mut Hart, frame: &mut VcpuFrame, root: RootSatp) {
    #[cfg(not(feature = "satp-by-number"))]
    hart.run(frame, root);
    #[cfg(feature = "satp-by-number")]
    hart.run(frame, root.bits());
}

/// Sites are served by the assembly of `hart`.
pub fn sites(frame: &mut VcpuFrame, tables: HandlerTables) {
    let handlers = hart::fast::handlers();
    #[cfg(feature = "handlers-of-ones-own")]
    let handlers = Handlers(tables);
    #[cfg(feature = "handlers-without-authority")]
    let handlers = Handlers::new(tables, HartAuthority::new());
    frame.fast.sites.set_handlers(handlers);
    frame.fast.sites.insert(0x1234, 0, 0x1020_0073, 1);
    #[cfg(feature = "site-by-number")]
    {
        frame.fast.sites.places[0].field = 1 << 40;
    }
}

/// Who has an authority was given it.
pub fn authority(given: HartAuthority, words: &'static [AtomicU64]) -> HostWords {
    let authority = given;
    #[cfg(feature = "authority-by-hand")]
    let authority = HartAuthority(());
    #[cfg(feature = "authority-simulated")]
    let authority = HartAuthority::simulated();
    #[cfg(feature = "authority-with-unsafe")]
    let authority = unsafe { HartAuthority::new() };
    HostWords::new(words, HostPhysAddr(0), authority)
}

/// Where memory lies is said by who hands it out.
pub fn guest(memory: &mut HostMemory, asids: Option<AsidBlock>) -> Option<(GuestRam, ShadowMmu)> {
    let words = memory.take_guest_words(2 << 20, 2 << 20)?;
    #[cfg(feature = "words-by-number")]
    let words = HostWords { words: words.words(), at: HostPhysAddr(0x1234_0000) };
    let tables = memory.take_tables(512)?;
    #[cfg(feature = "tables-by-number")]
    let tables = HostTables { base: HostPhysAddr(0x1234_0000), ..tables };
    #[cfg(feature = "ram-by-number")]
    let ram = GuestRam::new(words.words(), GuestPhysAddr(0), HostPhysAddr(0x1234_0000), Vec::new());
    #[cfg(not(feature = "ram-by-number"))]
    let ram = GuestRam::of(words, GuestPhysAddr(0), Vec::new());
    Some((ram, ShadowMmu::new(tables, asids)))
}

/// The entries of a root are written where the hypervisor's window is not.
pub fn window(tables: &ShadowTables) {
    tables.set(0, 256, 0);
    #[cfg(feature = "window-overwritten")]
    tables.table(0).map(|table| table.entries()[256].set(0));
}

/// The guest's registers and CSRs are written one by one.
pub fn registers(frame: &mut VcpuFrame) {
    frame.set(isa::Reg::A0, 1);
    frame.follow_interrupts();
    #[cfg(feature = "registers-elsewhere")]
    {
        frame.host_sp = 0x1234_5678;
    }
    #[cfg(feature = "guard-lifted")]
    {
        frame.fast.status_guard = 0;
    }
    #[cfg(feature = "units-invented")]
    {
        frame.csr.units_written = u64::MAX;
    }
}

/// The image is where the linker says.
pub fn image() -> u64 {
    #[cfg(not(feature = "image-moved"))]
    let image = Image::locate();
    #[cfg(feature = "image-moved")]
    let mut image = Image::locate();
    #[cfg(feature = "image-moved")]
    {
        image.start = HostPhysAddr(0);
    }
    image.extent().size
}

/// What the attempts name.
pub type Named = (Mode, Pte, NonZeroU64, SharedTable, Window, HostTables, Handlers, vmm::Vcpu);
