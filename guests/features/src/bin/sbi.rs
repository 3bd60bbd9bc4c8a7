//! The SBI: what each extension answers to right and wrong calls. SBI spec 2.0.
//!
//! The timer extension's effects are in `timer`; arguments at the borders of their ranges in `hostile`,
//! harts' states in `hsm`.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena, DATA, frame_with, load};
use features::native::{forgive, native};
use guest_rt::isa::Interrupt::Software;
use guest_rt::mmio::{self, HOLE};
use guest_rt::paging::{self, Mode, RW};
use guest_rt::sbi::{
    self, BASE, DBCN, FAILED, HSM, INVALID_ADDRESS, INVALID_PARAM, IPI, NOT_SUPPORTED, RFENCE, SRST, TIME,
    call, call2,
};
use guest_rt::trap::catch;
use guest_rt::{check, check_any, csr_clear, csr_read, csr_write};

features::feature!(checks);

/// A hart that the machine does not have.
const ABSENT: u64 = 77;

fn checks(hart: u64, _device_tree: u64) {
    base();
    registers();
    unknown();
    ipi(hart);
    remote_fences();
    reset();
    debug_console();
    legacy();
}

fn base() {
    let get = |function| call2(BASE, function, 0, 0);
    let version = get(0);
    check!("base_version_succeeds", version.error, 0i64);
    if native() {
        check!("base_version_is_at_least_0_3", version.value >= 3);
    } else {
        check!("base_version_is_2_0", version.value, 2u64 << 24);
    }
    for (name, function) in [
        ("implementation", 1),
        ("implementation_version", 2),
        ("vendor", 4),
        ("architecture", 5),
        ("machine", 6),
    ] {
        check!(format_args!("base_{name}_succeeds"), get(function).error, 0i64);
    }
    check!("base_function_7_is_not_supported", get(7).error, NOT_SUPPORTED);
    for (name, extension) in
        [("base", BASE), ("time", TIME), ("ipi", IPI), ("rfence", RFENCE), ("hsm", HSM), ("srst", SRST)]
    {
        let answer = call2(BASE, 3, extension, 0);
        check!(format_args!("base_probe_finds_{name}"), (answer.error, answer.value != 0), (0, true));
    }
    // All bits of the number count.
    check!("base_function_of_33_bits_is_not_supported", get(1 << 32).error, NOT_SUPPORTED);
    check!("extension_of_33_bits_is_not_supported", call2(BASE | 1 << 32, 0, 0, 0).error, NOT_SUPPORTED);
    for (name, extension) in
        [("nothing", 0x0123_4567), ("the_all_ones_id", 0xffff_ffff), ("time_of_33_bits", TIME | 1 << 32)]
    {
        let answer = call2(BASE, 3, extension, 0);
        check!(format_args!("base_probe_does_not_find_{name}"), (answer.error, answer.value), (0, 0));
    }
}

/// SBI spec, "Binary Encoding": all registers but a0 and a1 are preserved.
fn registers() {
    let frames = [paging::frame(), paging::frame()];
    for number in 3..32 {
        arena::poke(frames[0] + 8 * number, 0x5a5a_0000_a5a5_0000 ^ (number * 0x0101_0001));
    }
    arena::poke(frames[0] + 8 * 16, 0); // a6: function 0
    arena::poke(frames[0] + 8 * 17, BASE); // a7
    // SAFETY: everything that is not declared is kept on the stack; sscratch is free between traps.
    unsafe {
        asm!(
            "addi sp, sp, -64",
            "sd gp, 0(sp)", "sd tp, 8(sp)", "sd s0, 16(sp)", "sd s1, 24(sp)", "sd a1, 32(sp)",
            ".irp n, 3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,10",
            "ld x\\n, 8*\\n(a0)",
            ".endr",
            "ecall",
            "csrw sscratch, t0",
            "ld t0, 32(sp)",
            ".irp n, 3,4,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "sd x\\n, 8*\\n(t0)",
            ".endr",
            "csrr t1, sscratch",
            "sd t1, 8*5(t0)",
            "ld gp, 0(sp)", "ld tp, 8(sp)", "ld s0, 16(sp)", "ld s1, 24(sp)",
            "addi sp, sp, 64",
            inlateout("a0") frames[0] => _, inlateout("a1") frames[1] => _,
            out("s2") _, out("s3") _, out("s4") _, out("s5") _, out("s6") _, out("s7") _, out("s8") _,
            out("s9") _, out("s10") _, out("s11") _, clobber_abi("C"),
        );
    }
    let changed = (3..32)
        .filter(|number| !(10..12).contains(number))
        .filter(|number| arena::peek(frames[0] + 8 * number) != arena::peek(frames[1] + 8 * number))
        .fold(0u32, |mask, number| mask | 1 << number);
    check!("all_registers_but_a0_and_a1_are_preserved", changed, 0u32);
    check!("a0_is_the_error", arena::peek(frames[1] + 8 * 10), 0u64);
}

