//! Hot code that is patched: by every kind of store, through every kind of mapping, from every kind of instruction to
//! every other. After FENCE.I the new one is executed. Unpriv. spec, "Zifencei".
#![no_std]
#![no_main]

use core::arch::asm;
use features::arena::{self, Arena, DATA, USER, USER_RWX};
use features::hot::{self, ECHO_AT, GET, PUT, Returned, SEPC, SSCRATCH, SSTATUS, raised};
use features::insn::{
    A0, A1, C_EBREAK_C_NOP, EBREAK, ECALL, RA, RET, SFENCE_VMA, SRET, ZERO, addi, csrrs, csrrsi, csrrw,
    csrrwi,
};
use features::{exec, insn};
use guest_rt::isa::Exception::{Breakpoint, IllegalInstruction};
use guest_rt::isa::csr::sstatus::FS;
use guest_rt::paging::{self, Mode, PAGE, RW, RWX};
use guest_rt::trap::catch;
use guest_rt::{check, csr_clear, csr_set};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    csr_set!(SSTATUS, FS);
    for mapping in MAPPINGS {
        by_every_store(&mapping);
    }
    for mode in [None, Some(Mode::Sv39)] {
        each_to_each(mode);
    }
    many_times();
    csr_clear!(SSTATUS, FS);
}

/// Where code is executed and where it is written.
struct Mapping {
    name: &'static str,
    mode: Option<Mode>,
    set_up: fn(&Arena, u64) -> (u64, u64),
}

/// Where an alias by a superpage is.
const SUPERPAGE: u64 = DATA + (4 << 30);

const MAPPINGS: [Mapping; 6] = [
    Mapping { name: "untranslated", mode: None, set_up: |_, page| (page, page) },
    Mapping {
        name: "in_place",
        mode: Some(Mode::Sv39),
        set_up: |arena, page| {
            arena.map(DATA, page, RWX);
            (DATA, DATA)
        },
    },
    Mapping {
        name: "by_an_alias",
        mode: Some(Mode::Sv39),
        set_up: |arena, page| {
            arena.map(DATA, page, RWX & !paging::Pte::W);
            arena.map(DATA + PAGE, page, RW);
            (DATA, DATA + PAGE)
        },
    },
    Mapping {
        name: "by_a_2m_alias",
        mode: Some(Mode::Sv39),
        set_up: |arena, page| {
            arena.map(DATA, page, RWX & !paging::Pte::W);
            let (start, offset) = (page & !0x1f_ffff, page & 0x1f_ffff);
            arena.set(SUPERPAGE, 1, paging::Pte::new(start, RW));
            (DATA, SUPERPAGE + offset)
        },
    },
    Mapping {
        name: "by_the_1g_kernel",
        mode: Some(Mode::Sv39),
        set_up: |arena, page| {
            arena.map(DATA, page, RWX & !paging::Pte::W);
            (DATA, page)
        },
    },
    Mapping {
        name: "in_the_1g_kernel_by_an_alias",
        mode: Some(Mode::Sv39),
        set_up: |arena, page| {
            arena.map(DATA, page, RW);
            (page, DATA)
        },
    },
];

/// Writes an instruction to the second word of a page whose first one is [`PUT`].
struct Writer {
    name: &'static str,
    write: fn(u64, u32),
}

/// One assembly store with `{0}` the page and `{1}` a value.
macro_rules! store {
    ($text:literal, $page:expr, $value:expr) => {
        // SAFETY: stores into a frame that was taken for code.
        unsafe {
            asm!(".option push", ".option arch, +d, +c", $text, ".option pop", in(reg) $page, in(reg) $value,
                out("t0") _, out("t1") _, out("ft0") _, options(nostack))
        }
    };
}

/// Both words: [`PUT`] and the new one.
fn pair(word: u32) -> u64 {
    u64::from(word) << 32 | u64::from(PUT)
}

