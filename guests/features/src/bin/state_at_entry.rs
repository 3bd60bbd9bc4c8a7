//! What firmware leaves: each register of hart and board that a kernel can read, when it is entered, when a hart is
//! started or resumed by HSM, and after a suspension that keeps everything. The values are OpenSBI 1.1's on QEMU 7.2.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use features::hart_state::{self, Record, SINGLE_ZERO, State};
use features::insn::{A0, ECALL, ZERO, csrrs, csrrw};
use features::{arena, exec, outcome, poison};
use guest_rt::isa::Exception;
use guest_rt::isa::Interrupt::Software;
use guest_rt::isa::csr::{CsrAddr, sstatus};
use guest_rt::mmio::{PLIC, RTC, UART, VIRTIO, plic, read8, read32, write8};
use guest_rt::sbi::{self, HSM};
use guest_rt::virtio::{SLOTS, register};
use guest_rt::{check, csr_clear, csr_read, csr_set, csr_swap, csr_write, finisher, time};

features::feature!(checks);

/// The hart as the kernel was entered, and as it was entered again by a trap with stvec as it was. In .data, as the number
/// of entries is: the start clears .bss.
#[unsafe(link_section = ".data")]
static ENTERED: Record = Record::new();
#[unsafe(link_section = ".data")]
static RESTARTED: Record = Record::new();
#[unsafe(link_section = ".data")]
static ENTRIES: AtomicU64 = AtomicU64::new(0);
/// A second hart, as it was started, and whether it was.
static SECOND: Record = Record::new();
static HAS_STARTED: AtomicU64 = AtomicU64::new(0);

// Comes before the runtime's `_start`, to which it goes on.
global_asm!(
    r#"
    .pushsection .text.first, "ax"
    .globl record_entry
    record_entry:
        lla t0, {entries}
        ld t0, 0(t0)
        bnez t0, 1f
        lla t0, {entered}
        jal t1, record_state
        lla t0, {entries}
        li t1, 1
        sd t1, 0(t0)
    first_crash:
        unimp
    1:  lla t0, {restarted}
        jal t1, record_state
        j _start
    .popsection

    .pushsection .text
    .balign 4
    second_hart:
        mv t0, a1
        jal t1, record_state
        lla t0, {has_started}
        li t1, 1
        fence
        sd t1, 0(t0)
        li a7, {hsm}
        li a6, 1
        ecall
    1:  j 1b
    .popsection
    "#,
    entries = sym ENTRIES,
    entered = sym ENTERED,
    restarted = sym RESTARTED,
    has_started = sym HAS_STARTED,
    hsm = const HSM,
);

unsafe extern "C" {
    safe fn record_entry();
    safe fn first_crash();
    safe fn second_hart();
}

/// Suspend types.
const RETENTIVE: u64 = 0;
const NON_RETENTIVE: u64 = 0x8000_0000;
/// User mode may read cycle, time and instret.
const ALL_COUNTERS: u64 = 7;
/// CSRs that only a hart with V has.
const VLENB: u32 = CsrAddr::VLENB.as_u16() as u32;

fn checks(hart: u64, device_tree: u64) {
    // The devices first, before anybody has used them.
    uart();
    plic();
    let entered = ENTERED.get();
    handed_over("entry", &entered, record_entry as *const () as u64, hart, device_tree);
    check!("entry_sip", entered.sip, 0u64);
    check!("entry_sepc_scause_stval", (entered.sepc, entered.scause, entered.stval), (0, 0, 0));
    check!("the_device_tree_is_one", read32(device_tree).swap_bytes(), 0xd00d_feed_u32);
    check!("entry_senvcfg", outcome(exec::read_csr(CsrAddr::SENVCFG.as_u16().into())), Ok(0));
    vectors("entry");
    first_trap(hart, device_tree);
    other_devices();
    user_counters();
    retentive(hart);
    non_retentive(hart);
    start_of_another(hart);
}

/// What firmware leaves each time it hands a hart over.
fn handed_over(name: &str, found: &State, pc: u64, hart: u64, opaque: u64) {
    check!(format_args!("{name}_a0_and_a1"), (found.x[10], found.x[11]), (hart, opaque));
    let vs = if has_vectors() { sstatus::VS_DIRTY } else { 0 };
    let status = sstatus::UXL_64 | sstatus::SD | sstatus::FS_DIRTY | vs;
    check!(format_args!("{name}_sstatus_has_units_dirty_and_nothing_else"), found.sstatus, status);
    check!(format_args!("{name}_sie"), found.sie, 0u64);
    check!(format_args!("{name}_stvec_is_where_the_hart_begins"), found.stvec, pc);
    check!(format_args!("{name}_scounteren"), found.scounteren & 0xffff_ffff, ALL_COUNTERS);
    check!(format_args!("{name}_sscratch"), found.sscratch, 0u64);
    check!(format_args!("{name}_satp"), found.satp, 0u64);
    check!(format_args!("{name}_fcsr"), found.fcsr, 0u64);
    check!(format_args!("{name}_float_registers_are_single_zeros"), found.f, [SINGLE_ZERO; 32]);
}

