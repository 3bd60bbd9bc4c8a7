//! Supervisor CSRs: what their fields hold, which accesses are illegal, and what each Zicsr form does.
//! Priv. spec, "Supervisor CSRs"; unpriv. spec, "Zicsr".
#![no_std]
#![no_main]

use features::insn::{self, A0, A1, ECALL, ZERO};
use features::native::{forgive, hidden, native};
use features::{arena, exception, exec, outcome};
use features::{arena::Arena, exec::read_csr, exec::write_csr};
use guest_rt::isa::Exception::IllegalInstruction;
use guest_rt::isa::csr::{CsrAddr, scounteren, senvcfg, sstatus};
use guest_rt::paging::{self, Mode, Tables};
use guest_rt::{check, check_any, csr_clear, csr_read, csr_set, csr_swap, csr_write};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    instruction_forms();
    status_fields();
    trap_registers();
    interrupt_registers();
    satp_fields();
    counters();
    environment();
    machine_and_unknown_registers();
    hidden_registers();
    user_mode();
}

const SSCRATCH: u32 = CsrAddr::SSCRATCH.as_u16() as u32;
const CYCLE: u32 = CsrAddr::CYCLE.as_u16() as u32;

fn instruction_forms() {
    // Each run traps in between when it returns, and the trap vector uses sscratch: so every one sets it.
    let set = insn::csrrw(ZERO, SSCRATCH, A0);
    let get = insn::csrrs(A0, SSCRATCH, ZERO);
    let after = |word, start| outcome(exec::run(&[set, word, get], start));
    let before = |word, start| outcome(exec::run(&[set, insn::addi(A0, ZERO, -1), word], start));
    check!("csrrw_writes_all_64_bits", after(insn::NOP, 0x8000_0001_ffff_fffe), Ok(0x8000_0001_ffff_fffe));
    check!("csrrw_gives_the_old_value", before(insn::csrrw(A0, SSCRATCH, ZERO), 5), Ok(5));
    check!(
        "csrrw_exchanges_one_register",
        outcome(exec::run(
            &[insn::addi(A1, ZERO, 9), insn::csrrw(ZERO, SSCRATCH, A1), insn::csrrw(A0, SSCRATCH, A0)],
            3
        )),
        Ok(9)
    );
    check!("csrrs_sets_bits", after(insn::csrrs(ZERO, SSCRATCH, A0), 0xf0), Ok(0xf0));
    check!("csrrs_from_x0_leaves_it", after(insn::csrrs(ZERO, SSCRATCH, ZERO), 0xf0), Ok(0xf0));
    check!("csrrc_clears_bits", after(insn::csrrc(ZERO, SSCRATCH, A0), 0xf0), Ok(0));
    check!("csrrwi_zero_extends", after(insn::csrrwi(ZERO, SSCRATCH, 31), !0), Ok(31));
    check!("csrrsi_sets_bits", after(insn::csrrsi(ZERO, SSCRATCH, 0x11), 0x100), Ok(0x111));
    check!("csrrci_clears_bits", after(insn::csrrci(ZERO, SSCRATCH, 0x1f), 0x1ff), Ok(0x1e0));
    check!("csrrsi_gives_the_old_value", before(insn::csrrsi(A0, SSCRATCH, 1), 6), Ok(6));
    check!(
        "x0_as_destination_stays_zero",
        outcome(exec::run(&[set, insn::csrrw(ZERO, SSCRATCH, ZERO), insn::addi(A0, ZERO, 0)], 77)),
        Ok(0)
    );

    let illegal = Some(IllegalInstruction);
    check!(
        "read_only_csr_can_be_read_by_csrrs",
        exception(exec::run(&[insn::csrrs(A0, CYCLE, ZERO)], 0)),
        None
    );
    check!("and_by_csrrc", exception(exec::run(&[insn::csrrc(A0, CYCLE, ZERO)], 0)), None);
    check!("and_by_csrrsi_0", exception(exec::run(&[insn::csrrsi(A0, CYCLE, 0)], 0)), None);
    check!("and_by_csrrci_0", exception(exec::run(&[insn::csrrci(A0, CYCLE, 0)], 0)), None);
    for (name, word) in [
        ("csrrw", insn::csrrw(A0, CYCLE, A0)),
        ("csrrw_from_x0", insn::csrrw(A0, CYCLE, ZERO)),
        ("csrrwi", insn::csrrwi(A0, CYCLE, 0)),
        ("csrrsi_1", insn::csrrsi(ZERO, CYCLE, 1)),
        ("csrrci_1", insn::csrrci(ZERO, CYCLE, 1)),
    ] {
        check!(
            format_args!("{name}_on_a_read_only_csr_is_illegal"),
            exception(exec::run(&[word], 0)),
            illegal
        );
    }
    for (name, word) in [("csrrs", insn::csrrs(ZERO, CYCLE, A0)), ("csrrc", insn::csrrc(ZERO, CYCLE, A0))] {
        // QEMU takes a register that holds 0 for x0, for guests that read counters without a trap, too.
        let got = exception(exec::run(&[word], 0));
        check_any!(format_args!("{name}_of_a_register_that_holds_0_is_illegal_too"), got, [illegal, None]);
    }
}

