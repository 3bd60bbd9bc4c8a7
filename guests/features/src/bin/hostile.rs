//! A guest that means no good: garbage for instructions, jumps to nowhere, page tables over devices and
//! holes, the SBI with arguments at the borders of their ranges. It must get the architecture's faults, and
//! live on.
#![no_std]
#![no_main]

use features::arena::{Arena, DATA, USER, USER_RWX, load, store};
use features::insn::ECALL;
use features::native::{forgive, native};
use features::random::Random;
use features::{exception, exec, fault, modes, outcome};
use guest_rt::isa::Exception::{self, *};
use guest_rt::isa::{Interrupt::Timer, Width};
use guest_rt::mmio::{self, BEYOND_RAM, HOLE, PLIC, UART, plic};
use guest_rt::paging::{self, Mode, PAGE, Pte, RWX};
use guest_rt::sbi::{self, BASE, DBCN, HSM, IPI, RFENCE, SRST, TIME, call};
use guest_rt::time::{self, now};
use guest_rt::trap::{Frame, catch};
use guest_rt::{access, check, check_any, csr_clear, csr_write, user};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    nowhere();
    odd_tables();
    privileged_space();
    garbage();
    firmware();
    check!("the_machine_lives_on", sbi::call2(BASE, 0, 0, 0).error, 0i64);
}

/// Addresses that are no memory, without translation.
fn nowhere() {
    for (name, at) in [
        ("a_hole", HOLE),
        ("far_above_ram", BEYOND_RAM),
        ("the_last_physical_page", (1 << 56) - PAGE),
        ("above_all_physical_memory", 1 << 56),
        ("the_sign_bit", 1 << 63),
        ("the_end", u64::MAX - 7),
    ] {
        check!(format_args!("load_at_{name}"), outcome(load(at)), fault(LoadAccessFault, at));
        check!(format_args!("store_at_{name}"), outcome(store(at, 0)), fault(StoreAccessFault, at));
        check!(
            format_args!("jump_to_{name}"),
            outcome(access::call(at, 0)),
            fault(InstructionAccessFault, at)
        );
        for width in [Width::Byte, Width::Half, Width::Word] {
            let got = outcome(access::load(width, at));
            check!(format_args!("{width:?}_load_at_{name}"), got, fault(LoadAccessFault, at));
        }
    }
    // An access that begins in the last byte of the address space has nowhere to end.
    let at = u64::MAX;
    let got = exception(access::load(Width::Double, at));
    check_any!("a_load_that_wraps_around", got, [Some(LoadAccessFault), Some(LoadAddressMisaligned)]);
    let got = outcome(access::load(Width::Byte, at));
    check!("a_byte_at_the_last_address", got, fault(LoadAccessFault, at));
    // c.jr ra, in a register of the PLIC. QEMU fetches from devices.
    mmio::write32(plic::enable(0), 0x8082);
    let got = forgive(exception(access::call(plic::enable(0), 0)), None, Some(InstructionAccessFault));
    mmio::write32(plic::enable(0), 0);
    check!("a_jump_into_a_device", got, Some(InstructionAccessFault));
}

fn odd_tables() {
    for mode in modes() {
        let arena = Arena::new(mode);
        arena.map(DATA, paging::frame(), RWX);
        let table = arena.tables.get(DATA, 1);
        for (name, phys) in [("the_uart", UART & !0xfff), ("the_plic", PLIC)] {
            arena.set(DATA, 1, Pte::new(phys, Pte::V));
            // Tables lie in memory; QEMU reads them wherever they are.
            let got = outcome(load(DATA));
            check_any!(
                format_args!("{mode:?}_a_table_over_{name}"),
                got,
                [fault(LoadAccessFault, DATA), fault(LoadPageFault, DATA)]
            );
        }
        // A table that is its own entry: still a pointer at the last level.
        arena.set(DATA, 1, table);
        arena.set(DATA, 0, table);
        check!(
            format_args!("{mode:?}_a_table_that_holds_itself"),
            outcome(load(DATA)),
            fault(LoadPageFault, DATA)
        );
        arena.set(DATA, 0, Pte::new(table.address(), RWX));
        check!(
            format_args!("{mode:?}_a_table_that_maps_itself"),
            outcome(load(DATA)).map(|entry| entry & 0x3f),
            Ok(RWX & 0x3f)
        );
        let own = arena.tables.root();
        arena.set(DATA, 1, Pte::new(own, Pte::V));
        check!(format_args!("{mode:?}_the_root_as_a_last_table"), exception(load(DATA)).is_some());
        arena.set(DATA, 1, table);
        arena.set(DATA, 0, Pte(u64::MAX));
        check!(
            format_args!("{mode:?}_an_entry_of_all_ones"),
            outcome(load(DATA)),
            fault(LoadPageFault, DATA)
        );
        arena.set(DATA, 0, Pte((u64::MAX >> 10) & !0x3ff | RWX));
        check!(
            format_args!("{mode:?}_the_highest_page_number"),
            outcome(load(DATA)),
            fault(LoadAccessFault, DATA)
        );
        paging::deactivate();
    }
}