const WRITERS: [Writer; 15] = [
    Writer {
        name: "sb",
        write: |page, word| {
            for (at, byte) in (page + 4..).zip(word.to_le_bytes()) {
                store!("sb {1}, 0({0})", at, u64::from(byte));
            }
        },
    },
    Writer {
        name: "sh",
        write: |page, word| {
            store!("sh {1}, 4({0})", page, word);
            store!("sh {1}, 6({0})", page, word >> 16);
        },
    },
    Writer { name: "sw", write: |page, word| store!("sw {1}, 4({0})", page, word) },
    Writer { name: "sd", write: |page, word| store!("sd {1}, 0({0})", page, pair(word)) },
    Writer {
        name: "c_sw",
        write: |page, word| {
            // SAFETY: stores into a frame that was taken for code.
            unsafe { asm!("c.sw a5, 4(a4)", in("a4") page, in("a5") word, options(nostack)) }
        },
    },
    Writer {
        name: "c_sd",
        write: |page, word| {
            // SAFETY: stores into a frame that was taken for code.
            unsafe { asm!("c.sd a5, 0(a4)", in("a4") page, in("a5") pair(word), options(nostack)) }
        },
    },
    Writer {
        name: "misaligned_sw",
        write: |page, word| {
            store!("sw {1}, 2({0})", page, word << 16 | PUT >> 16);
            store!("sh {1}, 6({0})", page, word >> 16);
        },
    },
    Writer {
        name: "misaligned_sd",
        write: |page, word| {
            let value = u64::from(RET & 0xffff) << 48 | u64::from(word) << 16 | u64::from(PUT >> 16);
            store!("sd {1}, 2({0})", page, value);
        },
    },
    Writer { name: "amoswap_w", write: |page, word| store!("amoswap.w t0, {1}, ({0})", page + 4, word) },
    Writer { name: "amoswap_d", write: |page, word| store!("amoswap.d t0, {1}, ({0})", page, pair(word)) },
    Writer {
        name: "amoxor_w",
        write: |page, word| {
            store!("lw t1, 0({0}); xor t1, t1, {1}; amoxor.w t0, t1, ({0})", page + 4, word);
        },
    },
    Writer {
        name: "sc_w",
        write: |page, word| store!("1: lr.w t0, ({0}); sc.w t1, {1}, ({0}); bnez t1, 1b", page + 4, word),
    },
    Writer {
        name: "sc_d",
        write: |page, word| store!("1: lr.d t0, ({0}); sc.d t1, {1}, ({0}); bnez t1, 1b", page, pair(word)),
    },
    Writer { name: "fsw", write: |page, word| store!("fmv.w.x ft0, {1}; fsw ft0, 4({0})", page, word) },
    Writer { name: "fsd", write: |page, word| store!("fmv.d.x ft0, {1}; fsd ft0, 0({0})", page, pair(word)) },
];

/// What a function gives, by its argument.
type Want = fn(u64) -> Returned;

/// What is written to the second word, one after the other, and what the function then gives.
const FORMS: [(u32, Want); 6] = [
    (GET, Ok),
    (addi(A0, ZERO, 77), |_| Ok(77)),
    (EBREAK, |_| raised(Breakpoint)),
    (csrrwi(A0, SSCRATCH, 9), Ok),
    (C_EBREAK_C_NOP, |_| raised(Breakpoint)),
    (csrrs(A1, SSCRATCH, ZERO), Ok),
];

fn by_every_store(mapping: &Mapping) {
    let arena = mapping.mode.map(Arena::new);
    let nowhere = Arena { tables: paging::Tables::new(Mode::Sv39) };
    for writer in &WRITERS {
        let page = hot::page(&[PUT, GET, RET]);
        let (run, write) = (mapping.set_up)(arena.as_ref().unwrap_or(&nowhere), page);
        let mut wrong = hot::heat(run);
        for round in 0..3 {
            for (word, want) in FORMS {
                (writer.write)(write, word);
                exec::fence_i();
                wrong += u64::from(hot::call(run, round) != want(round));
                wrong += hot::wrong(run, want);
            }
        }
        check!(format_args!("{}_{}_patches_hot_code", mapping.name, writer.name), wrong, 0u64);
    }
    if mapping.mode.is_some() {
        by_user_mode(arena.as_ref().unwrap_or(&nowhere));
        paging::deactivate();
    }
}

/// The kernel's text lies open to user mode, too.
fn by_user_mode(arena: &Arena) {
    let page = hot::page(&[PUT, GET, RET]);
    arena.map(DATA, page, RWX & !paging::Pte::W);
    arena.user_code(&arena::USER_ACCESSES);
    arena.map(USER + PAGE, page, USER_RWX & !paging::Pte::X);
    let mut wrong = hot::heat(DATA);
    for (word, want) in FORMS {
        wrong += u64::from(arena::user_store(USER + PAGE, pair(word)).is_err());
        exec::fence_i();
        wrong += hot::wrong(DATA, want);
    }
    check!("user_mode_patches_hot_code", wrong, 0u64);
}

/// What may stand at a site: in front of it are [`PREPARE`], behind it RET.
struct Form {
    name: &'static str,
    word: u32,
    want: Want,
}

