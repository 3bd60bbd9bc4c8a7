//! Exceptions: what each reports, what entry and sret do to sstatus, which instructions are illegal where.
//! Priv. spec, "Supervisor Trap Handling" and "SRET".
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena, DATA, USER, USER_RWX};
use features::insn::{self, A0, ECALL, ZERO};
use features::native::hidden;
use features::{exception, exec, fault, outcome};
use guest_rt::isa::Exception::*;
use guest_rt::isa::csr::sstatus::{SIE, SPIE, SPP};
use guest_rt::paging::{self, Mode, Pte, RW, RWX};
use guest_rt::trap::{Frame, Trap, catch};
use guest_rt::{access, check, check_any, csr_clear, csr_read, csr_set, isa::Width, user};

features::feature!(checks);

const STACK_BITS: u64 = SIE | SPIE | SPP;

fn checks(_hart: u64, _device_tree: u64) {
    supervisor_exceptions();
    illegal_instructions();
    return_from_traps();
    user_exceptions();
    privileged_instructions_in_user_mode();
    misaligned_accesses();
    misaligned_atomics();
    atomics_fault_as_stores();
}

fn supervisor_exceptions() {
    csr_set!(SSTATUS, SIE);
    let enabled = exec::run(&[insn::EBREAK], 0);
    csr_clear!(SSTATUS, SIE);
    let disabled = exec::run(&[insn::EBREAK], 0);
    let status = |result: Result<u64, Trap>| result.err().map(|trap| trap.sstatus & STACK_BITS);
    check!("entry_moves_sie_to_spie_and_notes_supervisor", status(enabled), Some(SPIE | SPP));
    check!("entry_with_sie_clear_clears_spie", status(disabled), Some(SPP));
    check!("ebreak_is_a_breakpoint", exception(disabled), Some(Breakpoint));
    let Err(trap) = disabled else { return };
    check_any!("its_stval_is_0_or_the_pc", trap.tval, [0, trap.epc]);
    let compressed = exec::run(&[insn::C_EBREAK_C_NOP], 0);
    check!("c_ebreak_is_a_breakpoint_too", exception(compressed), Some(Breakpoint));
    check!("handled_breakpoints_resume_behind", outcome(exec::run(&[insn::addi(A0, ZERO, 5)], 0)), Ok(5));
}

/// Each reports its own bits in stval, or each 0.
fn illegal_instructions() {
    let mut zero = 0;
    let mut bits = 0;
    let cases = [
        ("all_zero", 0),
        ("all_ones", !0),
        ("compressed_jump_to_x0", 0x0001_8002),
        ("compressed_lwsp_to_x0", 0x0001_4002),
        ("compressed_addi4spn_of_0", 0x0001_0004),
        ("compressed_addi16sp_of_0", 0x0001_6101),
        ("compressed_addiw_of_x0", 0x0001_2001),
        ("compressed_reserved_quadrant_0", 0x0001_8000),
        ("custom_0", 0x0000_000b),
        ("load_of_width_7", 0x0000_7003),
        ("store_of_width_4", 0x0000_4023),
        ("amo_of_width_4", 0x0000_402f),
        ("lr_with_rs2", 0x1010_252f),
        ("system_funct3_4", 0x0000_4073),
        ("mret", insn::MRET),
        ("uret", 0x0020_0073),
        ("dret", 0x7b20_0073),
        ("sret_with_rd", insn::SRET | 1 << 7),
        ("wfi_with_rs1", insn::WFI | 1 << 15),
        ("sfence_vma_with_rd", insn::SFENCE_VMA | 1 << 7),
        ("sfence_vm", 0x1040_0073),
        ("ecall_with_rd", ECALL | 1 << 7),
    ];
    for (name, word) in cases {
        let result = exec::run(&[word], 0);
        check!(format_args!("{name}_is_illegal"), exception(result), Some(IllegalInstruction));
        let own: u64 = if word & 3 == 3 { word.into() } else { (word & 0xffff).into() };
        let tval = result.map_or_else(|trap| trap.tval, |_| !0);
        zero += u32::from(tval == 0);
        bits += u32::from(tval == own);
    }
    let all = cases.len() as u32;
    // The all-zero word counts on both sides.
    check_any!(
        "stval_of_illegal_instructions_is_always_0_or_always_their_bits",
        (zero, bits),
        [(1, all), (all, 1)]
    );

    for (name, word) in [
        ("hfence_vvma", 0x2200_0073),
        ("hfence_gvma", 0x6200_0073),
        ("hlv_d", 0x6c05_4573),
        ("hlvx_wu", 0x6835_4573),
        ("wrs_nto", 0x00d0_0073),
        ("wrs_sto", 0x01d0_0073),
        ("hinval_vvma", 0x2600_0073),
    ] {
        let frame = arena::frame_with(0);
        hidden(format_args!("{name}_is_hidden"), &exec::run(&[word], frame));
    }
    for (name, word) in
        [("fence_tso", 0x8330_000f), ("pause", 0x0100_000f), ("fence_with_reserved_mode", 0x4ff0_000f)]
    {
        check!(format_args!("{name}_does_not_trap"), exception(exec::run(&[word], 0)), None);
    }
}

