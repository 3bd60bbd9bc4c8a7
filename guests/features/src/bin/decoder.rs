//! Loads and stores on device registers, in all their forms: what the hart does itself on memory must be
//! emulated there. Width, sign, register numbers, compressed and floating-point forms, atomics, misaligned
//! ones.
//!
//! Registers that read back what was written serve as memory: of one byte the UART's scratch, of four the
//! PLIC's first enable word, of eight the clock's alarm.
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena, DATA, USER, frame_with};
use features::insn::ECALL;
use features::native::forgive;
use features::{exception, exec, fault, outcome};
use guest_rt::isa::Exception::*;
use guest_rt::isa::csr::sstatus::{FS, FS_INITIAL};
use guest_rt::mmio::{self, PLIC, UART, plic, rtc};
use guest_rt::paging::{self, Mode, Pte, RW};
use guest_rt::trap::{Frame, Trap, catch};
use guest_rt::{access, check, check_any, csr_clear, csr_read, csr_set, csr_write, user};

features::feature!(checks);

const BYTE: u64 = UART + 7;
const WORD: u64 = PLIC + 0x2080;
const DOUBLE: u64 = rtc::ALARM_LOW;

fn checks(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 0);
    bytes();
    halves();
    words();
    doubles();
    floats();
    zcb();
    every_register();
    through_page_tables();
    atomics();
    misaligned();
    mmio::write32(WORD, 0);
    rtc::lower();
}

/// Runs one load with the address in a0 (and, for the stack forms, sp); gives a2.
macro_rules! load {
    ($instruction:literal, $address:expr) => {{
        let mut value = 0x7777_7777_7777_7777u64;
        // SAFETY: reads a device's register; sp is back before anything uses it, also where the load traps.
        let trap = catch(|| unsafe {
            asm!(".option push", ".option arch, +c, +d", "mv t0, sp", "mv sp, a0", $instruction, "mv sp, t0",
                ".option pop", in("a0") $address, inout("a2") value, out("t0") _);
        });
        outcome(trap.map_or(Ok(value), Err))
    }};
}

/// Runs one store of a2 in the same way.
macro_rules! store {
    ($instruction:literal, $address:expr, $value:expr) => {{
        // SAFETY: as in `load!`, with a register that only this test uses.
        let trap = catch(|| unsafe {
            asm!(".option push", ".option arch, +c, +d", "mv t0, sp", "mv sp, a0", $instruction, "mv sp, t0",
                ".option pop", in("a0") $address, in("a2") $value, out("t0") _);
        });
        outcome(trap.map_or(Ok(()), Err))
    }};
}

fn bytes() {
    check!("sb", (store!("sb a2, 0(a0)", BYTE, 0x1234_5680u64), mmio::read8(BYTE)), (Ok(()), 0x80));
    check!("lb_extends_the_sign", load!("lb a2, 0(a0)", BYTE), Ok(0x80u64 as i8 as u64));
    check!("lbu_extends_by_zeros", load!("lbu a2, 0(a0)", BYTE), Ok(0x80));
    check!("lb_with_a_positive_offset", load!("lb a2, 7(a0)", UART), Ok(0x80u64 as i8 as u64));
    check!("lbu_with_the_lowest_offset", load!("lbu a2, -2048(a0)", BYTE + 2048), Ok(0x80));
    check!(
        "sb_with_the_highest_offset",
        (store!("sb a2, 2047(a0)", BYTE - 2047, 0x5au64), mmio::read8(BYTE)),
        (Ok(()), 0x5a)
    );
    check!("lb_of_a_positive_byte", load!("lb a2, 0(a0)", BYTE), Ok(0x5a));
}

