//! The guest's own breakpoints among hot code: each is the guest's, with scause 3 and sepc at it, wherever a hypervisor has
//! put breakpoints of its own.
#![no_std]
#![no_main]

use features::arena::{Arena, DATA, USER_RWX};
use features::hot::{self, ECHO_AT, GET, PUT, RUNS, SSCRATCH};
use features::insn::{A0, C_EBREAK_C_NOP, EBREAK, ECALL, NOP, RET, ZERO, addi, csrrs, csrrwi};
use features::{exec, modes};
use guest_rt::isa::Exception::{self, Breakpoint, EcallFromUser, IllegalInstruction};
use guest_rt::isa::csr::sstatus::{SPIE, SPP};
use guest_rt::paging::{self, Mode, PAGE, Pte, RWX, Tables};
use guest_rt::trap::{Frame, Trap};
use guest_rt::{access, check, csr_write, user};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    among_sites();
    by_turns_at_one_place();
    for mode in modes() {
        in_user_mode(mode);
        in_another_space(mode);
    }
    a_crowd();
    a_page_of_sites();
}

const EXECUTABLE: u64 = RWX & !Pte::W;

/// The exception and sepc of a call.
fn trap_of(result: Result<u64, Trap>) -> Option<(Option<Exception>, u64)> {
    result.err().map(|trap| (Exception::from_code(trap.cause), trap.epc))
}

fn breakpoint_at(address: u64) -> Option<(Option<Exception>, u64)> {
    Some((Some(Breakpoint), address))
}

/// Privileged instructions before and behind it.
fn among_sites() {
    for (name, word) in [("ebreak", EBREAK), ("c_ebreak", C_EBREAK_C_NOP)] {
        let page = hot::page(&[PUT, word, PUT, GET, RET]);
        let mut wrong = [0; 3];
        for argument in 0..RUNS {
            let result = access::call(page, argument);
            let trap = result.err();
            wrong[0] += u64::from(trap_of(result) != breakpoint_at(page + 4));
            // Priv. spec, "Supervisor Trap Value": the address of the breakpoint, or 0.
            wrong[1] += u64::from(trap.is_none_or(|trap| trap.tval != 0 && trap.tval != page + 4));
            wrong[2] += u64::from(trap.is_none_or(|trap| trap.sstatus & (SPP | SPIE) != SPP));
            wrong[0] += u64::from(hot::call(page + ECHO_AT, argument) != Ok(argument));
        }
        check!(format_args!("{name}_among_sites_is_the_guests_own"), wrong[0], 0);
        check!(format_args!("{name}_among_sites_has_stval_at_it_or_0"), wrong[1], 0);
        check!(format_args!("{name}_among_sites_comes_from_supervisor_mode"), wrong[2], 0);
    }
}

/// At one place a privileged instruction and a breakpoint, as a kernel with probes has them.
fn by_turns_at_one_place() {
    for mapped in [false, true] {
        let arena = mapped.then(|| Arena::new(Mode::Sv39));
        let page = hot::page(&[PUT, GET, RET]);
        let base = arena.as_ref().map_or(page, |arena| {
            arena.map(DATA, page, EXECUTABLE);
            DATA
        });
        let mut wrong = 0;
        for (round, word) in [EBREAK, C_EBREAK_C_NOP].into_iter().cycle().take(16).enumerate() {
            exec::write(page + 4, &[GET]);
            wrong += hot::heat(base);
            // Also the half alone, as a probe on a compressed instruction is written.
            if round % 4 < 2 {
                exec::write(page + 4, &[word]);
            } else {
                hot::write_halves(page + 4, &[0x9002]);
                hot::write_halves(page + 6, &[0x0001]);
            }
            for argument in 0..20 {
                wrong += u64::from(trap_of(access::call(base, argument)) != breakpoint_at(base + 4));
            }
            wrong += hot::heat(base + ECHO_AT);
            wrong += u64::from(trap_of(access::call(base, 0)) != breakpoint_at(base + 4));
        }
        let name = if mapped { "sv39" } else { "untranslated" };
        check!(format_args!("{name}_a_probe_comes_and_goes_at_a_hot_site"), wrong, 0u64);
    }
    paging::deactivate();
}

/// Runs user code at `pc` and gives its exception, sepc and whether it came from user mode.
fn user_trap(pc: u64) -> (Option<Exception>, u64, bool) {
    let mut frame = Frame { pc, ..Frame::ZERO };
    let trap = user::run(&mut frame);
    (Exception::from_code(trap.cause), trap.epc, trap.sstatus & SPP == 0)
}