/// All 4,096 immediates of the SYSTEM opcode with funct3 = 0, x0 and x0, in user mode.
fn privileged_space() {
    let arena = Arena::new(Mode::Sv39);
    let code = paging::frame();
    arena.map(USER, code, USER_RWX);
    let mut wrong = 0;
    let mut last = 0;
    for immediate in 0..4096u32 {
        let word = immediate << 20 | 0x73;
        exec::write(code, &[word, ECALL]);
        let trap = user::call(USER, 0, 0);
        let right = match (immediate, Exception::from_code(trap.cause)) {
            (0, got) => got == Some(EcallFromUser) && trap.epc == USER,
            (1, got) => got == Some(Breakpoint),
            // WFI and WRS may end by themselves.
            (0x105 | 0x00d | 0x01d, Some(EcallFromUser)) => true,
            // QEMU with Svinval lets SFENCE.W.INVAL and SFENCE.INVAL.IR pass, also in whom it runs below us.
            (0x180 | 0x181, Some(EcallFromUser)) => true,
            (_, got) => got == Some(IllegalInstruction) && trap.epc == USER,
        };
        if !right {
            wrong += 1;
            last = word;
        }
    }
    check!("every_privileged_encoding_is_illegal_in_user_mode", (wrong, last), (0, 0));
    paging::deactivate();
}

/// Random words in user mode, and what may come of them.
fn garbage() {
    const WORDS: u32 = 3000;
    let arena = Arena::new(Mode::Sv39);
    let code = paging::frame();
    arena.map(USER, code, USER_RWX & !Pte::W);
    exec::write(code, &[ECALL; 1024]);
    csr_write!(SIE, Timer.mask());
    let mut random = Random::new(0);
    let (mut wrong, mut last) = (0, (0, 0));
    for _ in 0..WORDS {
        let word = random.number() as u32;
        exec::write(code, &[word]);
        let mut frame = Frame { pc: USER, ..Frame::ZERO };
        for register in &mut frame.x {
            *register = random.number() >> random.below(64);
        }
        // A branch to itself ends by the timer.
        sbi::set_timer(now() + time::FREQUENCY / 1000);
        let trap = user::run(&mut frame);
        let expected = trap.cause == Timer.cause()
            || matches!(
                Exception::from_code(trap.cause),
                Some(
                    IllegalInstruction
                        | Breakpoint
                        | EcallFromUser
                        | InstructionPageFault
                        | LoadPageFault
                        | StorePageFault
                        | LoadAddressMisaligned
                        | StoreAddressMisaligned
                        | LoadAccessFault
                        | StoreAccessFault
                )
            );
        if !expected {
            wrong += 1;
            last = (word, trap.cause);
        }
    }
    csr_write!(SIE, 0);
    sbi::set_timer(u64::MAX);
    check!("garbage_gives_only_faults_of_its_own", (wrong, last), (0, (0, 0)));
    paging::deactivate();
}

/// Calls of all kinds with arguments at their borders, but for those that rightly print, suspend or power
/// off.
fn firmware() {
    const BORDERS: [u64; 9] =
        [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64, 1 << 32, u32::MAX as u64, HOLE];
    let native = native();
    let mut odd = 0;
    let mut last = (0, 0, 0);
    let mut try_call = |extension: u64, function, arguments| {
        let mut error = 0;
        // The legacy extensions hand faults of their pointers on.
        let trap = catch(|| error = call(extension, function, arguments).error);
        let fine = trap.map_or((-9..=0).contains(&error) || extension < 9, |trap| {
            extension < 9 && matches!(Exception::from_code(trap.cause), Some(LoadAccessFault | LoadPageFault))
        });
        if !fine {
            odd += 1;
            last = (extension, function, error);
        }
    };
    for extension in [BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN, 0x0123_4567, u64::MAX, 0, 3, 4, 5, 6, 7] {
        for function in [0, 1, 2, 3, 4, 5, 6, 7, 8, u32::MAX.into()] {
            for first in BORDERS {
                for second in BORDERS {
                    let ends = match (extension, function) {
                        (SRST, 0) => first as u32 <= 2,
                        (HSM, 1) => true,
                        (HSM, 3) => matches!(first as u32, 0 | 0x8000_0000),
                        // OpenSBI's dies of addresses that are no memory.
                        (DBCN, function) => function == 2 || native,
                        _ => false,
                    };
                    if !ends {
                        try_call(extension, function, [first, second, second, first, 0, 0]);
                    }
                }
            }
        }
    }
    sbi::set_timer(u64::MAX);
    csr_clear!(SIP, guest_rt::isa::Interrupt::Software.mask());
    check!("the_sbi_answers_with_its_errors", (odd, last), (0, (0, 0, 0)));
}
