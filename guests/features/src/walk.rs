//! The suite of the page walk, one for all modes. Priv. spec, "Virtual Address Translation Process".
//!
//! SUM and MXR, A and D, superpages and fences have guests of their own.

use crate::arena::{self, Arena, DATA, USER, frame_with, load, store, user_call, user_load, user_store};
use crate::insn::{self, A0, ECALL, RET, ZERO, addi};
use crate::native::{forgive, native};
use crate::{Outcome, exception, exec, fault, outcome};
use core::arch::asm;
use guest_rt::isa::Exception::{self, *};
use guest_rt::isa::csr::CsrAddr;
use guest_rt::mmio::{BEYOND_RAM, HOLE};
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX, Tables};
use guest_rt::{access, check, check_any, csr_read};

/// What the code pages return.
const SEVEN: [u32; 2] = [addi(A0, ZERO, 7), RET];
const USER_SEVEN: [u32; 2] = [addi(A0, ZERO, 7), ECALL];

/// Runs all checks in `mode`, which the hart must have.
pub fn checks(mode: Mode) {
    check!("mode_is_supported", paging::supports(mode));
    turns_on_by_faulting(mode);
    let arena = Arena::new(mode);
    check!("satp_reads_back", csr_read!(SATP), arena.tables.satp(0));
    arena.user_code(&arena::USER_ACCESSES);
    supervisor_permissions(&arena);
    user_permissions(&arena);
    malformed_entries(&arena, mode);
    outside_ram(&arena);
    canonical_addresses(&arena, mode);
    page_crossings(&arena);
    paging::deactivate();
    check!("satp_is_off_again", csr_read!(SATP), 0u64);
}

/// Turns translation on as Linux does: the tables do not map the running code, so the next fetch faults
/// and lands on an stvec that only they map.
fn turns_on_by_faulting(mode: Mode) {
    let csrrs = |csr: CsrAddr| insn::csrrs(A0, csr.as_u16().into(), ZERO);
    // csrw satp, a1; sfence.vma; csrr a0, scause; jr a2
    let landing = exec::page(&[
        insn::csrrw(ZERO, CsrAddr::SATP.as_u16().into(), insn::A1),
        insn::SFENCE_VMA,
        csrrs(CsrAddr::SCAUSE),
        insn::i_type(0x67, 0, ZERO, 12, 0),
    ]);
    let early = Tables::new(mode);
    early.map(DATA, landing, 0, RWX & !Pte::W);
    let full = Tables::with_kernel(mode);
    full.map(DATA, landing, 0, RWX & !Pte::W);

    let (cause, epc, tval, expected): (u64, u64, u64, u64);
    // SAFETY: comes back to label 3 through the landing page with stvec and satp as before.
    unsafe {
        asm!(
            "csrr {vector}, stvec",
            "csrw stvec, {landing}",
            "lla a2, 3f",
            "lla {expected}, 2f",
            "sfence.vma",
            "csrw satp, a0",
            "2: li a0, -1", // skipped by the fault
            "3: csrr {epc}, sepc",
            "csrr {tval}, stval",
            "csrw stvec, {vector}",
            "csrw satp, zero",
            "sfence.vma",
            vector = out(reg) _, landing = in(reg) DATA, expected = out(reg) expected,
            epc = out(reg) epc, tval = out(reg) tval,
            inlateout("a0") early.satp(0) => cause, in("a1") full.satp(0), out("a2") _,
        );
    }
    check!("satp_takes_effect_on_the_next_fetch", cause, InstructionPageFault.code());
    check!("that_fetch_faults_at_its_own_pc", (epc, tval), (expected, expected));
}

/// All combinations of R, W, X and U, accessed from supervisor mode.
fn supervisor_permissions(arena: &Arena) {
    let frame = exec::page(&SEVEN);
    let word = arena::peek(frame);
    for_all_permissions(|flags, can_load, can_store, can_fetch| {
        arena.map(DATA, frame, flags | Pte::A | Pte::D);
        let user = flags & Pte::U != 0;
        let wanted = (
            if can_load && !user { Ok(word) } else { fault(LoadPageFault, DATA) },
            if can_store && !user { Ok(()) } else { fault(StorePageFault, DATA) },
            if can_fetch && !user { Ok(7) } else { fault(InstructionPageFault, DATA) },
        );
        check!(format_args!("supervisor_with_{}", Letters(flags)), accesses(DATA, word), wanted);
    });
}

/// The same from user mode.
fn user_permissions(arena: &Arena) {
    let frame = exec::page(&USER_SEVEN);
    let word = arena::peek(frame);
    for_all_permissions(|flags, can_load, can_store, can_fetch| {
        arena.map(DATA, frame, flags | Pte::A | Pte::D);
        let user = flags & Pte::U != 0;
        let got = (outcome(user_load(DATA)), outcome(user_store(DATA, word)), outcome(user_call(DATA, 0, 0)));
        let wanted = (
            if can_load && user { Ok(word) } else { fault(LoadPageFault, DATA) },
            if can_store && user { Ok(()) } else { fault(StorePageFault, DATA) },
            if can_fetch && user { Ok(7) } else { fault(InstructionPageFault, DATA) },
        );
        check!(format_args!("user_with_{}", Letters(flags)), got, wanted);
    });
}