/// User mode executes at the very address where the kernel of another space has a hot site.
fn in_user_mode(mode: Mode) {
    let kernel_code = hot::page(&[PUT, GET, RET]);
    for (name, asids) in [("one_asid", [0, 0]), ("two_asids", [1, 2])] {
        let spaces = [Tables::with_kernel(mode), Tables::with_kernel(mode)];
        let user_code = paging::frame();
        spaces[0].map(DATA, kernel_code, 0, EXECUTABLE);
        spaces[1].map(DATA, user_code, 0, USER_RWX);
        let mut wrong = 0;
        let switch = |space: usize| {
            csr_write!(SATP, spaces[space].satp(asids[space]));
            if asids[0] == asids[1] {
                paging::fence_all();
            }
        };
        paging::fence_all();
        for (word, exception) in [
            (EBREAK, Breakpoint),
            (C_EBREAK_C_NOP, Breakpoint),
            (GET, IllegalInstruction),
            (ECALL, EcallFromUser),
            (PUT, IllegalInstruction),
        ] {
            for _ in 0..4 {
                switch(0);
                wrong += hot::heat(DATA);
                exec::write(user_code, &[NOP, word, ECALL]);
                switch(1);
                for _ in 0..20 {
                    wrong += u64::from(user_trap(DATA) != (Some(exception), DATA + 4, true));
                }
            }
            for _ in 0..20 {
                switch(0);
                wrong += u64::from(hot::call(DATA, 5) != Ok(5));
                switch(1);
                wrong += u64::from(user_trap(DATA) != (Some(exception), DATA + 4, true));
            }
        }
        check!(format_args!("{mode:?}_{name}_user_mode_at_a_hot_sites_address"), wrong, 0u64);
        paging::deactivate();
    }
}

/// Another space of the kernel's own has a breakpoint there.
fn in_another_space(mode: Mode) {
    let codes =
        [hot::page(&[PUT, GET, RET]), hot::page(&[PUT, EBREAK, RET]), hot::page(&[PUT, C_EBREAK_C_NOP, RET])];
    for (name, flags, asids) in
        [("one_asid", EXECUTABLE, [0, 0, 0]), ("three_asids", EXECUTABLE, [7, 0x8007, 0x107])]
    {
        let spaces = codes.map(|code| {
            let tables = Tables::with_kernel(mode);
            tables.map(DATA, code, 0, flags);
            tables
        });
        paging::fence_all();
        let mut wrong = 0;
        for round in 0..60 {
            let at = round % 3;
            csr_write!(SATP, spaces[at].satp(asids[at]));
            if asids[0] == asids[1] {
                paging::fence_all();
            }
            wrong += hot::heat(DATA + ECHO_AT);
            let result = access::call(DATA, 9);
            wrong +=
                u64::from(if at == 0 { result != Ok(9) } else { trap_of(result) != breakpoint_at(DATA + 4) });
        }
        check!(format_args!("{mode:?}_{name}_a_breakpoint_at_a_hot_sites_address"), wrong, 0u64);
        paging::deactivate();
    }
}

/// Many pages, with a site in one and a breakpoint in the next at the same offset: caches of sites have equal places for them.
fn a_crowd() {
    const PAGES: u64 = 64;
    let arena = Arena::new(Mode::Sv39);
    for page in 0..PAGES {
        let word = [GET, EBREAK, GET, C_EBREAK_C_NOP][page as usize % 4];
        arena.map(DATA + page * PAGE, hot::page(&[PUT, word, RET]), EXECUTABLE);
    }
    let mut wrong = 0;
    for round in 0..60 {
        for page in 0..PAGES {
            let address = DATA + page * PAGE;
            wrong += u64::from(hot::call(address + ECHO_AT, round) != Ok(round));
            let result = access::call(address, round);
            let right = if page % 2 == 0 {
                result == Ok(round)
            } else {
                trap_of(result) == breakpoint_at(address + 4)
            };
            wrong += u64::from(!right);
        }
    }
    check!("sites_and_breakpoints_at_equal_offsets_of_64_pages", wrong, 0u64);
    paging::deactivate();
}

/// Nothing but sites: more of them than a cache holds, all different.
fn a_page_of_sites() {
    let page = paging::frame();
    let last = PAGE / 4 - 1;
    // a0 counts how many of the adds came; sscratch is 0 to 31 by turns and is read back to a1.
    let words = |at: u64| match at % 4 {
        0 => csrrwi(ZERO, SSCRATCH, at as u32 / 4 % 32),
        1 => csrrs(11, SSCRATCH, ZERO),
        2 => add(A0, A0, 11),
        _ => addi(A0, A0, 1),
    };
    for at in 0..last {
        exec::write(page + 4 * at, &[words(at)]);
    }
    exec::write(page + 4 * last, &[RET]);
    let wanted: u64 =
        (0..last).map(|at| if at % 4 == 2 { at / 4 % 32 } else { u64::from(at % 4 == 3) }).sum();
    let wrong = (0..RUNS).filter(|&argument| hot::call(page, argument) != Ok(argument + wanted)).count();
    check!("a_page_full_of_sites", wrong, 0);
    // One after the other becomes a breakpoint, and is itself again.
    let mut wrong = 0;
    for at in (0..last).step_by(31) {
        exec::write(page + 4 * at, &[EBREAK]);
        wrong += u64::from(trap_of(access::call(page, 0)) != breakpoint_at(page + 4 * at));
        exec::write(page + 4 * at, &[words(at)]);
        wrong += u64::from(hot::call(page, 1) != Ok(1 + wanted));
    }
    check!("a_page_full_of_sites_with_a_probe_here_and_there", wrong, 0u64);
}

/// ADD rd, rs1, rs2.
fn add(rd: u32, rs1: u32, rs2: u32) -> u32 {
    rs2 << 20 | rs1 << 15 | rd << 7 | 0x33
}