/// No register of two bytes is to be had: the modem control register, of one, shows that the forms work.
fn halves() {
    let mcr = UART + 4;
    let before = mmio::read8(mcr);
    let stored = store!("sh a2, 0(a0)", mcr, 0x0bu64);
    let (signed, unsigned) = (load!("lh a2, 0(a0)", mcr), load!("lhu a2, 0(a0)", mcr));
    mmio::write8(mcr, before);
    // A bus may also refuse the width.
    check_any!("sh", stored, [Ok(()), fault(StoreAccessFault, mcr)]);
    check_any!("lh", signed, [Ok(0x0b), fault(LoadAccessFault, mcr)]);
    check_any!("lhu", unsigned, [Ok(0x0b), fault(LoadAccessFault, mcr)]);
}

fn words() {
    const VALUE: u64 = 0x8765_4320;
    const SIGNED: u64 = 0xffff_ffff_8765_4320;
    check!(
        "sw",
        (store!("sw a2, 0(a0)", WORD, VALUE | 0x99 << 32), mmio::read32(WORD)),
        (Ok(()), VALUE as u32)
    );
    check!("lw_extends_the_sign", load!("lw a2, 0(a0)", WORD), Ok(SIGNED));
    check!("lwu_extends_by_zeros", load!("lwu a2, 0(a0)", WORD), Ok(VALUE));
    check!("lw_with_a_negative_offset", load!("lw a2, -4(a0)", WORD + 4), Ok(SIGNED));
    check!("c_lw", load!("c.lw a2, 0(a0)", WORD), Ok(SIGNED));
    check!("c_lw_with_bit_2_of_its_offset", load!("c.lw a2, 4(a0)", WORD - 4), Ok(SIGNED));
    check!("c_lw_with_bit_6_of_its_offset", load!("c.lw a2, 64(a0)", WORD - 64), Ok(SIGNED));
    check!("c_lw_with_its_highest_offset", load!("c.lw a2, 124(a0)", WORD - 124), Ok(SIGNED));
    check!("c_lwsp", load!("c.lwsp a2, 0(sp)", WORD), Ok(SIGNED));
    check!("c_lwsp_with_its_highest_offset", load!("c.lwsp a2, 252(sp)", WORD - 252), Ok(SIGNED));
    let after = |stored, wanted: u32| (stored, mmio::read32(WORD) ^ wanted);
    check!(
        "sw_with_a_negative_offset",
        after(store!("sw a2, -8(a0)", WORD + 8, 0x1110u64), 0x1110),
        (Ok(()), 0)
    );
    check!("c_sw", after(store!("c.sw a2, 0(a0)", WORD, 0x2220u64), 0x2220), (Ok(()), 0));
    check!(
        "c_sw_with_its_highest_offset",
        after(store!("c.sw a2, 124(a0)", WORD - 124, 0x3330u64), 0x3330),
        (Ok(()), 0)
    );
    check!("c_swsp", after(store!("c.swsp a2, 0(sp)", WORD, 0x4440u64), 0x4440), (Ok(()), 0));
    check!(
        "c_swsp_with_its_highest_offset",
        after(store!("c.swsp a2, 252(sp)", WORD - 252, 0x5550u64), 0x5550),
        (Ok(()), 0)
    );
}

/// The clock takes eight bytes as two words. It is armed far ahead, or a write would ring it.
fn doubles() {
    const FAR: u64 = 0x7edc_ba98_8765_4321;
    check!("sd", store!("sd a2, 0(a0)", DOUBLE, FAR), Ok(()));
    check!("sd_writes_both_words", alarm(), FAR);
    check!("ld", load!("ld a2, 0(a0)", DOUBLE), Ok(FAR));
    check!("c_ld", load!("c.ld a2, 0(a0)", DOUBLE), Ok(FAR));
    check!("c_ld_with_its_highest_offset", load!("c.ld a2, 248(a0)", DOUBLE - 248), Ok(FAR));
    check!("c_ldsp", load!("c.ldsp a2, 0(sp)", DOUBLE), Ok(FAR));
    check!("c_ldsp_with_its_highest_offset", load!("c.ldsp a2, 504(sp)", DOUBLE - 504), Ok(FAR));
    check!("c_sd", (store!("c.sd a2, 0(a0)", DOUBLE, FAR + 1), alarm()), (Ok(()), FAR + 1));
    check!(
        "c_sd_with_bit_6_of_its_offset",
        (store!("c.sd a2, 64(a0)", DOUBLE - 64, FAR + 2), alarm()),
        (Ok(()), FAR + 2)
    );
    check!("c_sdsp", (store!("c.sdsp a2, 0(sp)", DOUBLE, FAR + 3), alarm()), (Ok(()), FAR + 3));
    check!(
        "c_sdsp_with_its_highest_offset",
        (store!("c.sdsp a2, 504(sp)", DOUBLE - 504, FAR + 4), alarm()),
        (Ok(()), FAR + 4)
    );
}

