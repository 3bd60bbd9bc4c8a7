//! Who may execute, read and write hot code: SUM and MXR while it runs, user mode on the same physical page, rights given
//! and taken. A fault is the guest's own, and what faults has no effect.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena, DATA, USER, USER_ACCESSES, USER_RWX, peek, user_load, user_store};
use features::hot::{self, ECHO_AT, GET, PUT, RUNS, raised};
use features::insn::{A0, EBREAK, ECALL, RET, ZERO, addi};
use features::{exec, fault, modes, outcome};
use guest_rt::isa::Exception::{
    self, Breakpoint, EcallFromUser, IllegalInstruction, InstructionPageFault, LoadPageFault, StorePageFault,
};
use guest_rt::isa::csr::sstatus::{FS, MXR, SPP, SUM};
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX};
use guest_rt::trap::{Frame, Trap, catch};
use guest_rt::{check, csr_clear, csr_read, csr_set, user};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    csr_set!(SSTATUS, FS);
    for mode in modes() {
        sum_in_hot_code(mode);
        mxr_in_hot_code(mode);
        user_mode_on_the_same_page(mode);
        stores_that_may_not(mode);
        given_and_taken(mode);
    }
    csr_clear!(SSTATUS, FS);
}

const EXECUTABLE: u64 = RWX & !Pte::W;
/// The double word at the start of a page of [`PUT`] and [`GET`].
const PAIR: u64 = (GET as u64) << 32 | PUT as u64;

features::code! {
    /// Loads from a user's page as kernels do, SUM on for just that.
    fn copy_from_user = "li t0, 0x40000", "csrs sstatus, t0", "ld a0, 0(a0)", "csrc sstatus, t0", "ret";
    fn copy_to_user = "li t0, 0x40000", "csrs sstatus, t0", "sd a0, 0(a0)", "csrc sstatus, t0", "ret";
    /// Forgets it.
    fn bare_load = "csrr t1, sstatus", "ld a0, 0(a0)", "ret";
    /// MXR on for a load from what is execute-only.
    fn read_code = "li t0, 0x80000", "csrs sstatus, t0", "ld a0, 0(a0)", "csrc sstatus, t0", "ret";
}

/// Where the routines are in their page.
const SECOND: u64 = 0x100;
const THIRD: u64 = 0x200;

fn sum_in_hot_code(mode: Mode) {
    let arena = Arena::new(mode);
    let page = hot::page_of(copy_from_user());
    hot::write_halves(page + SECOND, copy_to_user());
    hot::write_halves(page + THIRD, bare_load());
    arena.map(DATA, page, EXECUTABLE);
    let frame = arena::frame_with(77);
    arena.map(USER, frame, USER_RWX);
    let mut wrong = [0; 4];
    for _ in 0..RUNS {
        arena::poke(frame, 77);
        wrong[0] += u64::from(hot::call(DATA, USER) != Ok(77));
        wrong[1] += u64::from(hot::call(DATA + SECOND, USER) != Ok(USER) || peek(frame) != USER);
        let trap = guest_rt::access::call(DATA + THIRD, USER).err();
        let got = trap.map(|trap| (trap.cause, trap.tval, trap.epc));
        wrong[2] += u64::from(got != Some((LoadPageFault.code(), USER, DATA + THIRD + 4)));
        wrong[3] += u64::from(csr_read!(SSTATUS) & (SUM | MXR) != 0);
    }
    check!(format_args!("{mode:?}_loads_with_sum"), wrong[0], 0);
    check!(format_args!("{mode:?}_stores_with_sum"), wrong[1], 0);
    check!(format_args!("{mode:?}_loads_without_sum_fault"), wrong[2], 0);
    check!(format_args!("{mode:?}_sum_is_off_afterwards"), wrong[3], 0);
    // SUM on all the time: hot code runs as well.
    csr_set!(SSTATUS, SUM | MXR);
    let went = hot::heat(DATA + ECHO_AT);
    let user = hot::call(USER, 0);
    csr_clear!(SSTATUS, SUM | MXR);
    check!(format_args!("{mode:?}_hot_code_under_sum_and_mxr"), went, 0);
    check!(format_args!("{mode:?}_sum_lets_nobody_execute_user_pages"), user, raised(InstructionPageFault));
    paging::deactivate();
}

