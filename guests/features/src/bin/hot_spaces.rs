//! Hot code at one virtual address that means different things: in several address spaces, after a remapping with each kind
//! of fence, in superpages that are split and joined; and one page of code at several addresses.
#![no_std]
#![no_main]

use features::arena::{Arena, DATA};
use features::hot::{self, ECHO, ECHO_AT, GET, PUT, RUNS, Returned, SSCRATCH, raised};
use features::insn::{A0, A1, EBREAK, RET, ZERO, addi, csrrs, csrrw};
use features::{exec, modes};
use guest_rt::isa::Exception::{Breakpoint, InstructionPageFault};
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX, Tables};
use guest_rt::{check, csr_write};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    for mode in modes() {
        spaces_by_turns(mode);
        one_page_in_many_spaces(mode);
        remapped(mode);
        superpage_split_and_joined(mode);
    }
    modes_by_turns();
    aliases();
    more_than_can_be_copied();
}

const EXECUTABLE: u64 = RWX & !Pte::W;

/// What a function gives, by its argument.
type Want = fn(u64) -> Returned;

/// What stands at the second word of each space's page, and what its function gives.
const CODES: [(u32, Want); 6] = [
    (GET, Ok),
    (addi(A0, A0, 3), |argument| Ok(argument + 3)),
    (EBREAK, |_| raised(Breakpoint)),
    (csrrw(A0, SSCRATCH, ZERO), Ok),
    (csrrs(A1, SSCRATCH, ZERO), Ok),
    (addi(A0, ZERO, 44), |_| Ok(44)),
];

/// Six spaces, each with code of its own at one address.
fn spaces_by_turns(mode: Mode) {
    for (name, asids) in [
        ("no_asids", [0; 6]),
        ("six_asids", [1, 2, 3, 4, 5, 6]),
        ("asids_alike_in_their_low_bits", [9, 0x109, 0x209, 0x1009, 0x4009, 0x8009]),
    ] {
        let spaces = CODES.map(|(word, _)| {
            let tables = Tables::with_kernel(mode);
            tables.map(DATA, hot::page(&[PUT, word, RET]), 0, EXECUTABLE);
            tables
        });
        paging::fence_all();
        let mut wrong = 0;
        let enter = |space: usize| {
            csr_write!(SATP, spaces[space].satp(asids[space]));
            if asids[0] == asids[1] {
                paging::fence_all();
            }
        };
        // Long in each, then by turns.
        for (rounds, runs) in [(2, RUNS), (60, 3)] {
            for round in 0..rounds * spaces.len() {
                // Not always the same one before.
                let space = (round * 5 + round / 6) % spaces.len();
                enter(space);
                wrong += (0..runs)
                    .filter(|&argument| hot::call(DATA, argument) != (CODES[space].1)(argument))
                    .count();
                wrong += usize::from(hot::call(DATA + ECHO_AT, 8) != Ok(8));
            }
        }
        check!(format_args!("{mode:?}_{name}_each_space_runs_its_own_code"), wrong, 0);
        paging::deactivate();
    }
}

/// A kernel's text is in all spaces; patched in one, it is new in all.
fn one_page_in_many_spaces(mode: Mode) {
    for (name, flags) in [("global", EXECUTABLE | Pte::G), ("not_global", EXECUTABLE)] {
        let page = hot::page(&[PUT, GET, RET]);
        let spaces = [11, 12, 13, 14].map(|asid| {
            let tables = Tables::with_kernel(mode);
            tables.map(DATA, page, 0, flags);
            (tables, asid)
        });
        paging::fence_all();
        let mut wrong = 0;
        for round in 0..40 {
            let (word, want) = CODES[round % CODES.len()];
            csr_write!(SATP, spaces[round % 3].0.satp(spaces[round % 3].1));
            exec::write(page + 4, &[word]);
            for (tables, asid) in &spaces {
                csr_write!(SATP, tables.satp(*asid));
                wrong += (0..40).filter(|&argument| hot::call(DATA, argument) != want(argument)).count();
            }
        }
        check!(format_args!("{mode:?}_{name}_patched_in_one_space_new_in_all"), wrong, 0);
        paging::deactivate();
    }
}

