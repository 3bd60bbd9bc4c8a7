//! Hot code and data in one page: counters, a stack, a lock, a table that the page walk writes. Each store is to stay where
//! it was written, and the code to go on.
#![no_std]
#![no_main]

use features::arena::{self, Arena, DATA, peek, poke};
use features::hot::{self, RUNS};
use features::modes;
use guest_rt::isa::csr::sstatus::FS;
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, RWX, Tables};
use guest_rt::{check, csr_clear, csr_set, csr_write};

features::feature!(checks);

fn checks(_hart: u64, _device_tree: u64) {
    csr_set!(SSTATUS, FS);
    for routine in &ROUTINES {
        counts("untranslated", routine, None);
        for mode in modes() {
            let arena = Arena::new(mode);
            counts(if mode.levels() == 3 { "sv39" } else { "sv48" }, routine, Some(&arena));
            paging::deactivate();
        }
    }
    accessed_and_dirty();
    code_in_its_own_page_table();
    csr_clear!(SSTATUS, FS);
}

/// A function at the start of a page that uses the double words from 0x800 on. It counts in the first of them, by its
/// argument where that is told.
struct Routine {
    name: &'static str,
    code: fn() -> &'static [u16],
    /// What the count goes up by in one call with this argument.
    step: fn(u64) -> u64,
}

const ROUTINES: [Routine; 10] = [
    Routine { name: "counter", code: counter, step: |_| 1 },
    Routine { name: "counter_by_bytes", code: byte_counter, step: |_| 1 },
    Routine { name: "stack", code: stack, step: |argument| argument },
    Routine { name: "atomic_counter", code: atomic_counter, step: |argument| argument },
    Routine { name: "reservation", code: reservation, step: |argument| argument },
    Routine { name: "lock", code: lock, step: |_| 1 },
    Routine { name: "float", code: float, step: |_| 1 },
    Routine { name: "fence", code: fenced_counter, step: |_| 1 },
    Routine { name: "fence_and_atomic", code: fenced_atomic_counter, step: |argument| argument },
    Routine { name: "loop", code: many_stores, step: |_| 20 },
];

// Each has privileged instructions around its stores, and gives its argument if these work.
features::code! {
    fn counter =
        "auipc t0, 0", "csrw sscratch, a0",
        "ld t1, 0x7f8(t0)", "ld t1, 0x7f8(t0)", "addi t0, t0, 0x400", "ld t1, 0x400(t0)", "addi t1, t1, 1",
        "sd t1, 0x400(t0)", "csrr a0, sscratch", "ret";
    fn byte_counter =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400",
        "1: lbu t1, 0x400(t0)", "addi t1, t1, 1", "sb t1, 0x400(t0)", "addi t0, t0, 1", "andi t1, t1, 0xff",
        "beqz t1, 1b", "csrr a0, sscratch", "ret";
    /// Calls a function that saves registers on a stack in this page.
    fn stack =
        "auipc t0, 0", "mv t2, ra", "mv t3, sp", "addi t0, t0, 0x400", "addi sp, t0, 0x3f0", "csrw sscratch, a0",
        "jal ra, 1f", "mv ra, t2", "mv sp, t3", "ret",
        "1: addi sp, sp, -64", "sd ra, 56(sp)", "sd a0, 48(sp)", "csrrw a0, sscratch, zero", "sd a0, 40(sp)",
        "ld t1, 0x400(t0)", "add t1, t1, a0", "sd t1, 0x400(t0)", "ld a0, 48(sp)", "csrw sscratch, a0",
        "ld t1, 40(sp)", "beq t1, a0, 2f", "li a0, 0", "2: csrr t1, sstatus", "ld ra, 56(sp)", "addi sp, sp, 64",
        "csrr a0, sscratch", "ret";
    fn atomic_counter =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400", "addi t0, t0, 0x400",
        "amoadd.d zero, a0, (t0)", "csrr a0, sscratch", "ret";
    fn reservation =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400", "addi t0, t0, 0x400",
        "1: lr.d t1, (t0)", "add t1, t1, a0", "sc.d t2, t1, (t0)", "bnez t2, 1b", "csrr a0, sscratch", "ret";
    /// Interrupts off, lock, count, unlock, interrupts as they were, as kernels do.
    fn lock =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400", "addi t0, t0, 0x400", "addi t3, t0, 64",
        "csrrci t4, sstatus, 2", "li t1, 1", "1: amoswap.w.aq t2, t1, (t3)", "bnez t2, 1b",
        "ld t1, 0(t0)", "addi t1, t1, 1", "sd t1, 0(t0)", "amoswap.w.rl zero, zero, (t3)",
        "andi t4, t4, 2", "csrs sstatus, t4", "csrr a0, sscratch", "ret";
    /// Counts in the integer, by way of a floating-point register.
    fn float =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400", "fld ft0, 0x400(t0)", "fmv.x.d t1, ft0",
        "addi t1, t1, 1", "fmv.d.x ft0, t1", "fsd ft0, 0x400(t0)", "fsw ft0, 0x408(t0)", "csrr a0, sscratch", "ret";
    // With an instruction that some firmware complains of when it traps.
    fn fenced_counter =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400", "sfence.vma zero, a0", "ld t1, 0x400(t0)",
        "addi t1, t1, 1", "sd t1, 0x400(t0)", "csrr a0, sscratch", "ret";
    fn fenced_atomic_counter =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400", "addi t0, t0, 0x400", "sfence.vma zero, a0",
        "amoadd.d zero, a0, (t0)", "csrr a0, sscratch", "ret";
    fn many_stores =
        "auipc t0, 0", "csrw sscratch, a0", "addi t0, t0, 0x400", "li t2, 20",
        "1: csrr a0, sscratch", "ld t1, 0x400(t0)", "addi t1, t1, 1", "csrw sscratch, a0", "sd t1, 0x400(t0)",
        "addi t2, t2, -1", "bnez t2, 1b", "ret";
}