/// Calls `body` with each of the 16 combinations of R, W, X, U (and V), and what they allow.
fn for_all_permissions(mut body: impl FnMut(u64, bool, bool, bool)) {
    for combination in 0..16u64 {
        let flags = combination << 1 | Pte::V;
        let has = |flag| flags & flag != 0;
        // W without R is reserved; none of the three is a pointer, which the last level must not hold.
        let legal = has(Pte::R) || !has(Pte::W);
        body(flags, legal && has(Pte::R), legal && has(Pte::W), legal && has(Pte::X));
    }
}

/// Entries that no walk may use, by name. Each must fault for all three kinds of access.
fn malformed_entries(arena: &Arena, mode: Mode) {
    let frame = exec::page(&SEVEN);
    let word = arena::peek(frame);
    let good = Pte::new(frame, RWX);
    arena.map(DATA, frame, RWX);
    check!("well_formed_entry", accesses(DATA, word), (Ok(word), Ok(()), Ok(7)));

    let page_faults = all_fault([LoadPageFault, StorePageFault, InstructionPageFault], DATA);
    arena.set(DATA, 0, Pte(good.0 & !Pte::V));
    check!("invalid_entry_faults_whatever_else_it_holds", accesses(DATA, word), page_faults);
    // QEMU 7.2 with Svpbmt or Svnapot looks at none of these.
    let lax = |got| forgive(got, (Ok(word), Ok(()), Ok(7)), page_faults);
    for bit in 54..=60 {
        arena.set(DATA, 0, Pte(good.0 | 1 << bit));
        check!(format_args!("reserved_bit_{bit}_faults"), lax(accesses(DATA, word)), page_faults);
    }
    // Svnapot knows only one size, whose page number ends in 1000; Svpbmt reserves type 3.
    arena.set(DATA, 0, Pte(good.0 & !(0xf << 10) | 1 << 10 | 1 << 63));
    check!("n_with_a_reserved_size_faults", accesses(DATA, word), page_faults);
    arena.set(DATA, 0, Pte(good.0 | 3 << 61));
    check!("memory_type_3_faults", lax(accesses(DATA, word)), page_faults);
    for flag in [Pte::A, Pte::D, Pte::U] {
        arena.map(DATA, frame, RWX);
        let table = arena.tables.get(DATA, 1);
        arena.set(DATA, 1, Pte(table.0 | flag));
        check!(format_args!("pointer_with_{}_faults", Letters(flag)), accesses(DATA, word), page_faults);
        arena.set(DATA, 1, table);
    }
    let table = arena.tables.get(DATA, 1);
    arena.set(DATA, 1, Pte(table.0 | Pte::G));
    check!("pointer_may_be_global", accesses(DATA, word), (Ok(word), Ok(()), Ok(7)));
    arena.set(DATA, 1, table);
    // In the upper half, since the root's first entry maps this kernel too.
    let upper = (!0 << (mode.address_bits() - 1)) | DATA;
    arena.map(upper, frame, RWX);
    for level in 1..mode.levels() {
        let entry = arena.tables.get(upper, level);
        arena.set(upper, level, Pte(0));
        let page_faults = all_fault([LoadPageFault, StorePageFault, InstructionPageFault], upper);
        check!(format_args!("invalid_pointer_at_level_{level}_faults"), accesses(upper, word), page_faults);
        arena.set(upper, level, entry);
    }
    // The two bits between D and the page number are software's.
    arena.set(DATA, 0, Pte(good.0 | 3 << 8));
    check!("software_bits_are_ignored", accesses(DATA, word), (Ok(word), Ok(()), Ok(7)));
}

/// Tables and pages outside RAM.
fn outside_ram(arena: &Arena) {
    let access_faults = all_fault([LoadAccessFault, StoreAccessFault, InstructionAccessFault], DATA);
    let page_faults = all_fault([LoadPageFault, StorePageFault, InstructionPageFault], DATA);
    for (name, phys) in [("far_above_ram", BEYOND_RAM), ("in_a_hole", HOLE)] {
        arena.map(DATA, phys, RWX);
        check!(format_args!("page_{name}_is_an_access_fault"), accesses(DATA, 0), access_faults);
        let table = arena.tables.get(DATA, 1);
        arena.set(DATA, 1, Pte::new(phys, Pte::V));
        // QEMU reports a page fault where the specification wants an access fault.
        let got = forgive(accesses(DATA, 0), page_faults, access_faults);
        check!(format_args!("table_{name}_is_an_access_fault_of_the_access"), got, access_faults);
        arena.set(DATA, 1, table);
    }
}