fn alarm() -> u64 {
    u64::from(mmio::read32(rtc::ALARM_HIGH)) << 32 | u64::from(mmio::read32(rtc::ALARM_LOW))
}

fn floats() {
    csr_set!(SSTATUS, FS);
    if csr_read!(SSTATUS) & FS == 0 {
        return check!("a_hart_without_f_has_no_fs", csr_read!(SSTATUS) & FS, 0u64);
    }
    const FAR: u64 = 0x7ff0_1234_8765_4320;
    mmio::write32(WORD, 0x8765_4320);
    check!("flw_boxes_the_value", load!("flw fa0, 0(a0)\n fmv.x.d a2, fa0", WORD), Ok(0xffff_ffff_8765_4320));
    check!(
        "fsw",
        (store!("fmv.d.x fs0, a2\n fsw fs0, -4(a0)", WORD + 4, 0x5555_0000_6666_0010u64), mmio::read32(WORD)),
        (Ok(()), 0x6666_0010)
    );
    check!("fsd", (store!("fmv.d.x ft11, a2\n fsd ft11, 0(a0)", DOUBLE, FAR), alarm()), (Ok(()), FAR));
    check!("fld", load!("fld ft0, 0(a0)\n fmv.x.d a2, ft0", DOUBLE), Ok(FAR));
    check!("c_fld", load!("c.fld fa5, 8(a0)\n fmv.x.d a2, fa5", DOUBLE - 8), Ok(FAR));
    check!("c_fldsp", load!("c.fldsp fs11, 504(sp)\n fmv.x.d a2, fs11", DOUBLE - 504), Ok(FAR));
    check!(
        "c_fsd",
        (store!("fmv.d.x fs1, a2\n c.fsd fs1, 248(a0)", DOUBLE - 248, FAR + 1), alarm()),
        (Ok(()), FAR + 1)
    );
    check!(
        "c_fsdsp",
        (store!("fmv.d.x ft8, a2\n c.fsdsp ft8, 8(sp)", DOUBLE - 8, FAR + 2), alarm()),
        (Ok(()), FAR + 2)
    );
    csr_clear!(SSTATUS, FS);
    csr_set!(SSTATUS, FS_INITIAL);
    check!(
        "flw_from_a_device_makes_fs_dirty",
        (load!("flw fa0, 0(a0)", WORD), csr_read!(SSTATUS) & FS),
        (Ok(0x7777_7777_7777_7777), FS)
    );
    csr_clear!(SSTATUS, FS);
    let got = load!("flw fa0, 0(a0)", WORD).map_err(|fault| fault.exception);
    check!("with_fs_off_flw_from_a_device_is_illegal", got, Err(Some(IllegalInstruction)));
    let got = store!("fsd fa0, 0(a0)", DOUBLE, 0u64).map_err(|fault| fault.exception);
    check!("and_fsd_too", got, Err(Some(IllegalInstruction)));
}