fn unknown() {
    for (name, extension) in [
        ("unassigned", 0x0123_4567),
        ("experimental", 0x0800_0000),
        ("vendor", 0x0900_0000),
        ("reserved_legacy", 0xf),
    ] {
        let vendor = name == "vendor" && native(); // A firmware may have one.
        let error = call2(extension, 0, 0, 0).error;
        check!(
            format_args!("{name}_extension_is_not_supported"),
            if vendor { NOT_SUPPORTED } else { error },
            NOT_SUPPORTED
        );
    }
    for (name, extension) in [("time", TIME), ("ipi", IPI), ("rfence", RFENCE), ("hsm", HSM), ("srst", SRST)]
    {
        check!(
            format_args!("{name}_function_99_is_not_supported"),
            call2(extension, 99, 0, 0).error,
            NOT_SUPPORTED
        );
    }
    for (name, extension) in [
        ("pmu", 0x50_4d55),
        ("susp", 0x5355_5350),
        ("cppc", 0x4350_5043),
        ("nacl", 0x4e41_434c),
        ("sta", 0x53_5441),
        ("sse", 0x53_5345),
        ("fwft", 0x4657_4654),
        ("dbtr", 0x4442_5452),
        ("mpxy", 0x4d50_5859),
        ("dbcn", DBCN),
    ] {
        if !sbi::probe(extension) {
            let error = call2(extension, 0, 0, 0).error;
            check!(format_args!("{name}_is_absent_in_probe_and_call"), error, NOT_SUPPORTED);
        }
    }
}

fn ssip() -> bool {
    csr_clear!(SIP, Software.mask()) & Software.mask() != 0
}

fn ipi(hart: u64) {
    csr_write!(SIE, 0);
    csr_clear!(SIP, Software.mask());
    let send = |mask, base| {
        let error = sbi::send_ipi(mask, base).error;
        // A firmware may take its time to interrupt itself.
        (error, guest_rt::time::wait_until(10_000, || csr_read!(SIP) & Software.mask() != 0) && ssip())
    };
    check!("ipi_to_this_hart", send(1, hart), (0, true));
    check!(
        "ipi_to_this_hart_by_a_high_bit",
        if hart == 0 { (0, true) } else { send(1 << hart, 0) },
        (0, true)
    );
    check!("ipi_to_all_by_base_minus_1", send(0, u64::MAX), (0, true));
    check!("ipi_to_all_ignores_the_mask", send(0xff00, u64::MAX), (0, true));
    check!("ipi_with_an_empty_mask_does_nothing", send(0, 0), (0, false));
    // OpenSBI checks the base first, and passes over absent harts in the mask.
    let empty = forgive(send(0, ABSENT), (INVALID_PARAM, false), (0, false));
    check!("ipi_with_an_empty_mask_succeeds_at_any_base", empty, (0, false));
    let absent = forgive(send(1 << 5, ABSENT), (0, false), (INVALID_PARAM, false));
    check!("ipi_to_an_absent_hart", absent, (INVALID_PARAM, false));
    let absent = forgive(send(2, hart), (0, false), (INVALID_PARAM, false));
    check!("ipi_to_an_absent_neighbour", absent, (INVALID_PARAM, false));
}

fn remote_fences() {
    let fence =
        |function, mask, base, start, size| call(RFENCE, function, [mask, base, start, size, 0, 0]).error;
    for (name, function) in [("fence_i", 0), ("sfence_vma", 1), ("sfence_vma_asid", 2)] {
        check!(format_args!("remote_{name}_of_this_hart"), fence(function, 1, 0, 0, 4096), 0i64);
        check!(format_args!("remote_{name}_of_all_harts"), fence(function, 0, u64::MAX, 0, 0), 0i64);
        check!(format_args!("remote_{name}_of_no_hart"), fence(function, 0, 0, 0, 0), 0i64);
        check!(format_args!("remote_{name}_of_everything"), fence(function, 1, 0, 0, u64::MAX), 0i64);
        check!(format_args!("remote_{name}_of_an_odd_range"), fence(function, 1, 0, 0xfff, 2), 0i64);
        check!(format_args!("remote_{name}_of_a_huge_range"), fence(function, 1, 0, 0, 1 << 50), 0i64);
        check_any!(
            format_args!("remote_{name}_of_a_range_that_wraps"),
            fence(function, 1, 0, u64::MAX - 0xfff, 0x2000),
            [0, INVALID_ADDRESS]
        );
        let absent = forgive(fence(function, 1, ABSENT, 0, 0), 0, INVALID_PARAM);
        check!(format_args!("remote_{name}_of_an_absent_hart"), absent, INVALID_PARAM);
    }
    for function in 3..=6 {
        let error = fence(function, 1, 0, 0, 4096);
        check!(
            format_args!("remote_hfence_{function}_is_not_supported"),
            forgive(error, 0, NOT_SUPPORTED),
            NOT_SUPPORTED
        );
    }
    let arena = Arena::new(Mode::Sv39);
    arena.tables.activate(3);
    for (name, function, size) in [
        ("sfence_vma", 1, 4096),
        ("sfence_vma_of_everything", 1, u64::MAX),
        ("sfence_vma_of_0_and_0", 1, 0),
        ("sfence_vma_asid", 2, 4096),
    ] {
        arena.map(DATA, frame_with(1), RW);
        let before = load(DATA).unwrap_or(0);
        arena.tables.map(DATA, frame_with(2), 0, RW);
        let start = if size == 0 { 0 } else { DATA };
        call(RFENCE, function, [1, 0, start, size, 3, 0]);
        check!(format_args!("remote_{name}_is_done_on_return"), (before, load(DATA).unwrap_or(0)), (1, 2));
    }
    paging::deactivate();
}

