//! Hot instructions that lock and unlock interrupts, with each register as their result and as their operand: a hypervisor may
//! have a piece of code of its own for each, and keeps what it needs in some of them.
#![no_std]
#![no_main]

use features::hot::{self, RUNS, SSTATUS};
use features::insn::{A0, RET, ZERO, add, addi, csrrci, csrrs};
use guest_rt::isa::csr::sstatus::{SIE, SUM};
use guest_rt::{check, csr_clear, csr_read, csr_set, csr_write};

features::feature!(checks);

/// t0, t1, t2, t3, and what they hold meanwhile.
const MARKS: [(u32, i32); 4] = [(5, 0x111), (6, 0x222), (7, 0x333), (28, 0x444)];

fn checks(_hart: u64, _device_tree: u64) {
    csr_write!(SIE, 0);
    check!("each_register_takes_sstatus_and_sie_is_off", failures(reads_and_locks), 0);
    check!("each_register_unlocks", failures(unlocks), 0);
    csr_clear!(SSTATUS, SIE | SUM);
}

/// The registers for which something is wrong, a bit each.
fn failures(is_right: fn(u32) -> bool) -> u32 {
    (1..32).filter(|register| !is_right(*register)).fold(0, |wrong, register| wrong | 1 << register)
}

/// CSRRCI register, sstatus, 2.
fn reads_and_locks(register: u32) -> bool {
    let code = page(register, csrrci(register, SSTATUS, SIE as u32));
    (0..RUNS).all(|run| {
        if run % 2 == 0 {
            csr_set!(SSTATUS, SIE);
        }
        let before = csr_read!(SSTATUS);
        let result = hot::call(code, 0);
        result == Ok(before.wrapping_add(marks(register))) && csr_read!(SSTATUS) == before & !SIE
    })
}

/// CSRS sstatus, register.
fn unlocks(register: u32) -> bool {
    let code = page(register, csrrs(ZERO, SSTATUS, register));
    (0..RUNS).all(|run| {
        let bits = [0, SIE, SUM, SIE | SUM][run as usize % 4];
        csr_clear!(SSTATUS, SIE | SUM);
        let before = csr_read!(SSTATUS);
        let result = hot::call(code, bits);
        result == Ok(bits.wrapping_add(marks(register))) && csr_read!(SSTATUS) == before | bits
    })
}

/// A function that executes `instruction` with its argument in `register`, and gives what is there then and the sum of the
/// marks.
fn page(register: u32, instruction: u32) -> u64 {
    let keeper = if register == 30 { 31 } else { 30 };
    let mut code = [addi(ZERO, ZERO, 0); 16];
    let mut places = code.iter_mut();
    let mut put = |word| places.next().into_iter().for_each(|place| *place = word);
    put(addi(keeper, register, 0));
    put(addi(register, A0, 0));
    marked(register).for_each(|(mark, value)| put(addi(mark, ZERO, value)));
    put(instruction);
    put(addi(A0, register, 0));
    if register != A0 {
        put(addi(register, keeper, 0));
    }
    marked(register).for_each(|(mark, _)| put(add(A0, A0, mark)));
    put(RET);
    hot::page(&code)
}

/// The marks but for one that is `register` itself.
fn marked(register: u32) -> impl Iterator<Item = (u32, i32)> {
    MARKS.into_iter().filter(move |(mark, _)| *mark != register)
}

fn marks(register: u32) -> u64 {
    marked(register).map(|(_, value)| value as u64).sum()
}