fn mxr_in_hot_code(mode: Mode) {
    let arena = Arena::new(mode);
    let page = hot::page_of(read_code());
    hot::write_halves(page + THIRD, bare_load());
    let target = hot::page(&[PUT, GET, RET]);
    let execute_only = Pte::V | Pte::X | Pte::A | Pte::D;
    let mut wrong = [0; 3];
    for flags in [execute_only, EXECUTABLE] {
        arena.map(DATA, page, execute_only);
        arena.map(DATA + PAGE, target, flags);
        for argument in 0..RUNS {
            wrong[0] += u64::from(hot::call(DATA + PAGE, argument) != Ok(argument));
            wrong[1] += u64::from(hot::call(DATA, DATA + PAGE) != Ok(PAIR));
            // The code itself.
            let first =
                u64::from_le_bytes(core::array::from_fn(|at| (read_code()[at / 2] >> (8 * (at % 2))) as u8));
            wrong[1] += u64::from(hot::call(DATA, DATA) != Ok(first));
            let wanted = if flags == execute_only { raised(LoadPageFault) } else { Ok(PAIR) };
            wrong[2] += u64::from(hot::call(DATA + THIRD, DATA + PAGE) != wanted);
        }
    }
    check!(format_args!("{mode:?}_hot_code_that_is_read_runs"), wrong[0], 0);
    check!(format_args!("{mode:?}_mxr_reads_hot_code"), wrong[1], 0);
    check!(format_args!("{mode:?}_without_mxr_as_the_page_says"), wrong[2], 0);
    paging::deactivate();
}

/// The exception, sepc and stval of user mode.
fn run_user(pc: u64, a0: u64) -> (Option<Exception>, u64, u64, u64) {
    let mut frame = Frame { pc, ..Frame::ZERO };
    frame.x[10] = a0;
    let Trap { cause, tval, epc, sstatus } = user::run(&mut frame);
    (Exception::from_code(cause).filter(|_| sstatus & SPP == 0), epc, tval, frame.x[10])
}

fn user_mode_on_the_same_page(mode: Mode) {
    let arena = Arena::new(mode);
    // What user mode does: the kernel's first instruction; a plain one, and the kernel's second; a breakpoint; an ecall.
    let page = hot::page(&[PUT, GET, RET, addi(A0, A0, 1), GET, ECALL, EBREAK, addi(A0, A0, 2), ECALL]);
    arena.map(DATA, page, EXECUTABLE);
    arena.map(USER + PAGE, page, USER_RWX);
    arena.user_code(&USER_ACCESSES);
    let user = USER + PAGE;
    let mut wrong = [0; 4];
    for round in 0..8 {
        wrong[0] += hot::heat(DATA) + hot::heat(DATA + ECHO_AT);
        for argument in 0..30 {
            for (entry, site, bits, a0) in [(0, 0, PUT, argument), (12, 16, GET, argument + 1)] {
                let (exception, epc, tval, result) = run_user(user + entry, argument);
                let right = (exception, epc, result) == (Some(IllegalInstruction), user + site, a0);
                wrong[1] += u64::from(!right || tval != 0 && tval != bits.into());
            }
            let (exception, epc, _, _) = run_user(user + 24, argument);
            wrong[2] += u64::from((exception, epc) != (Some(Breakpoint), user + 24));
            let (exception, epc, _, a0) = run_user(user + 28, argument);
            wrong[2] += u64::from((exception, epc, a0) != (Some(EcallFromUser), user + 32, argument + 2));
            wrong[0] += u64::from(hot::call(DATA, argument) != Ok(argument));
            wrong[3] += u64::from(user_load(user) != Ok(PAIR));
        }
        // User mode writes the kernel's code (its own number of it, so that nothing changes).
        if round % 2 == 1 {
            wrong[3] += u64::from(user_store(user, PAIR).is_err());
        }
    }
    check!(format_args!("{mode:?}_the_kernels_side_of_a_shared_page"), wrong[0], 0);
    check!(format_args!("{mode:?}_privileged_instructions_are_illegal_for_the_user"), wrong[1], 0);
    check!(format_args!("{mode:?}_the_users_own_breakpoint_and_ecall"), wrong[2], 0);
    check!(format_args!("{mode:?}_the_user_reads_the_original"), wrong[3], 0);
    let got = outcome(user_load(DATA));
    check!(format_args!("{mode:?}_the_user_may_not_read_the_kernels"), got, fault(LoadPageFault, DATA));
    let got = run_user(DATA, 0);
    let wanted = (Some(InstructionPageFault), DATA, DATA, 0);
    check!(format_args!("{mode:?}_nor_execute_it"), got, wanted);
    check!(
        format_args!("{mode:?}_nor_the_kernel_the_users"),
        hot::call(user, 0),
        raised(InstructionPageFault)
    );
    paging::deactivate();
}