/// Another frame at the hot address, with each fence that covers it.
fn remapped(mode: Mode) {
    type Fence = fn();
    let fences: [(&str, u64, Fence); 6] = [
        ("all", EXECUTABLE, paging::fence_all),
        ("address", EXECUTABLE, || paging::fence_address(DATA)),
        ("asid", EXECUTABLE, || paging::fence_asid(5)),
        ("address_and_asid", EXECUTABLE, || paging::fence_address_asid(DATA, 5)),
        ("all_for_a_global_page", EXECUTABLE | Pte::G, paging::fence_all),
        ("address_for_a_global_page", EXECUTABLE | Pte::G, || paging::fence_address(DATA)),
    ];
    let pages = CODES.map(|(word, _)| hot::page(&[PUT, word, RET]));
    for (name, flags, fence) in fences {
        let tables = Tables::with_kernel(mode);
        tables.map(DATA, pages[0], 0, flags);
        tables.activate(5);
        let mut wrong = 0;
        for round in 0..30 {
            let code = round * 5 % pages.len();
            tables.map(DATA, pages[code], 0, flags);
            fence();
            let want = CODES[code].1;
            wrong += (0..60).filter(|&argument| hot::call(DATA, argument) != want(argument)).count();
            wrong += usize::from(hot::call(DATA + ECHO_AT, 8) != Ok(8));
            if round % 7 == 6 {
                tables.set(DATA, 0, Pte(0));
                fence();
                wrong += usize::from(hot::call(DATA, 0) != raised(InstructionPageFault));
            }
        }
        check!(format_args!("{mode:?}_remapped_and_fenced_by_{name}"), wrong, 0);
        paging::deactivate();
    }
}

/// RAM that nothing else uses, 2 MiB-aligned.
const SPARE: u64 = 0x8800_0000;
/// Bytes of a superpage.
const SUPERPAGE: u64 = 2 << 20;
/// Which of its pages are hot.
const HOT_PAGES: [u64; 5] = [0, 1, 77, 300, 511];

fn superpage_split_and_joined(mode: Mode) {
    for page in HOT_PAGES {
        exec::write(SPARE + page * PAGE, &[PUT, GET, RET]);
    }
    let other = hot::page(&[PUT, addi(A0, A0, 3), RET]);
    let tables = Tables::with_kernel(mode);
    tables.activate(6);
    let joined = Pte::new(SPARE, EXECUTABLE);
    // The table that takes the superpage's place, filled in beforehand.
    let split_table = paging::frame();
    let slot = |page: u64| (split_table + 8 * page) as *mut u64;
    for page in 0..512 {
        let frame = if page == 77 { other } else { SPARE + page * PAGE };
        // SAFETY: a frame that was taken for a table.
        unsafe { slot(page).write_volatile(Pte::new(frame, EXECUTABLE).0) };
    }
    // SAFETY: as above. One page is missing.
    unsafe { slot(300).write_volatile(0) };
    let split = Pte::new(split_table, Pte::V);
    let mut wrong = [0; 2];
    for round in 0..8 {
        let fence = |address: u64| match round % 2 {
            0 => paging::fence_all(),
            _ => paging::fence_address(address),
        };
        // A pointer goes: only a fence of all addresses is sure to reach what it led to.
        tables.set(DATA, 1, joined);
        paging::fence_all();
        for page in HOT_PAGES {
            wrong[0] += hot::heat(DATA + page * PAGE);
        }
        tables.set(DATA, 1, split);
        // A leaf goes: any address in it does.
        fence(DATA + HOT_PAGES[round as usize % HOT_PAGES.len()] * PAGE);
        for page in HOT_PAGES {
            wrong[1] += hot::wrong(DATA + page * PAGE, |argument| match page {
                77 => Ok(argument + 3),
                300 => raised(InstructionPageFault),
                _ => Ok(argument),
            });
        }
        // Data behind the code, written by the kernel's own mapping, is not disturbed.
        let (first, last) = (SPARE + 0x800, SPARE + SUPERPAGE - 8);
        features::arena::poke(first, round);
        features::arena::poke(last, round);
        let read = [DATA + 0x800, DATA + SUPERPAGE - 8].map(features::arena::load);
        wrong[1] += u64::from(read != [Ok(round), Ok(round)]);
    }
    check!(format_args!("{mode:?}_hot_code_in_a_superpage"), wrong[0], 0);
    check!(format_args!("{mode:?}_hot_code_in_a_superpage_that_was_split"), wrong[1], 0);
    paging::deactivate();
}