/// Bits above the mode's must copy its highest one.
fn canonical_addresses(arena: &Arena, mode: Mode) {
    let frame = exec::page(&SEVEN);
    let word = arena::peek(frame);
    arena.map(DATA, frame, RWX);
    let bits = mode.address_bits();
    let wrong = [
        ("the_first_bit_above", DATA | 1 << bits),
        ("the_sign_bit", DATA | 1 << 63),
        ("all_bits_but_the_highest_used", DATA | !0 << bits),
        ("the_highest_used_bit_alone", DATA | 1 << (bits - 1)),
    ];
    for (name, virt) in wrong {
        let page_faults = all_fault([LoadPageFault, StorePageFault, InstructionPageFault], virt);
        check!(format_args!("{name}_set_is_not_canonical"), accesses(virt, word), page_faults);
    }
    let upper_half = !0u64 << (bits - 1);
    for (name, virt) in [
        ("the_first_page_of_the_upper_half", upper_half),
        ("a_page_in_the_upper_half", upper_half + DATA),
        ("the_last_page", PAGE.wrapping_neg()),
        ("the_last_page_of_the_lower_half", !upper_half & !(PAGE - 1)),
    ] {
        arena.map(virt, frame, RWX);
        check!(format_args!("{name}_can_be_mapped"), accesses(virt, word), (Ok(word), Ok(()), Ok(7)));
    }
}

/// Accesses and instructions that straddle two pages.
fn page_crossings(arena: &Arena) {
    let (first, second) = (paging::frame(), paging::frame());
    // Halves of `addi a0, zero, 7`, then c.jr ra.
    let seven = SEVEN[0];
    exec::write(first + PAGE - 4, &[insn::TWO_C_NOPS & 0xffff | seven << 16]);
    exec::write(second, &[seven >> 16 | 0x8082 << 16]);
    let border = DATA + PAGE;

    arena.map(DATA, first, RWX);
    arena.map(border, second, RWX);
    check!("instruction_across_two_pages_runs", outcome(access::call(border - 2, 0)), Ok(7));
    arena.map(border, second, RW);
    let trap = access::call(border - 2, 0);
    check!("the_second_page_of_an_instruction_faults", outcome(trap), fault(InstructionPageFault, border));
    check!("sepc_is_where_that_instruction_begins", trap.err().map(|trap| trap.epc), Some(border - 2));
    if !native() {
        // QEMU 7.2 dies of an assertion when the second half lies outside RAM.
        arena.map(border, BEYOND_RAM, RWX);
        let got = outcome(access::call(border - 2, 0));
        check!("the_second_page_outside_ram_is_an_access_fault", got, fault(InstructionAccessFault, border));
    }

    arena.map(border, second, RWX & !Pte::W);
    arena::poke(second, 0x1234);
    let loaded = load(border - 4);
    check_any!(
        "a_load_across_two_pages_works_or_is_misaligned",
        exception(loaded),
        [None, Some(LoadAddressMisaligned)]
    );
    if let Ok(value) = loaded {
        check!("it_joins_both_pages", value >> 32, 0x1234u64);
    }
    let stored = outcome(store(border - 4, 0));
    check_any!(
        "a_store_across_two_pages_faults_at_the_second",
        stored,
        [fault(StorePageFault, border), fault(StoreAddressMisaligned, border - 4)]
    );
    arena.set(border, 0, Pte(0));
    check_any!(
        "a_load_across_two_pages_faults_at_the_second",
        outcome(load(border - 4)),
        [fault(LoadPageFault, border), fault(LoadAddressMisaligned, border - 4)]
    );
    let frame = frame_with(0);
    arena.map(USER + PAGE, frame, RWX | Pte::U);
    check!("user_mode_sees_its_neighbouring_page", outcome(user_load(USER + PAGE)), Ok(0));
}

/// A load, a store of `word` and a call at `virt`.
fn accesses(virt: u64, word: u64) -> (Outcome<u64>, Outcome<()>, Outcome<u64>) {
    (outcome(load(virt)), outcome(store(virt, word)), outcome(access::call(virt, 0)))
}

/// What [`accesses`] gives where each faults.
fn all_fault(kinds: [Exception; 3], virt: u64) -> (Outcome<u64>, Outcome<()>, Outcome<u64>) {
    (fault(kinds[0], virt), fault(kinds[1], virt), fault(kinds[2], virt))
}

/// An entry's flags as letters.
struct Letters(u64);

impl core::fmt::Display for Letters {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (flag, letter) in [
            (Pte::V, 'v'),
            (Pte::R, 'r'),
            (Pte::W, 'w'),
            (Pte::X, 'x'),
            (Pte::U, 'u'),
            (Pte::A, 'a'),
            (Pte::D, 'd'),
        ] {
            if self.0 & flag != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}
