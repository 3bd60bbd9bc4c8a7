//! What a teaching kernel's null system call costs, in a small process and in one that has grown, and what growing does.
//! User and kernel have page tables of their own and no ASIDs, so satp is written and everything is fenced, before and
//! after, at each entry of the kernel and at each return to the user.
//!
//! The kernel is small but has the usual manners: 4 KiB leaves for all its memory, a trampoline page at the top of both
//! address spaces with the trap frame below it, all registers saved, interrupts on while it serves a call, and the current
//! process looked up with interrupts off.

use crate::timing::report;
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use guest_rt::isa::Exception;
use guest_rt::isa::csr::sstatus::{SIE, SPIE, SPP};
use guest_rt::paging::{self, Mode, PAGE, Pte, RW, Tables};
use guest_rt::{console, csr_read, csr_write, finisher, image, time, trap};

/// System calls that are measured.
const CALLS: u64 = 5_000;
/// Pages of its memory that the kernel has used since it was started, for page tables, processes and buffers.
const USED_PAGES: usize = 200;

/// Memory that the process grows by: where it lies, and how much there is after each of three steps.
const HEAP_PHYS: u64 = 0x9000_0000;
const USER_HEAP: u64 = 0x1000_0000;
const STEPS: [u64; 3] = [16 << 20, 64 << 20, 256 << 20];
/// Pages that it asks for at a time in the first step, and in the others.
const AT_FIRST: u64 = 1;
const LATER: u64 = 64;

/// The highest page of the lower half of Sv39.
const TRAMPOLINE: u64 = (1 << 38) - PAGE;
const TRAP_FRAME: u64 = TRAMPOLINE - PAGE;
/// The process's kernel stack: one page, with a gap above and below it.
const KERNEL_STACK: u64 = TRAMPOLINE - 3 * PAGE;
/// The user's pages: code at 0, two of data, a gap, the stack.
const USER_DATA: u64 = PAGE;
const USER_STACK: u64 = 4 * PAGE;

const RX: u64 = Pte::V | Pte::R | Pte::X | Pte::A | Pte::D;
const READ: u64 = Pte::V | Pte::R | Pte::A | Pte::D;

/// Numbers of system calls.
const GET_PID: u64 = 0;
const EXIT: u64 = 1;
/// Grows the process by the pages in a0.
const GROW: u64 = 2;
/// Notes the time.
const LAP: u64 = 3;

/// What the trampoline finds in the page below it.
#[repr(C)]
struct TrapFrame {
    kernel_satp: u64,
    kernel_sp: u64,
    kernel_trap: u64,
    epc: u64,
    /// x1 to x31.
    x: [u64; 31],
}

impl TrapFrame {
    fn register(&mut self, number: usize) -> &mut u64 {
        &mut self.x[number - 1]
    }
}

/// When the user says that it has done something, from its start on.
const LAPS: usize = 6;

const A0: usize = 10;
const A7: usize = 17;
const S10: usize = 26;

/// The processor, and the one process.
struct Kernel {
    /// How deep interrupts are switched off, and whether they were on before.
    nesting: u64,
    were_on: bool,
    pid: u64,
    frame: *mut TrapFrame,
    user_satp: u64,
    user: Option<Tables>,
    grown: u64,
    laps: [u64; LAPS],
    next_lap: usize,
}

struct Shared(UnsafeCell<Kernel>);
// SAFETY: there is one hart, and no interrupt is ever enabled in sie.
unsafe impl Sync for Shared {}
static KERNEL: Shared = Shared(UnsafeCell::new(Kernel {
    nesting: 0,
    were_on: false,
    pid: 1,
    frame: core::ptr::null_mut(),
    user_satp: 0,
    user: None,
    grown: 0,
    laps: [0; LAPS],
    next_lap: 0,
}));
/// Where the measuring code's stack pointer is kept while the user runs.
static OUTER_SP: AtomicU64 = AtomicU64::new(0);