fn return_from_traps() {
    let sret = |bits: u64| {
        let after: u64;
        // SAFETY: returns to label 2 in supervisor mode, since SPP is set.
        unsafe {
            asm!(
                "csrc sstatus, {all}", "csrs sstatus, {bits}", "lla {pc}, 2f", "csrw sepc, {pc}", "sret",
                "ebreak", // unexpected, hence fatal
                "2: csrr {after}, sstatus", "csrc sstatus, {all}",
                all = in(reg) STACK_BITS, bits = in(reg) bits, pc = out(reg) _, after = out(reg) after,
            );
        }
        after & STACK_BITS
    };
    check!("sret_moves_spie_to_sie_and_sets_spie", sret(SPP | SPIE), SIE | SPIE);
    check!("sret_with_spie_clear_clears_sie", sret(SPP | SIE), SPIE);
    check!("sret_clears_spp", sret(SPP) & SPP, 0u64);
}

fn user_exceptions() {
    let arena = Arena::new(Mode::Sv39);
    let run = |words: &[u32], sstatus: u64| {
        arena.user_code(words);
        user::run(&mut Frame { pc: USER, sstatus, ..Frame::ZERO })
    };
    let ecall = run(&[insn::NOP, ECALL], SPIE);
    check!("user_ecall_is_cause_8", (ecall.cause, ecall.tval), (8u64, 0u64));
    check!("user_ecall_sepc_is_the_ecall", ecall.epc, USER + 4);
    check!("entry_from_user_clears_spp", ecall.sstatus & STACK_BITS, SPIE);
    let disabled = run(&[ECALL], 0);
    check!("entry_from_user_with_sie_clear_clears_spie", disabled.sstatus & STACK_BITS, 0u64);
    let trap = run(&[insn::TWO_C_NOPS & 0xffff | 0x9002 << 16], 0);
    check!("user_c_ebreak_is_a_breakpoint", (trap.cause, trap.epc), (Breakpoint.code(), USER + 2));
    let trap = run(&[0xffff_ffff], 0);
    check!("user_illegal_instruction", trap.cause, IllegalInstruction.code());
    check_any!("its_stval_is_its_bits_or_0", trap.tval, [0xffff_ffff, 0]);

    let mut frame = Frame { pc: USER, ..Frame::ZERO };
    for (number, register) in frame.x.iter_mut().enumerate() {
        *register = 0x0101_0101_0101_0101u64.wrapping_mul(number as u64) ^ 1 << 63;
    }
    let before = frame.x;
    arena.user_code(&[ECALL]);
    user::run(&mut frame);
    check!("user_registers_survive_the_trap", frame.x[1..] == before[1..]);

    arena.map(USER, exec::page(&[0xffff_ffff]), (RW | Pte::U) & !Pte::W);
    let trap = user::call(USER, 0, 0);
    check!("a_fetch_fault_comes_before_an_illegal_instruction", (trap.cause, trap.tval), (12u64, USER));
    paging::deactivate();
}

fn privileged_instructions_in_user_mode() {
    let arena = Arena::new(Mode::Sv39);
    for (name, word) in [
        ("sret", insn::SRET),
        ("mret", insn::MRET),
        ("sfence_vma", insn::SFENCE_VMA),
        ("hfence_gvma", 0x6200_0073),
        ("sinval_vma", 0x1600_0073),
    ] {
        arena.user_code(&[word, ECALL]);
        let got = exception(arena::user_call(USER, 0, 0));
        check!(format_args!("{name}_in_user_mode_is_illegal"), got, Some(IllegalInstruction));
    }
    arena.user_code(&[insn::WFI, ECALL]);
    let wfi = exception(arena::user_call(USER, 0, 0));
    check_any!("wfi_in_user_mode_is_illegal_or_short", wfi, [Some(IllegalInstruction), None]);
    arena.user_code(&[insn::FENCE_I, ECALL]);
    check!("fence_i_in_user_mode_is_legal", exception(arena::user_call(USER, 0, 0)), None);
    check!("none_of_them_left_interrupts_on", csr_read!(SSTATUS) & SIE, 0u64);
    paging::deactivate();
}

fn misaligned_accesses() {
    let frame = arena::frame_with(0x8877_6655_4433_2211);
    for (name, width, offset, want) in [
        ("half", Width::Half, 1, 0x3322u64),
        ("word", Width::Word, 3, 0x7766_5544),
        ("double", Width::Double, 4, 0x8877_6655),
    ] {
        let got = outcome(access::load(width, frame + offset));
        let misaligned = fault(LoadAddressMisaligned, frame + offset);
        check_any!(format_args!("misaligned_load_of_a_{name}_works_or_says_so"), got, [Ok(want), misaligned]);
    }
    let stored = outcome(access::store(Width::Word, frame + 5, 0));
    check_any!(
        "misaligned_store_works_or_says_so",
        stored,
        [Ok(()), fault(StoreAddressMisaligned, frame + 5)]
    );
    let wanted = if stored.is_ok() { 0x55_4433_2211 } else { 0x8877_6655_4433_2211 };
    check!(
        "and_writes_its_bytes_only",
        arena::peek(frame),
        wanted & !(0xff_ffff << 40) | wanted & 0xff_ffff << 40
    );
}