/// The same root's address with another mode, and no translation at all.
fn modes_by_turns() {
    let here = hot::page(&[PUT, GET, RET]);
    let there = hot::page(&[PUT, addi(A0, A0, 3), RET]);
    let sv39 = Tables::with_kernel(Mode::Sv39);
    // The frame's own address leads elsewhere where it is mapped by 4 KiB pages.
    let sv48 = paging::supports(Mode::Sv48).then(|| Tables::with_kernel(Mode::Sv48));
    sv39.map(DATA, here, 0, EXECUTABLE);
    if let Some(sv48) = sv48 {
        sv48.map(DATA, there, 0, EXECUTABLE);
    }
    let mut wrong = 0;
    for _ in 0..20 {
        csr_write!(SATP, sv39.satp(0));
        paging::fence_all();
        wrong += (0..60).filter(|&argument| hot::call(DATA, argument) != Ok(argument)).count();
        if let Some(sv48) = sv48 {
            csr_write!(SATP, sv48.satp(0));
            paging::fence_all();
            wrong += (0..60).filter(|&argument| hot::call(DATA, argument) != Ok(argument + 3)).count();
        }
        csr_write!(SATP, 0);
        wrong += (0..60).filter(|&argument| hot::call(here, argument) != Ok(argument)).count();
        wrong += (0..60).filter(|&argument| hot::call(there, argument) != Ok(argument + 3)).count();
    }
    check!("modes_by_turns", wrong, 0);
    paging::deactivate();
}

/// One page of code at many addresses, all hot, patched by each of them.
fn aliases() {
    let arena = Arena::new(Mode::Sv39);
    let page = hot::page(&[PUT, GET, RET]);
    let addresses = [DATA, DATA + PAGE, DATA + (1 << 21), DATA + (2 << 30)];
    addresses.iter().for_each(|&address| arena.map(address, page, RWX));
    let mut wrong = 0;
    for round in 0..24 {
        let (word, want) = CODES[round % CODES.len()];
        exec::write(addresses[round % 4] + 4, &[word]);
        for address in addresses.into_iter().chain([page]) {
            wrong += (0..60).filter(|&argument| hot::call(address, argument) != want(argument)).count();
        }
    }
    check!("one_page_at_five_addresses", wrong, 0);
    paging::deactivate();
}

/// More hot pages than a hypervisor will keep copies of.
fn more_than_can_be_copied() {
    const PAGES: u64 = 3000;
    let arena = Arena::new(Mode::Sv39);
    let frame = |page: u64| SPARE + page * PAGE;
    for page in 0..PAGES {
        exec::write(frame(page), &ECHO);
        arena.tables.map(DATA + page * PAGE, frame(page), 0, EXECUTABLE);
    }
    paging::fence_all();
    let mut wrong = [0; 3];
    for page in 0..PAGES {
        wrong[0] +=
            (0..40).filter(|&argument| hot::call(DATA + page * PAGE, argument) != Ok(argument)).count();
    }
    // Every other one is patched, all are run.
    for page in (0..PAGES).step_by(2) {
        exec::write(frame(page) + 4, &[addi(A0, A0, 3)]);
    }
    for page in 0..PAGES {
        let more = if page % 2 == 0 { 3 } else { 0 };
        wrong[1] += (0..40).filter(|&a0| hot::call(DATA + page * PAGE, a0) != Ok(a0 + more)).count();
    }
    // And all become data.
    for page in 0..PAGES {
        arena.tables.map(DATA + page * PAGE, frame(page), 0, RW);
        paging::fence_address(DATA + page * PAGE);
        wrong[2] += usize::from(hot::call(DATA + page * PAGE, 0) != raised(InstructionPageFault));
        features::arena::poke(DATA + page * PAGE, page);
        wrong[2] += usize::from(features::arena::peek(frame(page)) != page);
    }
    check!("three_thousand_hot_pages", wrong, [0, 0, 0]);
    paging::deactivate();
}