fn status_fields() {
    // VS is there only with vectors; bits 23 and 24 (SPELP, SDT) only with extensions that few harts have.
    let optional = sstatus::VS | 1 << 23 | 1 << 24;
    let before = csr_swap!(SSTATUS, sstatus::UXL_64);
    let cleared = csr_swap!(SSTATUS, !(3 << 32) | sstatus::UXL_64);
    let filled = csr_swap!(SSTATUS, sstatus::UXL_64 | sstatus::FS_INITIAL);
    let initial = csr_swap!(SSTATUS, 0);
    let uxl_zero = csr_swap!(SSTATUS, before);
    let all = sstatus::SIE
        | sstatus::SPIE
        | sstatus::SPP
        | sstatus::FS
        | sstatus::SUM
        | sstatus::MXR
        | sstatus::UXL_64
        | sstatus::SD;
    check!("sstatus_clears", cleared, sstatus::UXL_64);
    check!("sstatus_holds_exactly_its_fields", filled & !optional, all);
    check!("sd_follows_fs", initial & !optional, sstatus::UXL_64 | sstatus::FS_INITIAL);
    check!("uxl_stays_64_bits", uxl_zero & (3 << 32), sstatus::UXL_64);
    check!("xs_and_ube_read_0", (filled >> 15 & 3, filled >> 6 & 1), (0u64, 0u64));
    if filled & sstatus::VS != 0 {
        csr_write!(SSTATUS, sstatus::UXL_64 | sstatus::VS_DIRTY);
        let dirty = csr_swap!(SSTATUS, before);
        check!("sd_follows_vs", dirty, sstatus::UXL_64 | sstatus::VS_DIRTY | sstatus::SD);
    }
}

fn trap_registers() {
    let scratch = csr_swap!(SSCRATCH, 0xaaaa_5555_aaaa_5555);
    check!("sscratch_holds_64_bits", csr_swap!(SSCRATCH, scratch), 0xaaaa_5555_aaaa_5555u64);

    let vector = csr_swap!(STVEC, 0x8020_1000);
    check!("stvec_direct", csr_swap!(STVEC, 0xffff_ffc0_1234_5679), 0x8020_1000u64);
    check!("stvec_vectored_in_the_upper_half", csr_swap!(STVEC, 0x8020_1002), 0xffff_ffc0_1234_5679u64);
    check_any!("stvec_mode_2_keeps_a_legal_mode", csr_swap!(STVEC, 0x8020_1003) & 3, [0, 1]);
    check_any!("stvec_mode_3_keeps_a_legal_mode", csr_swap!(STVEC, vector) & 3, [0, 1]);
    check!("stvec_is_restored", csr_read!(STVEC), vector);

    csr_write!(SEPC, 0xffff_ffc0_0000_0002);
    check!("sepc_keeps_bit_1", csr_swap!(SEPC, 0x8020_0003), 0xffff_ffc0_0000_0002u64);
    // QEMU before 10.1 keeps bit 0 and ignores it in sret.
    check!("sepc_bit_0_reads_0", forgive(csr_read!(SEPC), 0x8020_0003, 0x8020_0002), 0x8020_0002);

    for cause in [0, 15, 31, 1 << 63 | 1, 1 << 63 | 5, 1 << 63 | 9] {
        csr_write!(SCAUSE, cause);
        check!(format_args!("scause_holds_{cause:#x}"), csr_read!(SCAUSE), cause);
    }
    for value in [0, 0x8020_0001, 0xffff_ffff_ffff_ffff, 0x3f_ffff_ffff] {
        csr_write!(STVAL, value);
        check!(format_args!("stval_holds_{value:#x}"), csr_read!(STVAL), value);
    }
}

