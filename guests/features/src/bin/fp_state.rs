//! sstatus.FS: off, initial, clean, dirty. Priv. spec, "Extension Context Status in mstatus Register".
//!
//! This program itself uses no floating-point register, so what is in them is the tests' own.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena, DATA, USER};
use features::insn::{A0, ECALL, ZERO, csrrs, csrrw};
use features::{exception, exec, outcome};
use guest_rt::isa::Exception::{self, *};
use guest_rt::isa::csr::sstatus::{FS, FS_INITIAL, SD, VS};
use guest_rt::paging::{self, Mode, RW};
use guest_rt::trap::Frame;
use guest_rt::{check, check_any, csr_clear, csr_read, csr_set, user};

features::feature!(checks);

const INITIAL: u64 = FS_INITIAL;
const CLEAN: u64 = 2 << 13;
const DIRTY: u64 = FS;

/// fmv.d.x fa0, a0; fmv.x.d a0, fa0.
const TO_FA0: u32 = 0xf205_0553;
const FROM_FA0: u32 = 0xe205_0553;
/// fadd.d fa0, fa0, fa0.
const ADD: u32 = 0x02a5_7553;
/// fld fa0, 0(a0); fsd fa0, 0(a0).
const FLD: u32 = 0x0005_3507;
const FSD: u32 = 0x00a5_3027;

fn checks(_hart: u64, _device_tree: u64) {
    csr_clear!(SSTATUS, VS); // SD is FS's alone then
    set_fs(DIRTY);
    if fs() != DIRTY {
        return check!("a_hart_without_f_has_no_fs", fs(), 0u64);
    }
    off();
    becomes_dirty();
    state_is_kept();
    control_register();
    faulting_accesses();
    user_mode();
    set_fs(0);
}

fn set_fs(state: u64) {
    csr_clear!(SSTATUS, FS);
    csr_set!(SSTATUS, state);
}

fn fs() -> u64 {
    csr_read!(SSTATUS) & FS
}

/// fa0's bits, with FS as it is; FS must not be off.
fn read_fa0() -> u64 {
    let bits;
    // SAFETY: reads a register that Rust does not use.
    unsafe {
        asm!(".option push", ".option arch, +d", "fmv.x.d {}, fa0", ".option pop",
            out(reg) bits, options(nostack));
    }
    bits
}

/// Sets fa0's bits, which needs FS to be on.
fn write_fa0(bits: u64) {
    // SAFETY: writes a register that Rust does not use.
    unsafe {
        asm!(".option push", ".option arch, +d", "fmv.d.x fa0, {}", ".option pop",
            in(reg) bits, options(nostack));
    }
}

fn off() {
    set_fs(0);
    let frame = arena::frame_with(0);
    for (name, word) in [
        ("fmv_d_x", TO_FA0),
        ("fmv_x_d", FROM_FA0),
        ("fadd_d", ADD),
        ("fld", FLD),
        ("fsd", FSD),
        ("flw", 0x0005_2507),
        ("fsw", 0x00a5_2027),
        ("c_fld", 0x0001_2108),
        ("c_fsd", 0x0001_a108),
        ("c_fldsp", 0x0001_2502),
        ("c_fsdsp", 0x0001_a02a),
        ("fmadd_d", 0x52a5_7543),
        ("fcvt_d_l", 0xd225_7553),
        ("feq_d", 0xa2a5_2553),
        ("reading_fcsr", csrrs(A0, 3, ZERO)),
        ("reading_frm", csrrs(A0, 2, ZERO)),
        ("reading_fflags", csrrs(A0, 1, ZERO)),
        ("writing_fcsr", csrrw(ZERO, 3, A0)),
        ("writing_frm", csrrw(ZERO, 2, ZERO)),
        ("writing_fflags", csrrw(A0, 1, ZERO)),
    ] {
        let got = exception(exec::run(&[word], frame));
        check!(format_args!("with_fs_off_{name}_is_illegal"), got, Some(IllegalInstruction));
    }
    check!("fs_stays_off", csr_read!(SSTATUS) & (FS | SD), 0u64);
}

fn becomes_dirty() {
    let frame = arena::frame_with(0x3ff0_0000_0000_0000);
    for (state_name, state) in [("initial", INITIAL), ("clean", CLEAN), ("dirty", DIRTY)] {
        set_fs(state);
        check!(format_args!("fs_can_be_{state_name}"), fs(), state);
        let sd = csr_read!(SSTATUS) & SD != 0;
        check!(format_args!("sd_follows_{state_name}"), sd, state == DIRTY);
        for (name, word, argument) in [
            ("fmv_d_x", TO_FA0, 5),
            ("fadd_d", ADD, 0),
            ("fld", FLD, frame),
            ("writing_frm", csrrw(ZERO, 2, ZERO), 0),
        ] {
            set_fs(state);
            let trap = exception(exec::run(&[word], argument));
            check!(
                format_args!("{name}_makes_{state_name}_dirty"),
                (trap, csr_read!(SSTATUS) & (FS | SD)),
                (None, FS | SD)
            );
        }
        set_fs(state);
        let trap = exception(exec::run(&[FSD], frame));
        // A hart may call any use dirty.
        check_any!(
            format_args!("fsd_leaves_{state_name}_or_makes_it_dirty"),
            (trap, fs()),
            [(None, state), (None, DIRTY)]
        );
    }
}