/// Zcb's forms, where the hart has them.
fn zcb() {
    let frame = frame_with(0x80);
    let c_lbu = 0x0001_8110; // c.lbu a2, 0(a0)
    if exec::run(&[c_lbu], frame).is_err() {
        return check!(
            "a_hart_without_zcb_calls_it_illegal",
            exception(exec::run(&[c_lbu], frame)),
            Some(IllegalInstruction)
        );
    }
    mmio::write8(BYTE, 0x80);
    check!("c_lbu", load!(".half 0x8110", BYTE), Ok(0x80));
    check!("c_sb", (store!(".half 0x8910", BYTE, 0x5bu64), mmio::read8(BYTE)), (Ok(()), 0x5b));
    let mcr = UART + 4;
    let before = mmio::read8(mcr);
    let got = (store!(".half 0x8d10", mcr, 0x0bu64), load!(".half 0x8510", mcr), load!(".half 0x8550", mcr));
    mmio::write8(mcr, before);
    check!("c_sh_c_lhu_c_lh", got, (Ok(()), Ok(0x0b), Ok(0x0b)));
}

/// Each register as destination, source and base, from user mode, where none is needed for anything else.
fn every_register() {
    let arena = Arena::new(Mode::Sv39);
    let code = paging::frame();
    arena.map(USER, code, arena::USER_RWX);
    arena.map(DATA, WORD & !0xfff, RW | Pte::U);
    let address = DATA + (WORD & 0xfff);
    let filled = |base: usize| {
        let mut frame = Frame { pc: USER, ..Frame::ZERO };
        for (number, register) in frame.x.iter_mut().enumerate() {
            *register = 0x1000_0000 + 0x10 * number as u64;
        }
        frame.x[base] = address;
        frame
    };
    mmio::write32(WORD, 0x4321_0ab0);
    let (mut wrong_loads, mut wrong_stores) = (0u32, 0u32);
    for number in 0..32u32 {
        let base = if number == 5 { 6 } else { 5 };
        exec::write(code, &[base << 15 | 2 << 12 | number << 7 | 0x03, ECALL]); // lw xN, 0(base)
        let mut frame = filled(base as usize);
        let mut wanted = frame.x;
        wanted[number as usize] = 0x4321_0ab0;
        user::run(&mut frame);
        wrong_loads |= u32::from(frame.x[1..] != wanted[1..]) << number;
    }
    for number in 0..32u32 {
        let base = if number == 5 { 6 } else { 5 };
        exec::write(code, &[number << 20 | base << 15 | 2 << 12 | 0x23, ECALL]); // sw xN, 0(base)
        let mut frame = filled(base as usize);
        let wanted = frame.x;
        user::run(&mut frame);
        let stored = mmio::read32(WORD);
        let right = stored == if number == 0 { 0 } else { wanted[number as usize] as u32 };
        wrong_stores |= u32::from(!right || frame.x[1..] != wanted[1..]) << number;
    }
    let mut wrong_bases = 0u32;
    mmio::write32(WORD, 0x0000_7770);
    for base in 1..32u32 {
        exec::write(code, &[base << 15 | 2 << 12 | base << 7 | 0x03, ECALL]); // lw xN, 0(xN)
        let mut frame = filled(base as usize);
        user::run(&mut frame);
        wrong_bases |= u32::from(frame.x[base as usize] != 0x7770) << base;
    }
    check!("loads_write_exactly_their_register", wrong_loads, 0u32);
    check!("stores_take_exactly_their_register", wrong_stores, 0u32);
    check!("a_load_may_overwrite_its_base", wrong_bases, 0u32);
    paging::deactivate();
}