/// Whether the hart has V. QEMU 7.2 keeps VS without it, but has no vlenb then.
fn has_vectors() -> bool {
    let before = csr_set!(SSTATUS, sstatus::VS);
    let has = exec::read_csr(VLENB).is_ok();
    csr_write!(SSTATUS, before);
    has
}

/// Vector registers and CSRs, which nobody has touched; Rust's code has no vector instructions.
fn vectors(name: &str) {
    if !has_vectors() {
        return;
    }
    csr_set!(SSTATUS, sstatus::VS);
    let csrs =
        [CsrAddr::VSTART, CsrAddr::VCSR, CsrAddr::VL].map(|csr| outcome(exec::read_csr(csr.as_u16().into())));
    check!(format_args!("{name}_vstart_vcsr_vl"), csrs, [Ok(0), Ok(0), Ok(0)]);
    let vtype = outcome(exec::read_csr(CsrAddr::VTYPE.as_u16().into()));
    check!(format_args!("{name}_vtype"), vtype, Ok(1 << 63));
    check!(format_args!("{name}_vector_registers"), poison::vectors().iter().all(|byte| *byte == 0));
}

/// A trap before stvec was set enters the kernel again, with all registers as they were.
fn first_trap(hart: u64, device_tree: u64) {
    let found = RESTARTED.get();
    check!("a_crash_before_stvec_is_set_enters_the_kernel_again", ENTRIES.load(Ordering::Relaxed), 1u64);
    let crash = first_crash as *const () as u64;
    let cause = Exception::IllegalInstruction.code();
    check!("its_sepc_and_scause", (found.sepc, found.scause), (crash, cause));
    check!("its_a0_and_a1", (found.x[10], found.x[11]), (hart, device_tree));
    check!("its_sstatus", found.sstatus, ENTERED.get().sstatus | sstatus::SPP);
}

fn uart() {
    let at = |offset| read8(UART + offset);
    check!("uart_ier", at(1), 0u8);
    check!("uart_iir_says_fifos", at(2), 0xc1u8);
    check!("uart_lcr_is_eight_bits", at(3), 3u8);
    check!("uart_mcr", at(4), 0u8);
    check!("uart_lsr", at(5), 0x60u8);
    check!("uart_msr", at(6), 0xb0u8);
    check!("uart_scr", at(7), 0u8);
    write8(UART + 3, 0x83);
    let divisor = (at(0), at(1));
    write8(UART + 3, 3);
    check!("uart_divisor", divisor, (2, 0));
}

fn plic() {
    let priorities = (1..=96).filter(|source| read32(plic::priority(*source)) != 0).count();
    check!("plic_priorities", priorities, 0usize);
    check!("plic_pending", [0, 32, 64, 96].map(|source| read32(plic::pending(source))), [0; 4]);
    for (name, enable, threshold) in
        [("machine", PLIC + 0x2000, PLIC + 0x20_0000), ("supervisor", PLIC + 0x2080, PLIC + 0x20_1000)]
    {
        check!(format_args!("plic_{name}_enabled"), [0, 4, 8, 12].map(|word| read32(enable + word)), [0; 4]);
        check!(format_args!("plic_{name}_threshold_masks_all"), read32(threshold), 7u32);
        check!(format_args!("plic_{name}_claim"), read32(threshold + 4), 0u32);
    }
}

fn other_devices() {
    check!("finisher", read32(finisher::ADDRESS), 0u32);
    for (name, offset) in [("alarm_low", 8), ("alarm_high", 12), ("enabled", 16), ("armed", 24)] {
        check!(format_args!("rtc_{name}"), read32(RTC + offset), 0u32);
    }
    for slot in 0..SLOTS {
        let at = |offset| read32(VIRTIO + 0x1000 * slot + offset);
        check!(format_args!("virtio_{slot}_magic"), at(register::MAGIC), 0x7472_6976u32);
        let state = (at(register::STATUS), at(register::INTERRUPT_STATUS));
        check!(format_args!("virtio_{slot}_status_and_interrupts"), state, (0, 0));
    }
}

