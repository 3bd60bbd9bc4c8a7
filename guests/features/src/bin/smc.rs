//! Code that is written while the machine runs: after FENCE.I the hart fetches what was written, by whatever
//! mapping. Unpriv. spec, "Zifencei".
#![no_std]
#![no_main]

use features::arena::{self, Arena, DATA, USER, USER_RWX};
use features::insn::{A0, A1, ECALL, RET, ZERO, addi, csrrs, csrrw};
use features::{exception, exec, modes, outcome};
use guest_rt::isa::Exception::{Breakpoint, IllegalInstruction};
use guest_rt::isa::csr::CsrAddr;
use guest_rt::mmio::write32;
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX};
use guest_rt::{access, check, csr_write};

features::feature!(checks);

const SSCRATCH: u32 = CsrAddr::SSCRATCH.as_u16() as u32;

fn checks(_hart: u64, _device_tree: u64) {
    rewritten_in_place();
    privileged_instructions_replaced();
    by_another_mapping();
    for_user_mode();
    across_two_pages();
    moved_to_another_page();
}

fn rewritten_in_place() {
    let page = exec::page(&[]);
    let wrong = (0..500)
        .filter(|&value| {
            exec::write(page, &[addi(A0, ZERO, value), RET]);
            outcome(access::call(page, 0)) != Ok(value as u64)
        })
        .count();
    check!("code_can_be_rewritten_500_times", wrong, 0);
    // The second instruction is written by the first ones.
    let store_a1 = 11 << 20 | 10 << 15 | 2 << 12 | 16 << 7 | 0x23; // sw a1, 16(a0)
    exec::write(
        page,
        &[store_a1, 0x0000_100f, addi(A0, ZERO, 1), addi(ZERO, ZERO, 0), addi(A0, ZERO, 2), RET],
    );
    // lui a1 and addi make the word that replaces `addi a0, zero, 2`.
    let word = addi(A0, ZERO, 3);
    let make = [(word + 0x800) & 0xffff_f000 | A1 << 7 | 0x37, addi(A1, A1, ((word << 20) as i32) >> 20)];
    exec::write(page + 0x100, &[make[0], make[1], jump(page + 0x108, page)]);
    check!("code_can_rewrite_what_comes_next", outcome(access::call(page + 0x100, page)), Ok(3));
}

/// j from one address to another, both in one page.
fn jump(from: u64, to: u64) -> u32 {
    let offset = to.wrapping_sub(from) as u32;
    (offset >> 20 & 1) << 31
        | (offset >> 1 & 0x3ff) << 21
        | (offset >> 11 & 1) << 20
        | (offset >> 12 & 0xff) << 12
        | 0x6f
}

/// What trapped once need not trap again.
fn privileged_instructions_replaced() {
    let page = exec::page(&[]);
    let mut wrong = 0;
    for round in 0..50u64 {
        for (words, wanted) in [
            ([csrrw(ZERO, SSCRATCH, A0), csrrs(A0, SSCRATCH, ZERO), RET], Ok(round)),
            ([addi(ZERO, ZERO, 0), addi(A0, A0, 1), RET], Ok(round + 1)),
            ([0x1200_0073, addi(A0, A0, 2), RET], Ok(round + 2)), // sfence.vma
            ([0x0010_0073, addi(A0, A0, 3), RET], Err(Some(Breakpoint))),
            ([0xffff_ffff, addi(A0, A0, 3), RET], Err(Some(IllegalInstruction))),
        ] {
            exec::write(page, &words);
            let got = outcome(access::call(page, round)).map_err(|fault| fault.exception);
            wrong += u32::from(got != wanted);
        }
    }
    check!("each_instruction_does_what_is_written_there_now", wrong, 0u32);
}

/// Written by one virtual address, run by another.
fn by_another_mapping() {
    for mode in modes() {
        let arena = Arena::new(mode);
        let page = paging::frame();
        let (writable, executable) = (DATA, DATA + PAGE);
        arena.map(writable, page, RW);
        arena.map(executable, page, RWX & !Pte::W);
        let wrong = (0..100)
            .filter(|&value| {
                write32(writable, addi(A0, ZERO, value));
                write32(writable + 4, RET);
                exec::fence_i();
                outcome(access::call(executable, 0)) != Ok(value as u64)
            })
            .count();
        check!(format_args!("{mode:?}_code_written_by_an_alias_runs"), wrong, 0);
        check!(format_args!("{mode:?}_the_alias_itself_does_not"), access::call(writable, 0).is_err());
        paging::deactivate();
        check!(
            format_args!("{mode:?}_it_runs_without_translation_too"),
            outcome(access::call(page, 0)),
            Ok(99)
        );
    }
}

fn for_user_mode() {
    let arena = Arena::new(Mode::Sv39);
    let page = paging::frame();
    arena.map(USER, page, USER_RWX);
    let wrong = (0..100)
        .filter(|&value| {
            exec::write(page, &[addi(A0, ZERO, value), ECALL]);
            outcome(arena::user_call(USER, 0, 0)) != Ok(value as u64)
        })
        .count();
    check!("supervisor_mode_writes_code_for_user_mode", wrong, 0);
    // User mode writes its own: sw a1, 12(a0); fence.i; nop; then the word written.
    let store_a1 = 11 << 20 | 10 << 15 | 2 << 12 | 12 << 7 | 0x23;
    exec::write(page, &[store_a1, 0x0000_100f, addi(ZERO, ZERO, 0), addi(A0, ZERO, 1), ECALL]);
    let got = outcome(arena::user_call(USER, USER, addi(A0, ZERO, 44).into()));
    check!("user_mode_writes_its_own", got, Ok(44));
    exec::write(page, &[csrrs(A0, SSCRATCH, ZERO), ECALL]);
    let got = exception(arena::user_call(USER, 0, 0));
    check!("privileged_instructions_written_for_it_are_illegal", got, Some(IllegalInstruction));
    paging::deactivate();
}

/// An instruction whose halves lie in two pages, each rewritten alone.
fn across_two_pages() {
    let pages = paging::frames(2);
    let border = pages + PAGE;
    let mut wrong = 0;
    for value in 0..64 {
        let word = addi(A0, ZERO, value);
        exec::write(border - 4, &[0x0001 | word << 16]);
        exec::write(border, &[word >> 16 | 0x8082 << 16]);
        wrong += u32::from(outcome(access::call(border - 2, 0)) != Ok(value as u64));
    }
    check!("an_instruction_across_two_pages_is_rewritten", wrong, 0u32);
    let read = csrrs(A0, SSCRATCH, ZERO);
    exec::write(border - 4, &[0x0001 | read << 16]);
    exec::write(border, &[read >> 16 | 0x8082 << 16]);
    csr_write!(SSCRATCH, 0x1357);
    check!("also_a_privileged_one", outcome(access::call(border - 2, 0)), Ok(0x1357));
}

/// The same address, mapped to a page with other code.
fn moved_to_another_page() {
    let arena = Arena::new(Mode::Sv39);
    let codes = [1, 2, 3].map(|value| exec::page(&[addi(A0, ZERO, value), RET]));
    let mut wrong = 0;
    for round in 0..30 {
        arena.map(DATA, codes[round % 3], RWX & !Pte::W);
        wrong += u32::from(outcome(access::call(DATA, 0)) != Ok(round as u64 % 3 + 1));
    }
    check!("a_remapped_page_runs_its_new_code", wrong, 0u32);
    paging::deactivate();
}
