//! Instructions of which some firmware complains on the console when user mode executes them: each is the kernel's fault to
//! handle, every time, and the program's memory is what it has stored. How often anybody complains is seen from outside.
#![no_std]
#![no_main]

use features::arena::{Arena, USER};
use features::exec;
use features::hot::RUNS;
use features::insn::{A0, A1, ECALL, MRET, NOP, SFENCE_VMA, SRET, WFI, ld, sd};
use guest_rt::isa::Exception::{self, EcallFromUser, IllegalInstruction};
use guest_rt::paging::{self, Mode, PAGE};
use guest_rt::trap::{Frame, Trap};
use guest_rt::{check, user};

features::feature!(checks);

/// SYSTEM with funct3 = 0 and rd = x1: reserved.
const RESERVED: u32 = 0x73 | 1 << 7;
/// HLV.D zero, (a0): the H extension's, or, where there is none, reserved.
const HLV: u32 = 0x6c05_4073;

fn checks(_hart: u64, _device_tree: u64) {
    for mode in [Mode::Sv39, Mode::Sv48] {
        let arena = Arena::new(mode);
        for (name, word) in [
            ("sret", SRET),
            ("wfi", WFI),
            ("sfence", SFENCE_VMA),
            ("mret", MRET),
            ("reserved", RESERVED),
            ("hlv", HLV),
        ] {
            each_time(&arena, &format_args!("{mode:?}_{name}"), word);
        }
        at_the_end_of_a_page(&arena, mode);
        paging::deactivate();
    }
}

/// What a trap was, where, and with which value.
fn what(trap: Trap) -> (Option<Exception>, u64, u64) {
    (Exception::from_code(trap.cause), trap.epc, trap.tval)
}

/// What the program loads from an address.
fn load(address: u64) -> u64 {
    let mut frame = Frame { pc: USER + 12, ..Frame::ZERO };
    frame.x[A0 as usize] = address;
    user::run(&mut frame);
    frame.x[A0 as usize]
}

/// `word` traps each time, also while the program and the kernel read and write its page.
fn each_time(arena: &Arena, name: &core::fmt::Arguments, word: u32) {
    let code = [NOP, word, ECALL, ld(A0, A0, 0), ECALL, sd(A1, A0, 0), ECALL];
    let page = exec::page(&code);
    arena.map(USER, page, features::arena::USER_RWX);
    let illegal = (Some(IllegalInstruction), USER + 4, u64::from(word));
    let runs = || (0..RUNS).filter(|_| what(user::call(USER, 0, 0)) != illegal).count();
    check!(format_args!("{name}_is_illegal"), runs(), 0);
    // The program loads it.
    check!(format_args!("{name}_is_loaded_as_it_is"), load(USER), u64::from(word) << 32 | u64::from(NOP));
    // It stores beside it; the kernel sees that, and the other way round.
    user::call(USER + 20, USER + 0x800, 0x1234_5678);
    // SAFETY: a frame that was taken for code.
    let seen = unsafe { ((page + 0x800) as *const u64).read_volatile() };
    check!(format_args!("{name}_what_it_stores_is_there"), seen, 0x1234_5678);
    check!(format_args!("{name}_is_illegal_after_a_store"), runs(), 0);
    exec::write(page + 0x800, &[0x9abc_def0, 0]);
    check!(format_args!("{name}_what_the_kernel_stores_is_there"), load(USER + 0x800), 0x9abc_def0);
    // Another instruction in its place, and it again.
    let mut wrong = 0;
    for _ in 0..4 {
        exec::write(page + 4, &[NOP]);
        wrong += u64::from(what(user::call(USER, 0, 0)).0 != Some(EcallFromUser));
        exec::write(page + 4, &[word]);
        wrong += u64::from(what(user::call(USER, 0, 0)) != illegal);
    }
    check!(format_args!("{name}_comes_and_goes"), wrong, 0);
}

/// Torn by a page's end.
fn at_the_end_of_a_page(arena: &Arena, mode: Mode) {
    let pages = paging::frames(2);
    arena.map(USER, pages, features::arena::USER_RWX);
    arena.map(USER + PAGE, pages + PAGE, features::arena::USER_RWX);
    features::hot::write_halves(pages + PAGE - 2, &[SRET as u16, (SRET >> 16) as u16]);
    let illegal = (Some(IllegalInstruction), USER + PAGE - 2, u64::from(SRET));
    let wrong = (0..RUNS).filter(|_| what(user::call(USER + PAGE - 2, 0, 0)) != illegal).count();
    check!(format_args!("{mode:?}_torn_is_illegal"), wrong, 0);
}
