//! Superpages: 2 MiB, 1 GiB and, in Sv48, 512 GiB. Priv. spec, "Sv39: Page-Based 39-bit Virtual-Memory
//! System".
#![no_std]
#![no_main]

use features::arena::{self, Arena, USER_RWX, frame_with, load, store, user_call, user_load};
use features::insn::{A0, ECALL, RET, ZERO, addi};
use features::{exec, fault, modes, outcome};
use guest_rt::isa::Exception::*;
use guest_rt::isa::Width;
use guest_rt::mmio::{BEYOND_RAM, HOLE, UART};
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX, leaf_size};
use guest_rt::{access, check};

features::feature!(checks);

const RAM: u64 = 0x8000_0000;

fn checks(_hart: u64, _device_tree: u64) {
    for mode in modes() {
        for level in 1..mode.levels() {
            let arena = Arena::new(mode);
            whole(&arena, mode, level);
            misaligned(&arena, mode, level);
            for_user_mode(&arena, mode, level);
            paging::deactivate();
        }
        let arena = Arena::new(mode);
        split_and_joined(&arena, mode);
        over_devices_and_holes(&arena, mode);
        paging::deactivate();
    }
}

/// Where a test's superpage of `level` goes: the upper half, away from the kernel's own.
fn place(mode: Mode, level: usize) -> u64 {
    (!0 << (mode.address_bits() - 1)) + leaf_size(level)
}

/// Maps the superpage of `level` that holds `phys`; gives where `phys` then lies.
fn map_around(arena: &Arena, mode: Mode, level: usize, phys: u64, flags: u64) -> u64 {
    let size = leaf_size(level);
    let virt = place(mode, level);
    arena.set(virt, level, Pte::new(phys & !(size - 1), flags));
    virt + (phys & (size - 1))
}

fn whole(arena: &Arena, mode: Mode, level: usize) {
    let name = |what| Named(mode, level, what);
    let frames = paging::frames(3);
    exec::write(frames, &[addi(A0, ZERO, 21), RET]);
    arena::poke(frames + PAGE, 22);
    arena::poke(frames + 2 * PAGE, 23);
    let virt = map_around(arena, mode, level, frames, RWX);
    check!(name("fetch"), outcome(access::call(virt, 0)), Ok(21));
    check!(name("load_of_the_next_page"), outcome(load(virt + PAGE)), Ok(22));
    check!(name("load_of_the_page_behind_that"), outcome(load(virt + 2 * PAGE)), Ok(23));
    check!(name("store"), (outcome(store(virt + PAGE, 24)), arena::peek(frames + PAGE)), (Ok(()), 24));
    // The image's first bytes lie 2 MiB into RAM: another superpage of 2 MiB, the same larger one.
    if level >= 2 {
        let there = place(mode, level) + (RAM + 0x20_0000) % leaf_size(level);
        check!(name("load_far_away_in_it"), outcome(load(there)), Ok(arena::peek(RAM + 0x20_0000)));
    }
    map_around(arena, mode, level, frames, RW & !Pte::W);
    check!(name("read_only_store"), outcome(store(virt, 0)), fault(StorePageFault, virt));
    check!(name("not_executable_fetch"), outcome(access::call(virt, 0)), fault(InstructionPageFault, virt));
    let outside = place(mode, level).wrapping_sub(PAGE);
    check!(name("the_page_before_it"), outcome(load(outside)), fault(LoadPageFault, outside));
}

/// Priv. spec: a leaf whose low page-number bits are not zero is a page fault.
fn misaligned(arena: &Arena, mode: Mode, level: usize) {
    let virt = place(mode, level);
    for below in 0..level {
        arena.set(virt, level, Pte::new(leaf_size(below), RWX));
        let got = (outcome(load(virt)), outcome(store(virt, 0)), outcome(access::call(virt, 0)));
        let wanted =
            (fault(LoadPageFault, virt), fault(StorePageFault, virt), fault(InstructionPageFault, virt));
        check!(
            Named(mode, level, ["misaligned_by_4k", "misaligned_by_2m", "misaligned_by_1g"][below]),
            got,
            wanted
        );
    }
}

fn for_user_mode(arena: &Arena, mode: Mode, level: usize) {
    let frames = paging::frames(2);
    exec::write(frames, &[addi(A0, ZERO, 31), ECALL]);
    arena::poke(frames + PAGE, 32);
    let virt = map_around(arena, mode, level, frames, USER_RWX);
    arena.user_code(&arena::USER_ACCESSES);
    check!(Named(mode, level, "user_fetch"), outcome(user_call(virt, 0, 0)), Ok(31));
    check!(Named(mode, level, "user_load"), outcome(user_load(virt + PAGE)), Ok(32));
    check!(
        Named(mode, level, "supervisor_load_of_a_user_one"),
        outcome(load(virt)),
        fault(LoadPageFault, virt)
    );
}

/// Kernels split superpages to change one page, and join them again.
fn split_and_joined(arena: &Arena, mode: Mode) {
    let frame = frame_with(41);
    let virt = map_around(arena, mode, 1, frame, RWX);
    let whole = arena.tables.get(virt, 1);
    check!(Named(mode, 1, "before_the_split"), outcome(load(virt)), Ok(41));
    // The same 2 MiB by 4 KiB pages, but for the page under test.
    let table = paging::frame();
    let base = virt & !(leaf_size(1) - 1);
    for page in 0..512 {
        arena::poke(table + 8 * page, Pte::new(whole.address() + page * PAGE, RWX).0);
    }
    arena.set(virt, 1, Pte::new(table, Pte::V));
    arena.map(virt, frame_with(42), RW & !Pte::W);
    check!(Named(mode, 1, "split_shows_the_new_page"), outcome(load(virt)), Ok(42));
    check!(
        Named(mode, 1, "split_keeps_the_new_permissions"),
        outcome(store(virt, 0)),
        fault(StorePageFault, virt)
    );
    let neighbour = if virt == base { virt + PAGE } else { base };
    check!(
        Named(mode, 1, "split_keeps_the_neighbours"),
        outcome(load(neighbour)),
        Ok(arena::peek(whole.address() + (neighbour - base)))
    );
    arena.set(virt, 1, whole);
    check!(Named(mode, 1, "joined_shows_the_old_page"), outcome(load(virt)), Ok(41));
    check!(Named(mode, 1, "joined_has_the_old_permissions"), outcome(store(virt, 43)), Ok(()));
    check!(Named(mode, 1, "joined_writes_the_old_page"), arena::peek(frame), 43u64);
}

/// A superpage may cover devices and holes: each address in it is what lies there.
fn over_devices_and_holes(arena: &Arena, mode: Mode) {
    let line_status = map_around(arena, mode, 2, UART + 5, RW);
    let got = outcome(access::load(Width::Byte, line_status)).map(|status| status & 0x20);
    check!(Named(mode, 2, "a_device_inside"), got, Ok(0x20));
    let hole = map_around(arena, mode, 2, HOLE, RW);
    check!(Named(mode, 2, "a_hole_inside"), outcome(load(hole)), fault(LoadAccessFault, hole));
    let beyond = map_around(arena, mode, 2, BEYOND_RAM, RWX);
    check!(Named(mode, 2, "wholly_outside_ram"), outcome(store(beyond, 0)), fault(StoreAccessFault, beyond));
}

/// A check's name with the mode and size in front.
struct Named(Mode, usize, &'static str);

impl core::fmt::Display for Named {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}_{}_{}", self.0, ["4k", "2m", "1g", "512g"].get(self.1).unwrap_or(&"?"), self.2)
    }
}