/// User mode reads all three counters without the kernel's doing.
fn user_counters() {
    for (name, csr) in [("cycle", 0xc00), ("time", 0xc01), ("instret", 0xc02)] {
        let read = arena::user_call(exec::page(&[csrrs(A0, csr, ZERO), ECALL]), 0, 0);
        check!(format_args!("a_user_reads_{name}"), outcome(read).map(|value| value != 0), Ok(true));
    }
}

/// Makes a software interrupt pending and enabled, with interrupts off: a suspension ends at once.
fn pend(hart: u64) {
    csr_write!(SIE, Software.mask());
    sbi::send_ipi(1, hart);
}

fn settle() {
    csr_write!(SIE, 0);
    csr_clear!(SIP, Software.mask());
}

/// All that a kernel may have in its registers, of which a resumed hart finds some.
fn fill() {
    csr_write!(SCOUNTEREN, 3);
    csr_write!(SSCRATCH, 0x55);
    csr_set!(SSTATUS, sstatus::SUM | sstatus::SPIE | sstatus::FS);
    // fmv.d.x fa0, a0.
    let _ = exec::run(&[0xf205_0553, csrrw(ZERO, 3, A0)], 0x61);
    csr_write!(SEPC, 0x44);
    csr_write!(SCAUSE, 5);
    csr_write!(STVAL, 6);
}

fn retentive(hart: u64) {
    pend(hart);
    fill();
    let result = hart_state::suspend(RETENTIVE);
    let trap = (csr_read!(SEPC), csr_read!(SCAUSE), csr_read!(STVAL));
    let found = (csr_read!(SCOUNTEREN), csr_read!(SSCRATCH), csr_read!(SIE), csr_read!(SIP));
    let status = csr_swap!(SSTATUS, 0);
    settle();
    check!("a_retentive_suspension_returns", result.map(|_| ()), Err(0));
    check!("it_keeps_the_trap_registers", trap, (0x44, 5, 6));
    check!("it_keeps_counters_scratch_and_interrupts", found, (3, 0x55, Software.mask(), Software.mask()));
    let kept = sstatus::SUM | sstatus::SPIE | sstatus::FS;
    check!("it_keeps_sstatus", status & kept, kept);
    csr_set!(SSTATUS, sstatus::FS);
    // fmv.x.d a0, fa0.
    check!("it_keeps_float_registers", outcome(exec::run(&[0xe205_0553], 0)), Ok(0x61));
    check!("it_keeps_fcsr", outcome(exec::run(&[csrrs(A0, 3, ZERO)], 0)), Ok(0x61));
}

fn non_retentive(hart: u64) {
    if has_vectors() {
        poison::set_vectors(0x5a);
    }
    pend(hart);
    fill();
    let vector = csr_read!(STVEC);
    let result = hart_state::suspend(NON_RETENTIVE);
    let found = match result {
        Ok(found) => found,
        Err(error) => return check!("a_non_retentive_suspension_resumes", error, 1i64),
    };
    check!("resumed_sip_keeps_the_interrupt", found.sip, Software.mask());
    settle();
    handed_over("resumed", &found, hart_state::resume_address(), hart, hart_state::opaque());
    check!("resumed_sepc_scause_stval", (found.sepc, found.scause, found.stval), (0x44, 5, 6));
    check!("the_kernels_vector_is_its_own_again", csr_read!(STVEC), vector);
    if has_vectors() {
        csr_set!(SSTATUS, sstatus::VS);
        let length = outcome(exec::read_csr(CsrAddr::VL.as_u16().into()));
        check!("resumed_vl_is_the_longest", length, Ok(poison::vectors().len() as u64 / 4));
        check!("resumed_vtype", outcome(exec::read_csr(CsrAddr::VTYPE.as_u16().into())), Ok(0xc3));
        check!("resumed_vector_registers_are_kept", poison::vectors().iter().all(|byte| *byte == 0x5a));
    }
}

/// A second hart, where the machine has one.
fn start_of_another(hart: u64) {
    let other = hart ^ 1;
    if sbi::call2(HSM, 2, other, 0).error != 0 {
        return;
    }
    let address = second_hart as *const () as u64;
    let error = sbi::call(HSM, 0, [other, address, SECOND.address(), 0, 0, 0]).error;
    check!("another_hart_can_be_started", error, 0i64);
    let came = time::wait_until(time::FREQUENCY, || HAS_STARTED.load(Ordering::Acquire) != 0);
    check!("it_has_started", came);
    handed_over("started", &SECOND.get(), address, other, SECOND.address());
}