fn interrupt_registers() {
    // 13 is LCOFI, of Sscofpmf.
    let optional = 1u64 << 13;
    let enabled = csr_swap!(SIE, !0);
    check!("sie_holds_bits_1_5_9", csr_swap!(SIE, 0) & !optional, 0x222u64);
    check!("sie_clears", csr_swap!(SIE, enabled), 0u64);
    let pending = csr_swap!(SIP, !0);
    check!("only_ssip_can_be_set", csr_swap!(SIP, 0) & !optional, pending & 0x220 | 2);
    check!("ssip_can_be_cleared", csr_read!(SIP) & 2, 0u64);
    csr_set!(SIP, 2);
    check!("ssip_can_be_set_by_csrrs", csr_clear!(SIP, 2) & 2, 2u64);
    check!("and_cleared_by_csrrc", csr_read!(SIP) & 2, 0u64);
}

fn satp_fields() {
    let bare = csr_read!(SATP);
    check!("satp_is_bare_at_the_start", bare, 0u64);
    let tables = Tables::with_kernel(Mode::Sv39);
    for mode in [1u64, 2, 5, 7, 11, 12, 15] {
        csr_write!(SATP, mode << 60 | tables.satp(3) & !(15 << 60));
        check!(format_args!("satp_write_with_mode_{mode}_is_ignored"), csr_read!(SATP), 0u64);
    }
    tables.activate(0xffff);
    check!("satp_holds_16_asid_bits", csr_read!(SATP), tables.satp(0xffff));
    csr_write!(SATP, 13 << 60);
    check!("a_reserved_mode_leaves_an_active_satp", csr_read!(SATP), tables.satp(0xffff));
    csr_write!(SATP, 0);
    paging::fence_all();
    check!("satp_returns_to_bare", csr_read!(SATP), 0u64);
    check_any!("sv48_is_taken_whole_or_refused", paging::supports(Mode::Sv48), [false, true]);
    // Sv57 is QEMU's, and hidden by the hypervisor: either way a write must be whole.
    let five = paging::supports(Mode::Sv57);
    check_any!("sv57_is_taken_whole_or_refused", five, [false, native()]);
}

fn counters() {
    for name in ["cycle", "time", "instret"] {
        let csr = CYCLE
            + match name {
                "cycle" => 0,
                "time" => 1,
                _ => 2,
            };
        csr_write!(SCOUNTEREN, 0);
        let first = read_csr(csr);
        let second = read_csr(csr);
        check!(format_args!("{name}_is_readable_whatever_scounteren_says"), exception(first), None);
        check!(
            format_args!("{name}_does_not_run_backwards"),
            second.unwrap_or(0) >= first.unwrap_or(u64::MAX)
        );
    }
    csr_write!(SCOUNTEREN, !0);
    let three = scounteren::CY | scounteren::TM | scounteren::IR;
    let held = csr_swap!(SCOUNTEREN, 0);
    check!("scounteren_holds_its_three_bits", held & three, three);
    // QEMU 7.2 keeps all 64 bits of a 32-bit register.
    check!("scounteren_is_32_bits", forgive(held >> 32, u32::MAX.into(), 0), 0u64);
    check!("scounteren_clears", csr_read!(SCOUNTEREN), 0u64);
}

fn environment() {
    let known = senvcfg::FIOM | senvcfg::CBIE | senvcfg::CBCFE | senvcfg::CBZE | 3 << 2 | 3 << 32;
    if read_csr(CsrAddr::SENVCFG.as_u16().into()).is_err() {
        // Harts before version 1.12 of the privileged architecture have none.
        return check!("senvcfg_may_be_missing_natively", native());
    }
    let before = csr_swap!(SENVCFG, !0);
    let filled = csr_swap!(SENVCFG, 0);
    check!("senvcfg_holds_known_fields_only", filled & !known, 0u64);
    check!("senvcfg_fiom_is_writable", filled & senvcfg::FIOM, senvcfg::FIOM);
    check!("senvcfg_clears", csr_swap!(SENVCFG, before), 0u64);
}

