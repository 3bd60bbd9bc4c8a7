//! sstatus.SUM and MXR: what they open, and that they take effect at once, without a fence.
//! Priv. spec, "Memory Privilege in sstatus Register".
#![no_std]
#![no_main]

use features::arena::{self, Arena, DATA, frame_with, load, store, user_load, user_store};
use features::insn::{A0, RET, ZERO, addi};
use features::{Outcome, exec, fault, modes, outcome};
use guest_rt::isa::Exception::*;
use guest_rt::isa::csr::sstatus::{MXR, SUM};
use guest_rt::paging::{self, Mode, Pte};
use guest_rt::{access, check, csr_clear, csr_set};

features::feature!(checks);

const A_D: u64 = Pte::V | Pte::A | Pte::D;

fn checks(_hart: u64, _device_tree: u64) {
    without_translation();
    for mode in modes() {
        let arena = Arena::new(mode);
        arena.user_code(&arena::USER_ACCESSES);
        all_combinations(&arena, mode);
        at_once(&arena, mode);
        fetches(&arena, mode);
        in_user_mode(&arena, mode);
        paging::deactivate();
    }
}

/// Runs `body` with these bits of sstatus set.
fn with<T>(bits: u64, body: impl FnOnce() -> T) -> T {
    csr_set!(SSTATUS, bits);
    let result = body();
    csr_clear!(SSTATUS, SUM | MXR);
    result
}

fn without_translation() {
    let frame = frame_with(3);
    let got = with(SUM | MXR, || outcome(load(frame)));
    check!("neither_matters_without_translation", got, Ok(3));
}

/// Each kind of page under each setting, from supervisor mode.
fn all_combinations(arena: &Arena, mode: Mode) {
    let frame = frame_with(5);
    for (page, flags) in [
        ("read_write", Pte::R | Pte::W),
        ("execute_only", Pte::X),
        ("read_execute", Pte::R | Pte::X),
        ("user_read_write", Pte::U | Pte::R | Pte::W),
        ("user_execute_only", Pte::U | Pte::X),
        ("user_read_only", Pte::U | Pte::R),
    ] {
        arena.map(DATA, frame, flags | A_D);
        for (setting, bits) in [("none", 0), ("sum", SUM), ("mxr", MXR), ("sum_and_mxr", SUM | MXR)] {
            let reachable = flags & Pte::U == 0 || bits & SUM != 0;
            let readable = flags & Pte::R != 0 || (flags & Pte::X != 0 && bits & MXR != 0);
            let got = with(bits, || (outcome(load(DATA)), outcome(store(DATA, 5))));
            let wanted: (Outcome<u64>, Outcome<()>) = (
                if reachable && readable { Ok(5) } else { fault(LoadPageFault, DATA) },
                if reachable && flags & Pte::W != 0 { Ok(()) } else { fault(StorePageFault, DATA) },
            );
            check!(format_args!("{mode:?}_{page}_page_with_{setting}"), got, wanted);
        }
    }
}

/// Toggles with the page already in use on both sides.
fn at_once(arena: &Arena, mode: Mode) {
    arena.map(DATA, frame_with(6), Pte::U | Pte::R | Pte::W | A_D);
    let mut seen = [false; 6];
    for (round, slot) in seen.iter_mut().enumerate() {
        *slot = with(if round % 2 == 0 { SUM } else { 0 }, || load(DATA).is_ok());
    }
    check!(format_args!("{mode:?}_sum_takes_effect_at_once"), seen, [true, false, true, false, true, false]);
    arena.map(DATA, frame_with(7), Pte::X | A_D);
    for (round, slot) in seen.iter_mut().enumerate() {
        *slot = with(if round % 2 == 0 { MXR } else { 0 }, || load(DATA).is_ok());
    }
    check!(format_args!("{mode:?}_mxr_takes_effect_at_once"), seen, [true, false, true, false, true, false]);
    arena.map(DATA, frame_with(8), Pte::U | Pte::R | A_D);
    let kept = with(SUM, || (user_load(DATA).is_ok(), load(DATA).is_ok()));
    check!(format_args!("{mode:?}_sum_survives_a_visit_to_user_mode"), kept, (true, true));
}

/// Neither bit lets supervisor mode fetch from a user page, or anyone from a page that is not executable.
fn fetches(arena: &Arena, mode: Mode) {
    let code = exec::page(&[addi(A0, ZERO, 9), RET]);
    arena.map(DATA, code, Pte::U | Pte::R | Pte::X | A_D);
    let got = with(SUM | MXR, || outcome(access::call(DATA, 0)));
    check!(
        format_args!("{mode:?}_sum_does_not_open_user_pages_to_fetches"),
        got,
        fault(InstructionPageFault, DATA)
    );
    arena.map(DATA, code, Pte::R | A_D);
    let got = with(SUM | MXR, || outcome(access::call(DATA, 0)));
    check!(
        format_args!("{mode:?}_mxr_does_not_make_pages_executable"),
        got,
        fault(InstructionPageFault, DATA)
    );
}

/// MXR works in user mode too; SUM means nothing there.
fn in_user_mode(arena: &Arena, mode: Mode) {
    arena.map(DATA, frame_with(10), Pte::U | Pte::X | A_D);
    let without = outcome(user_load(DATA));
    let mxr = with(MXR, || (outcome(user_load(DATA)), outcome(user_store(DATA, 1))));
    check!(format_args!("{mode:?}_user_load_of_an_execute_only_page"), without, fault(LoadPageFault, DATA));
    check!(format_args!("{mode:?}_user_accesses_of_it_with_mxr"), mxr, (Ok(10), fault(StorePageFault, DATA)));
    arena.map(DATA, frame_with(11), Pte::R | A_D);
    let sum = with(SUM, || outcome(user_load(DATA)));
    check!(
        format_args!("{mode:?}_sum_does_not_open_supervisor_pages_to_user"),
        sum,
        fault(LoadPageFault, DATA)
    );
}