fn counts(side: &str, routine: &Routine, arena: Option<&Arena>) {
    let page = hot::page_of((routine.code)());
    let base = arena.map_or(page, |arena| {
        arena.map(DATA, page, RWX);
        DATA
    });
    let mut wanted = 0;
    let mut wrong = hot::heat(base + hot::ECHO_AT);
    for round in 0..5 {
        for argument in 0..RUNS {
            wrong += u64::from(hot::call(base, argument) != Ok(argument));
            wanted += (routine.step)(argument);
        }
        wrong += u64::from(peek(page + 0x800) != wanted);
        // Now and then somebody else writes there.
        wanted = 1000 * round;
        poke(page + 0x800, wanted);
        wrong += hot::heat(base + hot::ECHO_AT);
    }
    check!(format_args!("{side}_{}_beside_hot_code", routine.name), wrong, 0u64);
}

/// A page table in the same page as hot code: the walk sets A and D there, and must find what code has written.
fn accessed_and_dirty() {
    for mode in modes() {
        let arena = Arena::new(mode);
        // Code lies where the entries of addresses are that nobody uses.
        arena.map(DATA, arena::frame_with(0), RW);
        let table = arena.tables.slot(DATA, 0) as u64;
        let code = table + hot::ECHO_AT;
        features::exec::write(code, &hot::ECHO);
        let mut wrong = hot::heat(code);
        let mut missing = 0;
        for page in 1..=8 {
            let (address, frame) = (DATA + page * PAGE, arena::frame_with(page));
            let entry = || arena.tables.get(address, 0);
            arena.map(address, frame, RW & !(Pte::A | Pte::D));
            wrong += hot::heat(code);
            let flags = |access: &dyn Fn() -> bool| {
                // A hart that leaves A and D to the guest faults.
                if !access() {
                    arena.map(address, frame, entry().0 & 0x3ff | Pte::A | Pte::D);
                    return access();
                }
                entry().has(Pte::A)
            };
            missing += u64::from(!flags(&|| arena::load(address) == Ok(page)));
            wrong += hot::heat(code);
            missing += u64::from(!flags(&|| arena::store(address, page + 1).is_ok()) || !entry().has(Pte::D));
            wrong += hot::heat(code) + u64::from(peek(frame) != page + 1);
        }
        check!(format_args!("{mode:?}_hot_code_in_a_page_table_is_right"), wrong, 0u64);
        check!(format_args!("{mode:?}_a_and_d_are_set_beside_hot_code"), missing, 0u64);
        paging::deactivate();
    }
}

/// A hot page that is a page table, mapped by itself, and changed while it is hot.
fn code_in_its_own_page_table() {
    let arena = Arena::new(Mode::Sv39);
    let frames = [arena::frame_with(10), arena::frame_with(20)];
    arena.map(DATA, frames[0], RW);
    let table = arena.tables.slot(DATA, 0) as u64 & !(PAGE - 1);
    features::exec::write(table + hot::ECHO_AT, &hot::ECHO);
    arena.map(DATA + PAGE, table, RWX);
    let mut wrong = [0; 2];
    for round in 0..50 {
        wrong[0] += (0..40).filter(|&a0| hot::call(DATA + PAGE + hot::ECHO_AT, a0) != Ok(a0)).count();
        // Written through itself.
        poke(DATA + PAGE, Pte::new(frames[round % 2], RW).0);
        paging::fence_all();
        wrong[1] += usize::from(arena::load(DATA) != Ok(10 + 10 * (round as u64 % 2)));
    }
    check!("a_page_table_that_maps_itself_runs_code", wrong[0], 0);
    check!("a_page_table_that_maps_itself_is_written", wrong[1], 0);
    // The root itself, with code in entries of addresses that are not canonical for use here.
    let tables = Tables::with_kernel(Mode::Sv39);
    let code = tables.root() + 0x600;
    features::exec::write(code, &hot::ECHO);
    csr_write!(SATP, tables.satp(3));
    paging::fence_all();
    let wrong = hot::heat(code);
    tables.map(DATA, frames[1], 0, RW);
    paging::fence_all();
    let read = arena::load(DATA);
    check!("the_root_runs_code", (wrong, read, hot::heat(code)), (0, Ok(20), 0));
    paging::deactivate();
}