/// A page's rights count before what lies behind it.
fn through_page_tables() {
    let arena = Arena::new(Mode::Sv39);
    let at = DATA + (WORD & 0xfff);
    mmio::write32(WORD, 0x10);
    arena.map(DATA, WORD & !0xfff, RW & !Pte::W);
    check!("a_read_only_device_page_loads", load!("lw a2, 0(a0)", at), Ok(0x10));
    check!("and_refuses_stores", store!("sw a2, 0(a0)", at, 0u64), fault(StorePageFault, at));
    arena.map(DATA, WORD & !0xfff, RW | Pte::U);
    check!(
        "a_device_page_of_the_user_refuses_supervisor_mode",
        load!("lw a2, 0(a0)", at),
        fault(LoadPageFault, at)
    );
    arena.set(DATA, 0, Pte(0));
    check!("an_unmapped_device_page_faults", load!("lw a2, 0(a0)", at), fault(LoadPageFault, at));
    arena.map(DATA, WORD & !0xfff, RW & !Pte::A & !Pte::D);
    let stored = store!("sw a2, 0(a0)", at, 0x20u64);
    let bits = arena.tables.get(DATA, 0).0 & (Pte::A | Pte::D);
    check_any!(
        "a_store_to_a_device_marks_its_page_dirty_or_faults",
        (stored, bits),
        [(Ok(()), Pte::A | Pte::D), (fault(StorePageFault, at), 0)]
    );
    paging::deactivate();
}

/// Devices do no atomics. QEMU's do.
fn atomics() {
    mmio::write32(WORD, 0x40);
    let refused = |got, kind| forgive(got, None, Some(kind));
    let run = |word| exec::run(&[word], WORD);
    let load_reserved: u32 = 0x1005_252f; // lr.w a0, (a0)
    check!("lr_on_a_device", refused(exception(run(load_reserved)), LoadAccessFault), Some(LoadAccessFault));
    let store_conditional = 0x1805_252f; // sc.w a0, zero, (a0); without a reservation it may just fail
    check_any!("sc_on_a_device", exception(run(store_conditional)), [Some(StoreAccessFault), None]);
    for (name, word) in [
        ("amoadd_w", 0x0005_252fu32),
        ("amoswap_w", 0x0805_252f),
        ("amoor_w", 0x4005_252f),
        ("amoand_w", 0x6005_252f),
        ("amomaxu_w", 0xe005_252f),
        ("amoxor_d", 0x2005_352f),
    ] {
        let result: Result<u64, Trap> = run(word);
        if name.ends_with("_d") {
            // The PLIC refuses eight bytes whoever asks; QEMU reports that of the read alone.
            check_any!(
                format_args!("{name}_on_a_device"),
                exception(result),
                [Some(StoreAccessFault), Some(LoadAccessFault)]
            );
        } else {
            check!(
                format_args!("{name}_on_a_device"),
                refused(exception(result), StoreAccessFault),
                Some(StoreAccessFault)
            );
        }
    }
    check!(
        "an_lr_sc_loop_on_ram_still_works",
        {
            let frame = frame_with(4);
            // SAFETY: adds to a frame of the pool.
            unsafe {
                asm!("2: lr.w {v}, ({at})", "addi {v}, {v}, 1", "sc.w {v}, {v}, ({at})", "bnez {v}, 2b",
                v = out(reg) _, at = in(reg) frame);
            }
            arena::peek(frame)
        },
        5u64
    );
}

/// Devices take no misaligned access. QEMU takes them apart.
fn misaligned() {
    mmio::write32(WORD, 0x0101_0100);
    for (name, at) in [("in_a_register", WORD + 2), ("across_two", WORD + 3)] {
        let got = exception(access::load(guest_rt::isa::Width::Word, at));
        check_any!(
            format_args!("misaligned_load_{name}"),
            forgive(got, None, Some(LoadAccessFault)),
            [Some(LoadAccessFault), Some(LoadAddressMisaligned)]
        );
        let got = exception(access::store(guest_rt::isa::Width::Word, at, 0));
        check_any!(
            format_args!("misaligned_store_{name}"),
            forgive(got, None, Some(StoreAccessFault)),
            [Some(StoreAccessFault), Some(StoreAddressMisaligned)]
        );
    }
    let _ = mmio::read32(plic::THRESHOLD);
    check!(
        "the_device_still_answers",
        {
            mmio::write32(WORD, 0x80);
            mmio::read32(WORD)
        },
        0x80u32
    );
}