global_asm!(
    r"
    .pushsection .text
    .option push
    .option arch, -c
    .balign 4096
    teaching_trampoline:
    teaching_user_trap:
        csrw sscratch, a0
        li a0, {trap_frame}
        .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            sd x\n, {x} + 8*\n - 8(a0)
        .endr
        csrr t0, sscratch
        sd t0, {x} + 72(a0)
        ld sp, {kernel_sp}(a0)
        ld t0, {kernel_trap}(a0)
        ld t1, {kernel_satp}(a0)
        sfence.vma zero, zero
        csrw satp, t1
        sfence.vma zero, zero
        jalr t0
    # a0: the user's satp.
    teaching_user_return:
        sfence.vma zero, zero
        csrw satp, a0
        sfence.vma zero, zero
        li a0, {trap_frame}
        .irp n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            ld x\n, {x} + 8*\n - 8(a0)
        .endr
        ld a0, {x} + 72(a0)
        sret

    # The user: a system call by way of a stub, and some use of its stack and data.
    .balign 4096
    teaching_user:
        li s1, {user_data}
        li s2, {user_data} + 4096
        li s3, {user_heap}
        beqz s10, 7f
        jal s4, 3f
        li s6, {first_calls}
        li s7, {at_first}
        jal s4, 4f
        li s6, {second_calls}
        li s7, {later}
        jal s4, 4f
        jal s4, 3f
        li s6, {third_calls}
        jal s4, 4f
    7:  jal s4, 3f
        li a7, {exit}
        ecall
    # Many system calls.
    3:  li s0, {calls}
    1:  jal 2f
        ld t0, 0(s1)
        add t0, t0, a0
        sd t0, 0(s1)
        sd a0, 8(s2)
        addi s0, s0, -1
        bnez s0, 1b
        j 6f
    # Grows s6 times by s7 pages, and stores to each.
    4:  mv a0, s7
        li a7, {grow}
        ecall
        mv t1, s7
        li t0, 4096
    5:  sd s3, 0(s3)
        add s3, s3, t0
        addi t1, t1, -1
        bnez t1, 5b
        addi s6, s6, -1
        bnez s6, 4b
    6:  li a7, {lap}
        ecall
        jr s4
    2:  addi sp, sp, -16
        sd ra, 8(sp)
        li a7, {get_pid}
        ecall
        ld ra, 8(sp)
        addi sp, sp, 16
        ret
    .balign 4096

    # A trap of the kernel's own: there is none.
    teaching_kernel_trap:
        j {kernel_trapped}

    # Runs the user, whose satp is in a0, by way of teaching_user_return in a1, until it exits. The third argument keeps
    # the stack pointer.
    teaching_enter:
        addi sp, sp, -128
        sd ra, 0(sp)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            sd s\n, 8 + 8*\n(sp)
        .endr
        sd gp, 104(sp)
        sd tp, 112(sp)
        sd sp, 0(a2)
        jr a1
    teaching_leave:
        ld sp, 0(a0)
        ld ra, 0(sp)
        .irp n, 0,1,2,3,4,5,6,7,8,9,10,11
            ld s\n, 8 + 8*\n(sp)
        .endr
        ld gp, 104(sp)
        ld tp, 112(sp)
        addi sp, sp, 128
        ret
    .option pop
    .popsection
    ",
    trap_frame = const TRAP_FRAME,
    x = const offset_of!(TrapFrame, x),
    kernel_sp = const offset_of!(TrapFrame, kernel_sp),
    kernel_trap = const offset_of!(TrapFrame, kernel_trap),
    kernel_satp = const offset_of!(TrapFrame, kernel_satp),
    calls = const CALLS,
    user_data = const USER_DATA,
    user_heap = const USER_HEAP,
    first_calls = const STEPS[0] / PAGE / AT_FIRST,
    second_calls = const (STEPS[1] - STEPS[0]) / PAGE / LATER,
    third_calls = const (STEPS[2] - STEPS[1]) / PAGE / LATER,
    at_first = const AT_FIRST,
    later = const LATER,
    grow = const GROW,
    lap = const LAP,
    get_pid = const GET_PID,
    exit = const EXIT,
    kernel_trapped = sym kernel_trapped,
);

unsafe extern "C" {
    safe fn teaching_trampoline();
    safe fn teaching_user_trap();
    safe fn teaching_user_return();
    safe fn teaching_user();
    safe fn teaching_kernel_trap();
    fn teaching_enter(satp: u64, user_return: u64, outer_sp: *mut u64);
    fn teaching_leave(outer_sp: *mut u64) -> !;
}