/// Changing FS changes no register.
fn state_is_kept() {
    for state in [0, INITIAL, CLEAN] {
        set_fs(DIRTY);
        write_fa0(0x1234_5678_9abc_def0);
        set_fs(state);
        let _ = exec::run(&[TO_FA0], 0); // traps with FS off, and else changes fa0
        set_fs(DIRTY);
        let wanted = if state == 0 { 0x1234_5678_9abc_def0 } else { 0 };
        check!(format_args!("fa0_after_fs_{}", state >> 13), read_fa0(), wanted);
    }
    write_fa0(0x0123_4567_89ab_cdef);
    guest_rt::sbi::call2(guest_rt::sbi::BASE, 0, 0, 0);
    check!("fa0_survives_an_sbi_call", read_fa0(), 0x0123_4567_89ab_cdefu64);
    // Every register, through a switch off and on with traps in between.
    let frame = paging::frames(2);
    for number in 0..32 {
        arena::poke(frame + 8 * number, 0x1111_0000_2222_0000 + number);
    }
    // fld f\n, 8n(a0) for all n, then fsd.
    let loads: [u32; 32] = core::array::from_fn(|n| (8 * n as u32) << 20 | 0x0005_3007 | (n as u32) << 7);
    let stores: [u32; 32] = core::array::from_fn(|n| {
        let offset = 8 * n as u32;
        (offset >> 5) << 25 | (n as u32) << 20 | 0x0005_3027 | (offset & 31) << 7
    });
    let loaded = exception(exec::run(&loads, frame));
    set_fs(0);
    let _ = exec::run(&[ADD], 0);
    set_fs(CLEAN);
    let stored = exception(exec::run(&stores, frame + 4096));
    let wrong = (0..32).filter(|n| arena::peek(frame + 4096 + 8 * n) != 0x1111_0000_2222_0000 + n).count();
    check!("all_registers_survive", (loaded, stored, wrong), (None, None, 0));
}

fn control_register() {
    set_fs(DIRTY);
    let swap = |csr: u32, value| outcome(exec::run(&[csrrw(ZERO, csr, A0), csrrs(A0, csr, ZERO)], value));
    check!("fcsr_holds_eight_bits", swap(3, u64::MAX), Ok(0xff));
    check!("frm_is_its_upper_three", outcome(exec::run(&[csrrs(A0, 2, ZERO)], 0)), Ok(7));
    check!("fflags_is_its_lower_five", outcome(exec::run(&[csrrs(A0, 1, ZERO)], 0)), Ok(31));
    check!("an_illegal_rounding_mode_is_kept", swap(2, 6), Ok(6));
    // fadd.d with the dynamic rounding mode.
    check!("and_makes_dynamic_rounding_illegal", exception(exec::run(&[ADD], 0)), Some(IllegalInstruction));
    check!("fcsr_clears", swap(3, 0), Ok(0));
    // fdiv.d fa0, fa0, fa1 of 1 by 0: DZ.
    let one_by_zero = [TO_FA0, 0xf200_05d3, 0x1ab5_7553, csrrs(A0, 1, ZERO)];
    check!("dividing_by_zero_sets_its_flag", outcome(exec::run(&one_by_zero, 0x3ff0_0000_0000_0000)), Ok(8));
    let _ = swap(3, 0);
}

/// A load that faults leaves its register.
fn faulting_accesses() {
    let arena = Arena::new(Mode::Sv39);
    set_fs(DIRTY);
    write_fa0(77);
    set_fs(CLEAN);
    let got = exec::run(&[FLD], DATA).err().map(|trap| (Exception::from_code(trap.cause), trap.tval));
    check!("a_faulting_fld_reports_its_address", got, Some((Some(LoadPageFault), DATA)));
    check_any!("it_leaves_fs_or_makes_it_dirty", fs(), [CLEAN, DIRTY]);
    check!("and_leaves_the_register", read_fa0(), 77u64);
    let got = exec::run(&[FSD], DATA).err().map(|trap| (Exception::from_code(trap.cause), trap.tval));
    check!("a_faulting_fsd_reports_its_address", got, Some((Some(StorePageFault), DATA)));
    arena.map(DATA, arena::frame_with(88), RW);
    check!("a_mapped_one_loads", outcome(exec::run(&[FLD, FROM_FA0], DATA)), Ok(88));
    set_fs(0);
    let got = exception(exec::run(&[FLD], DATA + 0x2000));
    check!("with_fs_off_illegal_comes_before_the_page_fault", got, Some(IllegalInstruction));
    paging::deactivate();
}

fn user_mode() {
    let arena = Arena::new(Mode::Sv39);
    arena.user_code(&[TO_FA0, ECALL]);
    let run = |state| {
        set_fs(0);
        let mut frame = Frame { pc: USER, sstatus: state, ..Frame::ZERO };
        frame.x[10] = 99;
        let trap = user::run(&mut frame);
        (Exception::from_code(trap.cause), trap.sstatus & (FS | SD))
    };
    check!("user_mode_with_fs_off_traps", run(0), (Some(IllegalInstruction), 0));
    for (name, state) in [("initial", INITIAL), ("clean", CLEAN), ("dirty", DIRTY)] {
        check!(format_args!("user_mode_makes_{name}_dirty"), run(state), (Some(EcallFromUser), FS | SD));
    }
    set_fs(CLEAN);
    check!("supervisor_mode_sees_the_users_register", read_fa0(), 99u64);
    paging::deactivate();
}