fn machine_and_unknown_registers() {
    for (name, csr) in [
        ("mstatus", 0x300),
        ("misa", 0x301),
        ("medeleg", 0x302),
        ("mideleg", 0x303),
        ("mie", 0x304),
        ("mtvec", 0x305),
        ("mcounteren", 0x306),
        ("menvcfg", 0x30a),
        ("mscratch", 0x340),
        ("mepc", 0x341),
        ("mcause", 0x342),
        ("mtval", 0x343),
        ("mip", 0x344),
        ("pmpcfg0", 0x3a0),
        ("pmpaddr0", 0x3b0),
        ("mcycle", 0xb00),
        ("minstret", 0xb02),
        ("mvendorid", 0xf11),
        ("mhartid", 0xf14),
        ("dcsr", 0x7b0),
        ("tselect", 0x7a0),
        ("custom_supervisor", 0x5c0),
        ("custom_supervisor_read_only", 0xdc0),
        ("reserved_supervisor", 0x11f),
        ("sedeleg", 0x102),
        ("sideleg", 0x103),
        ("custom_user", 0x800),
        ("ustatus", 0x000),
        ("uepc", 0x041),
        ("cycleh", 0xc80),
        ("reserved_user", 0x0ff),
    ] {
        check!(format_args!("reading_{name}_is_illegal"), exception(read_csr(csr)), Some(IllegalInstruction));
    }
    check!("writing_mstatus_is_illegal", exception(write_csr(0x300, 0)), Some(IllegalInstruction));
    let read = read_csr(0x300).map_err(|trap| trap.tval);
    let bits = u64::from(insn::csrrs(A0, 0x300, ZERO));
    check_any!("stval_is_the_instruction_or_0", read, [Err(bits), Err(0)]);
}

fn hidden_registers() {
    for (name, csr) in [
        ("hstatus", 0x600),
        ("hideleg", 0x603),
        ("hgatp", 0x680),
        ("htval", 0x643),
        ("vsstatus", 0x200),
        ("vsatp", 0x280),
        ("hcounteren", 0x606),
        ("htimedelta", 0x605),
        ("hgeip", 0xe12),
        ("stimecmp", 0x14d),
        ("vstimecmp", 0x24d),
        ("scontext", 0x5a8),
        ("siselect", 0x150),
        ("sireg", 0x151),
        ("stopei", 0x15c),
        ("stopi", 0xdb0),
        ("sstateen0", 0x10c),
        ("scountovf", 0xda0),
        ("srmcfg", 0x181),
        ("sctrctl", 0x14e),
        ("ssp", 0x011),
        ("jvt", 0x017),
        ("hpmcounter3", 0xc03),
    ] {
        hidden(format_args!("{name}_is_hidden"), &read_csr(csr));
    }
    if !native() {
        // OpenSBI 1.6 dies of it where the machine has no such counter.
        hidden("hpmcounter31_is_hidden", &read_csr(0xc1f));
    }
    // The seed must be read by a write, and traps unless M-mode allows it.
    hidden("seed_is_hidden", &write_csr(0x015, 0));
}

fn user_mode() {
    let arena = Arena::new(Mode::Sv39);
    let illegal = Some(IllegalInstruction);
    let user = |words: &[u32]| {
        arena.user_code(words);
        arena::user_call(arena::USER, 0, 0)
    };
    for (name, csr) in
        [("sstatus", 0x100), ("sie", 0x104), ("sscratch", SSCRATCH), ("satp", 0x180), ("mstatus", 0x300)]
    {
        let got = exception(user(&[insn::csrrs(A0, csr, ZERO), ECALL]));
        check!(format_args!("user_mode_reading_{name}_is_illegal"), got, illegal);
    }
    check!(
        "user_mode_writing_cycle_is_illegal",
        exception(user(&[insn::csrrw(ZERO, CYCLE, A0), ECALL])),
        illegal
    );
    for (name, bit) in [("cycle", 0), ("time", 1), ("instret", 2)] {
        let read = [insn::csrrs(A0, CYCLE + bit, ZERO), ECALL];
        csr_write!(SCOUNTEREN, 1 << bit);
        check!(format_args!("user_mode_reads_{name}_when_scounteren_allows"), exception(user(&read)), None);
        csr_write!(SCOUNTEREN, 7 & !(1 << bit));
        let denied = exception(user(&read));
        if name == "time" {
            // Firmware may emulate rdtime whatever scounteren says.
            check_any!("user_mode_reading_time_else_is_illegal_or_emulated", denied, [illegal, None]);
        } else {
            check!(format_args!("user_mode_reading_{name}_else_is_illegal"), denied, illegal);
        }
    }
    csr_write!(SCOUNTEREN, 0);
    paging::deactivate();
}