/// They work, or are the kernel's to handle, in either of two ways, and whoever executes them: they must end no machine.
fn misaligned_atomics() {
    const VALUE: u64 = 0x8877_6655_4433_2211;
    let arena = Arena::new(Mode::Sv39);
    let frame = arena::frame_with(VALUE);
    arena.map(DATA, frame, USER_RWX);
    let at = DATA + 4;
    let load = [LoadAddressMisaligned, LoadAccessFault];
    let store = [StoreAddressMisaligned, StoreAccessFault];
    let [amo_add, load_reserved, store_conditional] = [0x0005_352f_u32, 0x1005_352f, 0x1805_352f];
    for (name, word, works, [one, other]) in [
        // QEMU reads first, and reports that read as a load.
        ("amo", amo_add, 0x8877_6655, [load, store]),
        ("lr", load_reserved, 0x8877_6655, [load, load]),
        // Without a reservation it may fail with a code.
        ("sc", store_conditional, 1, [store, store]),
    ] {
        let faults = |of: [_; 2]| of.map(|exception| fault(exception, at));
        let ([a, b], [c, d]) = (faults(one), faults(other));
        let allowed = [Ok(works), a, b, c, d];
        arena.map(DATA, frame, USER_RWX);
        arena.user_code(&[word, ECALL]);
        let got = outcome(arena::user_call(USER, at, 0));
        check_any!(
            format_args!("misaligned_{name}_of_a_user_works_or_is_the_kernels_to_handle"),
            got,
            allowed
        );
        arena.map(DATA, frame, RWX);
        let got = outcome(exec::run(&[word], at));
        check_any!(
            format_args!("misaligned_{name}_of_the_kernel_works_or_is_its_own_to_handle"),
            got,
            allowed
        );
    }
    check!("and_they_wrote_nothing", arena::peek(frame), VALUE);
    paging::deactivate();
}

/// Priv. spec, "Supervisor Cause Register": AMO and SC raise store faults, also for their reads.
fn atomics_fault_as_stores() {
    let arena = Arena::new(Mode::Sv39);
    let frame = arena::frame_with(1);
    let amo_add: u32 = 0x0005_352f; // amoadd.d a0, zero, (a0)
    let load_reserved: u32 = 0x1005_352f; // lr.d a0, (a0)
    let store_conditional: u32 = 0x1805_352f; // sc.d a0, zero, (a0)
    let at = |word| outcome(exec::run(&[word], DATA));
    // QEMU with one hart reads first, and reports that read as a load; so it does to whom it runs below us.
    let amo_faults = [fault(StorePageFault, DATA), fault(LoadPageFault, DATA)];
    arena.map(DATA, frame, RWX);
    check!("amo_gives_the_old_value", at(amo_add), Ok(1));
    check!("lr_gives_the_value", at(load_reserved), Ok(1));
    arena.map(DATA, frame, Pte::V | Pte::R | Pte::A | Pte::D);
    check!("amo_on_a_read_only_page", at(amo_add), fault(StorePageFault, DATA));
    // Without a reservation it may also fail with a code and not fault.
    check_any!("sc_on_a_read_only_page", at(store_conditional), [fault(StorePageFault, DATA), Ok(1)]);
    check!("lr_on_a_read_only_page", at(load_reserved), Ok(1));
    arena.map(DATA, frame, Pte::V | Pte::X | Pte::A | Pte::D);
    check_any!("amo_on_an_execute_only_page", at(amo_add), amo_faults);
    check!("lr_on_an_execute_only_page", at(load_reserved), fault(LoadPageFault, DATA));
    arena.set(DATA, 0, Pte(0));
    check_any!("amo_on_an_unmapped_page", at(amo_add), amo_faults);
    check!("lr_on_an_unmapped_page", at(load_reserved), fault(LoadPageFault, DATA));
    arena.map(DATA, frame, USER_RWX);
    check_any!("amo_on_a_user_page", at(amo_add), amo_faults);
    // The lock and the sequence that every kernel is made of.
    arena.map(DATA, frame, RWX);
    let done = catch(|| {
        // SAFETY: increments the frame's first double word.
        unsafe {
            asm!("2: lr.d {v}, ({at})", "addi {v}, {v}, 41", "sc.d {v}, {v}, ({at})", "bnez {v}, 2b",
                v = out(reg) _, at = in(reg) DATA);
        }
    });
    check!("an_lr_sc_loop_ends", (done, arena::peek(frame)), (None, 42u64));
    paging::deactivate();
}
