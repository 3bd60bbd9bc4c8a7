//! Address-space identifiers: switching satp without a fence. Priv. spec, "Supervisor Address Translation and
//! Protection Register".
#![no_std]
#![no_main]

use features::arena::{self, DATA, USER, USER_RWX, frame_with, load, store, user_load};
use features::{exec, fault, modes, outcome};
use guest_rt::isa::Exception::LoadPageFault;
use guest_rt::paging::{self, Mode, Pte, RW, RWX, Tables, fence_all, fence_asid};
use guest_rt::{check, csr_read, csr_write};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    for mode in modes() {
        spaces_are_apart(mode);
        many_spaces(mode);
        global_pages(mode);
        an_asid_used_again(mode);
        bare_between(mode);
    }
    if paging::supports(Mode::Sv48) {
        modes_between();
    }
}

/// A tree with the kernel and one page at DATA that holds `value`.
fn space(mode: Mode, value: u64, flags: u64) -> (Tables, u64) {
    let tables = Tables::with_kernel(mode);
    let frame = frame_with(value);
    tables.map(DATA, frame, 0, flags);
    (tables, frame)
}

fn switch(tables: &Tables, asid: u16) {
    csr_write!(SATP, tables.satp(asid));
}

fn spaces_are_apart(mode: Mode) {
    // Two that differ in their highest bit only: all 16 count.
    for (name, first_asid, second_asid) in [("low", 1, 2), ("high", 0x0001, 0x8001), ("zero", 0, 0xffff)] {
        let (first, first_frame) = space(mode, 10, RW);
        let (second, second_frame) = space(mode, 20, RW);
        fence_all();
        let mut seen = [0; 6];
        for (round, slot) in seen.iter_mut().enumerate() {
            let (tables, asid) = if round % 2 == 0 { (&first, first_asid) } else { (&second, second_asid) };
            switch(tables, asid);
            *slot = load(DATA).unwrap_or(0);
            let _ = store(DATA, *slot + 1);
        }
        paging::deactivate();
        check!(format_args!("{mode:?}_{name}_asids_see_their_own_pages"), seen, [10, 20, 11, 21, 12, 22]);
        let held = (arena::peek(first_frame), arena::peek(second_frame));
        check!(format_args!("{mode:?}_{name}_asids_write_their_own_pages"), held, (13, 23));
    }
}

/// More spaces than any cache of roots is likely to hold.
fn many_spaces(mode: Mode) {
    const SPACES: u16 = 24;
    let code = exec::page(&arena::USER_ACCESSES);
    let spaces: [Tables; SPACES as usize] = core::array::from_fn(|number| {
        let tables = Tables::with_kernel(mode);
        tables.map(DATA, frame_with(1000 + number as u64), 0, RWX | Pte::U);
        tables.map(USER, code, 0, USER_RWX);
        tables
    });
    fence_all();
    let mut wrong = 0;
    for _ in 0..3 {
        for (asid, tables) in (100..).zip(&spaces) {
            switch(tables, asid);
            let wanted = 1000 + u64::from(asid - 100);
            wrong += u32::from(!user_load(DATA).is_ok_and(|value| value == wanted));
        }
    }
    paging::deactivate();
    check!(format_args!("{mode:?}_user_mode_in_{SPACES}_spaces_sees_each_its_own"), wrong, 0u32);
}

/// A page that all spaces map alike and mark so.
fn global_pages(mode: Mode) {
    let frame = frame_with(30);
    let [first, second] = [1, 2].map(|_| {
        let tables = Tables::with_kernel(mode);
        tables.map(DATA, frame, 0, RW | Pte::G);
        tables
    });
    fence_all();
    switch(&first, 11);
    let in_first = outcome(load(DATA));
    switch(&second, 12);
    let in_second = outcome(load(DATA));
    fence_asid(12);
    let after = outcome(load(DATA));
    paging::deactivate();
    check!(
        format_args!("{mode:?}_global_pages_are_in_all_spaces"),
        (in_first, in_second, after),
        (Ok(30), Ok(30), Ok(30))
    );
}

/// An operating system gives an identifier to another space after a fence of it.
fn an_asid_used_again(mode: Mode) {
    let (first, _) = space(mode, 40, RW);
    let (second, _) = space(mode, 50, RW);
    let other = Tables::with_kernel(mode);
    fence_all();
    switch(&first, 5);
    let before = outcome(load(DATA));
    switch(&other, 6);
    fence_asid(5);
    switch(&second, 5);
    let reused = outcome(load(DATA));
    switch(&other, 6);
    let unmapped = outcome(load(DATA));
    paging::deactivate();
    check!(format_args!("{mode:?}_an_asid_used_again_after_a_fence"), (before, reused), (Ok(40), Ok(50)));
    check!(format_args!("{mode:?}_a_space_without_the_page_faults"), unmapped, fault(LoadPageFault, DATA));
}

/// Bare and back, with the space's pages as they were.
fn bare_between(mode: Mode) {
    let (tables, frame) = space(mode, 60, RW);
    fence_all();
    switch(&tables, 9);
    let before = outcome(load(DATA));
    csr_write!(SATP, 0);
    let bare = arena::peek(frame);
    arena::poke(frame, 61);
    switch(&tables, 9);
    let after = outcome(load(DATA));
    let held = csr_read!(SATP);
    paging::deactivate();
    check!(format_args!("{mode:?}_bare_in_between"), (before, bare, after), (Ok(60), 60, Ok(61)));
    check!(format_args!("{mode:?}_satp_holds_mode_asid_and_root"), held, tables.satp(9));
}

/// Sv39 and Sv48 in turn, each with its own identifier.
fn modes_between() {
    let (small, _) = space(Mode::Sv39, 70, RW);
    let (large, _) = space(Mode::Sv48, 80, RW);
    fence_all();
    let mut seen = [0; 4];
    for (round, slot) in seen.iter_mut().enumerate() {
        if round % 2 == 0 {
            switch(&small, 3)
        } else {
            switch(&large, 4)
        }
        *slot = load(DATA).unwrap_or(0);
    }
    paging::deactivate();
    check!("sv39_and_sv48_in_turn", seen, [70, 80, 70, 80]);
}