/// Measures and reports a system call that does nothing.
pub fn measure() {
    let kernel = kernel_tables();
    let (start, [end, ..]) = run(kernel, false);
    report("teaching-syscall", CALLS, end - start);
}

/// Measures and reports growing, and system calls after that.
pub fn measure_growing() {
    let kernel = kernel_tables();
    map_range(kernel, HEAP_PHYS..HEAP_PHYS + STEPS[2], RW);
    let (_, [small, grown_16, grown_64, in_64, grown_256, in_256]) = run(kernel, true);
    report("teaching-grow", STEPS[0] / PAGE, grown_16 - small);
    report("teaching-syscall-64M", CALLS, in_64 - grown_64);
    report("teaching-syscall-256M", CALLS, in_256 - grown_256);
}

/// Runs a new process, which may grow, until it exits: when it started, and its laps.
fn run(kernel: Tables, grows: bool) -> (u64, [u64; LAPS]) {
    let frame = paging::frame();
    let user = user_tables(frame);
    kernel.activate(0);
    use_memory();

    // SAFETY: a frame of this process's own, mapped one to one; the user does not run yet.
    let trap_frame = unsafe { &mut *(frame as *mut TrapFrame) };
    *trap_frame.register(2) = USER_STACK + PAGE;
    *trap_frame.register(S10) = u64::from(grows);
    // SAFETY: nobody else looks now.
    let state = unsafe { &mut *KERNEL.0.get() };
    (state.frame, state.user_satp, state.user) = (trap_frame, user.satp(0), Some(user));
    (state.grown, state.next_lap) = (0, 0);
    let satp = return_to_user(state);
    let start = time::now();
    // SAFETY: the user's tables hold the trampoline, and its exit comes back here.
    unsafe { teaching_enter(satp, in_trampoline(teaching_user_return), OUTER_SP.as_ptr()) };
    trap::install();
    // SAFETY: the user has exited.
    (start, unsafe { (*KERNEL.0.get()).laps })
}

/// All memory of the kernel and its devices, one to one, and the pages at the top.
fn kernel_tables() -> Tables {
    let tables = Tables::new(Mode::Sv39);
    let map_range = |range, flags| map_range(tables, range, flags);
    map_range(console::UART..console::UART + PAGE, RW);
    map_range(finisher::ADDRESS..finisher::ADDRESS + PAGE, RW);
    map_range(image::text(), RX);
    map_range(image::rodata(), READ);
    map_range(image::data(), RW);
    tables.map(KERNEL_STACK, paging::frame(), 0, RW);
    tables.map(TRAMPOLINE, address(teaching_trampoline), 0, RX);
    tables
}

fn map_range(tables: Tables, range: Range<u64>, flags: u64) {
    range.step_by(PAGE as usize).for_each(|page| tables.map(page, page, 0, flags));
}

fn user_tables(trap_frame: u64) -> Tables {
    let tables = Tables::new(Mode::Sv39);
    tables.map(TRAMPOLINE, address(teaching_trampoline), 0, RX);
    tables.map(TRAP_FRAME, trap_frame, 0, RW);
    tables.map(0, address(teaching_user), 0, RX | Pte::U);
    for page in [USER_DATA, USER_DATA + PAGE, USER_STACK] {
        tables.map(page, paging::frame(), 0, RW | Pte::U);
    }
    tables
}

/// Leaves the traces of a kernel that has run for a while.
fn use_memory() {
    let first = paging::frames(USED_PAGES);
    for page in (first..).step_by(PAGE as usize).take(USED_PAGES) {
        // SAFETY: a frame just taken.
        unsafe { (page as *mut u64).write_volatile(page) };
    }
}

fn address(function: extern "C" fn()) -> u64 {
    function as *const () as u64
}

/// Where both address spaces have a part of the trampoline.
fn in_trampoline(part: extern "C" fn()) -> u64 {
    TRAMPOLINE + (address(part) - address(teaching_trampoline))
}