/// One assembly store to `{0}`, by its name.
macro_rules! stores {
    ($($name:literal: $text:literal),+ $(,)?) => {
        [$(($name, |address: u64| {
            // SAFETY: a store that faults, to a page that was made for it.
            catch(|| unsafe {
                asm!(".option push", ".option arch, +d", $text, ".option pop", in(reg) address, out("t0") _, out("t1") _,
                    options(nostack))
            })
        })),+]
    };
}

type Store = (&'static str, fn(u64) -> Option<Trap>);

/// Stores to hot code that its page does not allow change nothing, not even once.
fn stores_that_may_not(mode: Mode) {
    let stores: [Store; 9] = stores! {
        "sb": "sb zero, 0({0})", "sh": "sh zero, 0({0})", "sw": "sw zero, 0({0})", "sd": "sd zero, 0({0})",
        "fsd": "fsd ft0, 0({0})", "amoswap": "amoswap.d t0, zero, ({0})", "amoor": "amoor.w t0, zero, ({0})",
        "sc": "lr.d t0, ({0}); sc.d t1, zero, ({0})", "misaligned": "addi {0}, {0}, -1; addi {0}, {0}, 1; sw zero, 0({0})",
    };
    let arena = Arena::new(mode);
    for (name, store) in stores {
        let page = hot::page(&[PUT, GET, RET]);
        arena.map(DATA, page, EXECUTABLE);
        let mut wrong = hot::heat(DATA);
        for argument in 0..RUNS {
            let got = store(DATA).map(|trap| (trap.cause, trap.tval));
            wrong += u64::from(got != Some((StorePageFault.code(), DATA)));
            wrong += u64::from(peek(page) != PAIR || hot::call(DATA, argument) != Ok(argument));
        }
        check!(format_args!("{mode:?}_{name}_to_read_only_hot_code_faults"), wrong, 0);
    }
    paging::deactivate();
}

/// Rights of a hot page change, with a fence.
fn given_and_taken(mode: Mode) {
    let arena = Arena::new(mode);
    let page = hot::page(&[PUT, GET, RET]);
    let mut wrong = 0;
    let rows = [
        // Flags; whether it may be executed, read, written.
        (EXECUTABLE, [true, true, false]),
        (RW, [false, true, true]),
        (RWX, [true, true, true]),
        (Pte::V | Pte::X | Pte::A | Pte::D, [true, false, false]),
        (RW & !Pte::W, [false, true, false]),
        (RWX | Pte::U, [false, false, false]),
        (0, [false, false, false]),
    ];
    for round in 0..21 {
        let (flags, [executed, read, written]) = rows[round * 3 % rows.len()];
        arena.map(DATA, page, flags);
        if executed {
            wrong += hot::heat(DATA) + hot::heat(DATA + ECHO_AT);
        } else {
            wrong += u64::from(hot::call(DATA, 0) != raised(InstructionPageFault));
        }
        let got = outcome(arena::load(DATA));
        wrong += u64::from(got != if read { Ok(PAIR) } else { fault(LoadPageFault, DATA) });
        let got = outcome(arena::store(DATA + 0x800, round as u64));
        wrong += u64::from(got != if written { Ok(()) } else { fault(StorePageFault, DATA + 0x800) });
        wrong += u64::from(written && peek(page + 0x800) != round as u64);
        if executed {
            wrong += hot::heat(DATA);
        }
    }
    check!(format_args!("{mode:?}_rights_given_and_taken"), wrong, 0);
    exec::write(page, &[addi(A0, ZERO, 1), RET]);
    paging::deactivate();
}