/// Calls that must not reset.
fn reset() {
    for (name, kind, reason) in [("type_3", 3, 0), ("type_0xefffffff", 0xefff_ffff, 0), ("reason_2", 0, 2)] {
        // OpenSBI 1.1 calls what is reserved not supported.
        let error = forgive(sbi::system_reset(kind, reason).error, NOT_SUPPORTED, INVALID_PARAM);
        check!(format_args!("reset_with_reserved_{name}"), error, INVALID_PARAM);
    }
    let vendor = sbi::system_reset(0xf000_0000, 0).error;
    check_any!("reset_of_a_vendor_type", vendor, [NOT_SUPPORTED, INVALID_PARAM]);
}

/// Absent in OpenSBI before 1.3.
fn debug_console() {
    if !sbi::probe(DBCN) {
        return check!("debug_console_may_be_missing_natively", native());
    }
    let text = paging::frame();
    for (address, byte) in (text..).zip(b"(debug console)\n") {
        mmio::write8(address, *byte);
    }
    let written = call(DBCN, 0, [16, text, 0, 0, 0, 0]);
    check!(
        "debug_console_writes_some_or_all",
        (written.error, written.value > 0 && written.value <= 16),
        (0, true)
    );
    check!(
        "debug_console_writes_nothing",
        call(DBCN, 0, [0, text, 0, 0, 0, 0]),
        sbi::Ret { error: 0, value: 0 }
    );
    if !native() {
        // OpenSBI 1.6 takes it for memory and dies.
        let [write, read] = [0, 1].map(|function| call(DBCN, function, [16, HOLE, 0, 0, 0, 0]).error);
        check!("debug_console_writes_from_outside_ram", write, INVALID_PARAM);
        check!("debug_console_reads_to_outside_ram", read, INVALID_PARAM);
    }
    let upper = call(DBCN, 0, [16, text, 1, 0, 0, 0]).error;
    check_any!("debug_console_with_an_upper_half", upper, [INVALID_PARAM, FAILED]);
    let read = call(DBCN, 1, [0, text, 0, 0, 0, 0]);
    check!("debug_console_reads_nothing", read, sbi::Ret { error: 0, value: 0 });
    check!(
        "debug_console_writes_the_low_byte",
        call2(DBCN, 2, 0xffff_ff00 | u64::from(b'\n'), 0).error,
        0i64
    );
    check!("debug_console_function_3", call2(DBCN, 3, 0, 0).error, NOT_SUPPORTED);
}

/// SBI spec, "Legacy Extensions": the result in a0 alone; a mask is a pointer, read as the caller would.
fn legacy() {
    let kept = call2(sbi::LEGACY_PUTCHAR, 0, b'\n'.into(), 0x1234);
    check!("legacy_putchar", (kept.error, kept.value), (0, 0x1234));
    let read = call2(sbi::LEGACY_GETCHAR, 0, 0, 0x1234);
    check!("legacy_getchar_without_input", (read.error, read.value), (-1, 0x1234));

    csr_clear!(SIP, Software.mask());
    let arena = Arena::new(Mode::Sv39);
    arena.map(DATA, frame_with(1), RW);
    let send = |pointer| call2(4, 0, pointer, 0).error;
    check!("legacy_ipi_reads_its_mask_by_virtual_address", (send(DATA), ssip()), (0, true));
    check!("legacy_ipi_without_a_mask_is_for_all", (send(0), ssip()), (0, true));
    let mut answer = 0;
    let trap = catch(|| answer = send(DATA + 0x1000));
    // OpenSBI hands the fault on; other firmware reports an error.
    let faulted = trap.map(|trap| (trap.cause, trap.tval));
    check!("legacy_ipi_with_an_unmapped_mask", faulted.is_some() || answer != 0);
    check_any!("its_fault_is_of_the_mask", faulted, [Some((13, DATA + 0x1000)), None]);
    sbi::send_ipi(1, 0);
    // Its result may say that there was one.
    check_any!("legacy_clear_ipi", (call2(3, 0, 0, 0).error, ssip()), [(0, false), (1, false)]);
    for (name, extension) in [("fence_i", 5), ("sfence_vma", 6), ("sfence_vma_asid", 7)] {
        let error = call(extension, 0, [DATA, 0, 4096, 0, 0, 0]).error;
        check!(format_args!("legacy_remote_{name}"), error, 0i64);
    }
    paging::deactivate();
}