/// Serves a trap from user mode, on the process's kernel stack; gives the user's satp.
extern "C" fn user_trapped() -> u64 {
    assert!(csr_read!(SSTATUS) & SPP == 0, "a trap from user mode");
    csr_write!(STVEC, address(teaching_kernel_trap));
    let process = current();
    let epc = csr_read!(SEPC);
    assert!(csr_read!(SCAUSE) == Exception::EcallFromUser.code(), "the user makes system calls only");
    // SAFETY: the process's frame, which nobody uses while the kernel runs.
    unsafe { (*(*process).frame).epc = epc + 4 };
    set_interrupts(true);
    system_call();
    // SAFETY: as above; references do not live on across calls.
    return_to_user(unsafe { &mut *current() })
}

/// Puts everything in place for `teaching_user_return`.
fn return_to_user(process: &mut Kernel) -> u64 {
    set_interrupts(false);
    csr_write!(STVEC, in_trampoline(teaching_user_trap));
    // SAFETY: as in `user_trapped`.
    let frame = unsafe { &mut *process.frame };
    frame.kernel_satp = csr_read!(SATP);
    frame.kernel_sp = KERNEL_STACK + PAGE;
    frame.kernel_trap = user_trapped as *const () as u64;
    csr_write!(SSTATUS, csr_read!(SSTATUS) & !SPP | SPIE);
    csr_write!(SEPC, frame.epc);
    process.user_satp
}

#[inline(never)]
fn system_call() {
    const CALLS: [fn() -> u64; 4] = [get_pid, exit, grow, lap];
    let process = current();
    // SAFETY: as in `user_trapped`.
    let number = unsafe { *(*(*process).frame).register(A7) };
    let result = CALLS.get(number as usize).map_or(u64::MAX, |call| call());
    // SAFETY: as above.
    unsafe { *(*(*process).frame).register(A0) = result };
}

fn get_pid() -> u64 {
    // SAFETY: as in `user_trapped`.
    unsafe { (*current()).pid }
}

fn grow() -> u64 {
    // SAFETY: as in `user_trapped`.
    let process = unsafe { &mut *current() };
    // SAFETY: as above.
    let pages = unsafe { *(*process.frame).register(A0) };
    for _ in 0..pages {
        let page = HEAP_PHYS + process.grown;
        for word in (page..page + PAGE).step_by(8) {
            // SAFETY: memory that nothing else uses, mapped one to one.
            unsafe { (word as *mut u64).write_volatile(0) };
        }
        if let Some(user) = process.user {
            user.map(USER_HEAP + process.grown, page, 0, RW | Pte::U);
        }
        process.grown += PAGE;
    }
    0
}

fn lap() -> u64 {
    // SAFETY: as in `user_trapped`.
    let process = unsafe { &mut *current() };
    process.laps[process.next_lap] = time::now();
    process.next_lap += 1;
    0
}

fn exit() -> u64 {
    set_interrupts(false);
    // SAFETY: `teaching_enter` has kept it.
    unsafe { teaching_leave(OUTER_SP.as_ptr()) }
}

/// The current process: looked up with interrupts off, so that nobody moves it to another hart meanwhile.
#[inline(never)]
fn current() -> *mut Kernel {
    push_off();
    let process = KERNEL.0.get();
    pop_off();
    process
}

#[inline(never)]
fn push_off() {
    let were_on = are_interrupts_on();
    set_interrupts(false);
    // SAFETY: interrupts are off.
    let kernel = unsafe { &mut *KERNEL.0.get() };
    if kernel.nesting == 0 {
        kernel.were_on = were_on;
    }
    kernel.nesting += 1;
}

#[inline(never)]
fn pop_off() {
    assert!(!are_interrupts_on(), "interrupts are off");
    // SAFETY: interrupts are off.
    let kernel = unsafe { &mut *KERNEL.0.get() };
    kernel.nesting -= 1;
    if kernel.nesting == 0 && kernel.were_on {
        set_interrupts(true);
    }
}

fn are_interrupts_on() -> bool {
    csr_read!(SSTATUS) & SIE != 0
}

/// As teaching kernels do it: by a read and a write.
fn set_interrupts(on: bool) {
    let others = csr_read!(SSTATUS) & !SIE;
    csr_write!(SSTATUS, others | if on { SIE } else { 0 });
}

extern "C" fn kernel_trapped() -> ! {
    panic!("a trap in the kernel: cause {:#x} at {:#x}", csr_read!(SCAUSE), csr_read!(SEPC));
}