/// sret there returns to the caller, an ecall asks for the SBI's version.
const PREPARE: [u32; 6] = [
    PUT,
    addi(T0, ZERO, 0x100), // sstatus.SPP
    csrrs(ZERO, SSTATUS, T0),
    csrrw(ZERO, SEPC, RA),
    addi(A7, ZERO, 0x10),
    addi(A6, ZERO, 0),
];
const T0: u32 = 5;
const A6: u32 = 16;
const A7: u32 = 17;
/// Where the site is.
const SITE: u64 = 4 * PREPARE.len() as u64;

const EACH: [Form; 15] = [
    Form { name: "get", word: GET, want: Ok },
    Form { name: "addi", word: addi(A0, A0, 1), want: |a0| Ok(a0 + 1) },
    Form { name: "ebreak", word: EBREAK, want: |_| raised(Breakpoint) },
    Form { name: "c_ebreak", word: C_EBREAK_C_NOP, want: |_| raised(Breakpoint) },
    Form { name: "c_ebreak_behind", word: 0x9002_0001, want: |_| raised(Breakpoint) },
    Form { name: "c_nops", word: insn::TWO_C_NOPS, want: Ok },
    Form { name: "to_another_register", word: csrrs(A1, SSCRATCH, ZERO), want: Ok },
    Form { name: "of_another_csr", word: csrrs(A0, SSCRATCH + 1, ZERO), want: |_| Ok(u64::MAX) },
    Form { name: "immediate", word: csrrsi(A0, SSCRATCH, 1), want: Ok },
    Form { name: "sret", word: SRET, want: Ok },
    Form { name: "sfence", word: SFENCE_VMA, want: Ok },
    Form { name: "ecall", word: ECALL, want: |_| Ok(0) },
    Form { name: "illegal", word: 0xffff_ffff, want: |_| raised(IllegalInstruction) },
    Form { name: "c_illegal", word: 0, want: |_| raised(IllegalInstruction) },
    Form { name: "an_unknown_csr", word: csrrs(A0, 0x5ff, ZERO), want: |_| raised(IllegalInstruction) },
];

/// The result of a call; sepc, which holds the address that was to return to, counts as all ones.
fn run(page: u64, argument: u64) -> Returned {
    let result = hot::call(page, argument);
    let is_text = result.is_ok_and(|a0| a0 >= 0x8000_0000);
    if is_text { Ok(u64::MAX) } else { result }
}

fn each_to_each(mode: Option<Mode>) {
    let arena = mode.map(Arena::new);
    for from in &EACH {
        let mut wrong = 0;
        for to in &EACH {
            let page = hot::page(&PREPARE);
            let runs = match &arena {
                Some(arena) => {
                    arena.map(DATA, page, RWX);
                    DATA
                }
                None => page,
            };
            for form in [from, to] {
                exec::write(page + SITE, &[form.word, RET]);
                let runs = (0..60).map(|argument| run(runs, argument) == (form.want)(argument));
                let went = runs.filter(|good| !good).count();
                if went > 0 {
                    guest_rt::println!("{} -> {}: {went} wrong", from.name, to.name);
                }
                wrong += went;
            }
        }
        let side = if mode.is_some() { "translated" } else { "untranslated" };
        check!(format_args!("{side}_{}_becomes_each_other_form", from.name), wrong, 0);
    }
    if arena.is_some() {
        paging::deactivate();
    }
}

/// A page that is patched all the time, as a kernel's jump labels are, still does what is written there.
fn many_times() {
    let arena = Arena::new(Mode::Sv39);
    let page = hot::page(&[PUT, GET, RET]);
    arena.map(DATA, page, RWX & !paging::Pte::W);
    let mut wrong = 0;
    for round in 0..2000u64 {
        let (word, want) = FORMS[round as usize % 2];
        let at = page + 4;
        // SAFETY: a store into a frame that was taken for code.
        let trap = catch(|| unsafe { asm!("sw {1}, 0({0})", in(reg) at, in(reg) word, options(nostack)) });
        exec::fence_i();
        wrong += u64::from(trap.is_some());
        for argument in [round, round + 1] {
            wrong += u64::from(hot::call(DATA, argument) != want(argument));
        }
        // Every now and then it has time to become hot again.
        if round % 100 == 0 {
            wrong += hot::heat(DATA + ECHO_AT);
        }
    }
    check!("code_that_is_patched_2000_times_is_right", wrong, 0u64);
    paging::deactivate();
}
