//! The fast path: exits that are served in assembly, on the guest's registers, with three or four of them set aside.
//!
//! A breakpoint of ours in virtual supervisor mode is looked up by pc in the frame's table of sites, which says what
//! serves it (`fast/vectors.s`, `sites.s`, `operands.s`); a user's ecall, which has a vector of its own, enters the
//! guest's kernel; a page fault is served where the tables of its range are known (`page_fault.s`). What is out of the
//! ordinary, here and in each block, goes to `exit_saved` before anything was changed (*bail-first*), and Rust does all of it:
//! so the rules are Rust's, and this is a copy of the common cases. The package `assembly` beside compares both on the
//! developer's machine; there every branch has to be reached. Guests are run with and without it.
//!
//! Here is what the assembly and Rust know of each other. It is one piece, for its parts jump to each other.
//!
//! Conventions, from the trap on: sp is the frame, the guest's sp is in sscratch; t0, t1, t2 are in the frame and free;
//! t3 is kept in the frame where a block says so. At a site: t1 is the site, t0 the operand if there is one. The
//! hardware's FS and VS are the guest's; the rest of its sstatus is in the frame.

use isa::csr::sstatus;
use isa::paging::{Pte, Satp};
use isa::{Exception, Privilege};
use memory::{BLOCK_SIZE, HartAuthority, PAGE_SIZE};
use vhart::{HandlerTables, Handlers, Op, csr, layout};

unsafe extern "C" {
    /// stvec while a guest that has fast sites runs in virtual supervisor mode.
    pub(crate) fn fast_vector();
    /// stvec while it runs in virtual user mode.
    pub(crate) fn fast_vector_user();
    fn fast_bail();
    fn fast_read();
    fn fast_write();
    fn fast_swap();
    fn fast_status_read();
    fn fast_interrupts_off();
    fn fast_interrupts_on();
    fn fast_status_set();
    fn fast_status_clear();
    fn fast_status_write();
    fn fast_satp();
    fn fast_sret();
    fn fast_vector_write();
    fn fast_fence();
    fn fast_immediate();
    static fast_sources: [vhart::site::Handler; 32];
    static fast_finishes: [vhart::site::Handler; 32];
    static fast_off_reads: [vhart::site::Handler; 32];
    static fast_restores: [vhart::site::Handler; 32];
}

/// What serves sites: for `SiteTable::set_handlers`.
pub fn handlers() -> Handlers {
    // SAFETY: each is the piece of the assembly below that does what the field says.
    Handlers::new(tables(), unsafe { HartAuthority::new() })
}

/// The assembly's addresses, as `handlers` vouches for them.
pub fn tables() -> HandlerTables {
    let mut ops = [fast_bail as vhart::site::Handler; Op::COUNT];
    for (op, handler) in [
        (Op::Read, fast_read as vhart::site::Handler),
        (Op::Write, fast_write),
        (Op::Swap, fast_swap),
        (Op::StatusRead, fast_status_read),
        (Op::InterruptsOff, fast_interrupts_off),
        (Op::InterruptsOn, fast_interrupts_on),
        (Op::InterruptsRestore, fast_status_set),
        (Op::StatusSet, fast_status_set),
        (Op::StatusClear, fast_status_clear),
        (Op::StatusWrite, fast_status_write),
        (Op::Satp, fast_satp),
        (Op::Sret, fast_sret),
        (Op::Vector, fast_vector_write),
        (Op::Fence, fast_fence),
    ] {
        ops[op as usize] = handler;
    }
    // SAFETY: tables that the assembly below lays out, relocated with the image.
    let (sources, finishes) = unsafe { (fast_sources, fast_finishes) };
    // SAFETY: as above.
    let (off_reads, restores) = unsafe { (fast_off_reads, fast_restores) };
    HandlerTables { ops, sources, immediate: fast_immediate, finishes, off_reads, restores }
}

/// The first cause of a page fault, and how far behind it the last one is.
const FIRST_PAGE_FAULT: u64 = Exception::InstructionPageFault.code();
const PAGE_FAULT_CAUSES: u64 = Exception::StorePageFault.code() - FIRST_PAGE_FAULT;
/// The bit of R, W and X that an access wants, by the cause of its page fault: so many bits for each cause, from the first on.
const WANTED: u64 =
    Pte::X | wanted(Exception::LoadPageFault, Pte::R) | wanted(Exception::StorePageFault, Pte::W);
const WANTED_SHIFT: u32 = 2;

const fn wanted(cause: Exception, bit: u64) -> u64 {
    bit << ((cause.code() - FIRST_PAGE_FAULT) << WANTED_SHIFT)
}

/// What of sstatus decides on the view of an address space, beside the privilege.
const VIEW: u64 = sstatus::SUM | sstatus::MXR;

/// Registers with a place of their own in the assembly, by their numbers.
const R_SP: usize = 2;
const R_TP: usize = 4;
const R_T0: usize = 5;
const R_T1: usize = 6;
const R_T2: usize = 7;
const R_T3: usize = 28;
const R_T4: usize = 29;
const R_T5: usize = 30;

/// Bytes of a word, by which entries, registers and bits in use are counted.
const WORD: usize = size_of::<u64>();
const XLEN: u32 = u64::BITS;
const PAGE_SHIFT: u32 = PAGE_SIZE.ilog2();
const RANGE_SHIFT: u32 = BLOCK_SIZE.ilog2();
/// From a block's number to the offset of its state.
const BLOCK_STATE_SHIFT: u32 = size_of::<memory::Block>().ilog2();

const _: () = {
    assert!(
        (Pte::R | Pte::W | Pte::X) >> (1 << WANTED_SHIFT) == 0,
        "the bits of one cause do not reach the next"
    );
    assert!(Privilege::User as u64 == 0, "the assembly stores x0");
    assert!(XLEN as usize == 8 * WORD);
};

/// Where the frame has a register.
const fn x(number: usize) -> usize {
    layout::X + WORD * number
}

core::arch::global_asm!(
    ".pushsection .text.fast, \"ax\"",
    ".option push",
    ".option norelax",
    include_str!("fast/macros.s"),
    include_str!("fast/vectors.s"),
    include_str!("fast/page_fault.s"),
    include_str!("fast/sites.s"),
    include_str!("fast/operands.s"),
    ".option pop",
    ".popsection",
    exit_saved = sym crate::switch::exit_saved,
    FAST_EXITS = const layout::FAST_EXITS,
    SWITCH_FLUSHES = const layout::SWITCH_FLUSHES,
    SWITCH_EXTRA = const layout::SWITCH_EXTRA,
    FLUSH_ON_SWITCH = const layout::FLUSH_ON_SWITCH,
    SWITCH_SENVCFG = const layout::SWITCH_SENVCFG,
    SENVCFG_USER = const layout::SENVCFG_USER,
    SENVCFG_SUPERVISOR = const layout::SENVCFG_SUPERVISOR,
    PRIVILEGE = const layout::PRIVILEGE,
    READY = const layout::READY,
    STATUS_GUARD = const layout::STATUS_GUARD,
    ROOT_USER = const layout::ROOT_USER,
    ROOT_SUPERVISOR = const layout::ROOT_SUPERVISOR,
    ROOT_SUM = const layout::ROOT_SUM,
    TAG = const layout::TAG,
    HINTS = const layout::HINTS,
    HINT_COUNT = const vhart::hint::HINTS,
    HINT_SHIFT = const layout::HINT_SHIFT,
    HINT_RANGE = const layout::HINT_RANGE,
    HINT_ROOT = const layout::HINT_ROOT,
    HINT_GUEST = const layout::HINT_GUEST,
    HINT_SHADOW = const layout::HINT_SHADOW,
    HINT_SEEN = const layout::HINT_SEEN,
    HINT_USED = const layout::HINT_USED,
    BLOCKS_BEHIND_USED = const layout::BLOCKS_BEHIND_USED,
    HINT_MASK = const layout::HINT_MASK,
    HINT_VALUE = const layout::HINT_VALUE,
    HINT_KEPT = const layout::HINT_KEPT,
    V = const Pte::V,
    W = const Pte::W,
    RWX = const Pte::R | Pte::W | Pte::X,
    LEAF = const Pte::V | Pte::U | Pte::A | Pte::D,
    W_TO_D = const Pte::D.ilog2() - Pte::W.ilog2(),
    WANTED = const WANTED,
    MEMORY_BASE = const layout::MEMORY_BASE,
    MEMORY_SIZE = const layout::MEMORY_SIZE,
    MEMORY_HOST = const layout::MEMORY_HOST,
    MEMORY_BLOCKS = const layout::MEMORY_BLOCKS,
    BLOCK_STATE_SHIFT = const BLOCK_STATE_SHIFT,
    MEMORY_UNWATCHED = const layout::MEMORY_UNWATCHED,
    SETTLED = const layout::SETTLED,
    FAST_FENCES = const layout::FAST_FENCES,
    FILLED_WRITABLE = const layout::FILLED_WRITABLE,
    WANTED_SHIFT = const WANTED_SHIFT,
    FIRST_PAGE_FAULT = const FIRST_PAGE_FAULT,
    PAGE_FAULT_CAUSES = const PAGE_FAULT_CAUSES,
    BREAKPOINT = const Exception::Breakpoint.code(),
    ECALL_FROM_USER = const Exception::EcallFromUser.code(),
    USER = const Privilege::User as u64,
    SUPERVISOR = const Privilege::Supervisor as u64,
    XLEN = const XLEN,
    XLEN_SHIFT = const XLEN.ilog2(),
    WORD = const WORD,
    WORD_SHIFT = const WORD.ilog2(),
    PAGE_SHIFT = const PAGE_SHIFT,
    RANGE_SHIFT = const RANGE_SHIFT,
    PPN_SHIFT = const Pte::PPN_SHIFT,
    PTE_RESERVED = const Pte::RESERVED.count_ones(),
    ASID_SHIFT = const Satp::ASID_SHIFT,
    X = const layout::X,
    R_SP = const R_SP,
    R_T0 = const R_T0,
    R_T1 = const R_T1,
    R_T2 = const R_T2,
    TP = const x(R_TP),
    T0 = const x(R_T0),
    T1 = const x(R_T1),
    T2 = const x(R_T2),
    T3 = const x(R_T3),
    T4 = const x(R_T4),
    T5 = const x(R_T5),
    SITES = const layout::SITES,
    SITE_LENGTH = const layout::SITE_LENGTH,
    SITE_FOLD = const layout::SITE_FOLD,
    SITE_LEFT = const layout::SITE_LEFT,
    SITE_RIGHT = const layout::SITE_RIGHT,
    SITE_INDEX = const layout::SITE_INDEX,
    SITE_SHIFT = const layout::SITE_SHIFT,
    SITE_TAG = const layout::SITE_TAG,
    SITE_FIRST = const layout::SITE_FIRST,
    SITE_OP = const layout::SITE_OP,
    SITE_FINISH = const layout::SITE_FINISH,
    SITE_OPERAND = const layout::SITE_OPERAND,
    SITE_FIELD = const layout::SITE_FIELD,
    SITE_MASK = const layout::SITE_MASK,
    SPACES = const layout::SPACES,
    SPACE_COUNT = const vhart::space::SPACES,
    SPACE_SATP = const layout::SPACE_SATP,
    SPACE_SHIFT = const layout::SPACE_SHIFT,
    SPACE_USER = const layout::SPACE_USER,
    SPACE_SUPERVISOR = const layout::SPACE_SUPERVISOR,
    SPACE_SUM = const layout::SPACE_SUM,
    SPACE_TAG = const layout::SPACE_TAG,
    CSR = const layout::CSR,
    SSTATUS = const layout::SSTATUS,
    UNITS_READ = const layout::UNITS_READ,
    UNITS_WRITTEN = const layout::UNITS_WRITTEN,
    SIE = const sstatus::SIE,
    SPIE = const sstatus::SPIE,
    SPP = const sstatus::SPP,
    SIE_TO_SPIE = const sstatus::SPIE.ilog2() - sstatus::SIE.ilog2(),
    VIEW = const VIEW,
    VIEW_SHIFT = const VIEW.trailing_zeros(),
    SUM_TO_SIGN = const 63 - sstatus::SUM.ilog2(),
    STATUS_KEPT = const csr::STATUS_IN_ASSEMBLY,
    UXL = const sstatus::UXL_64,
    STVEC = const layout::STVEC,
    STVEC_MODE = const csr::STVEC_MODE,
    STVEC_NO_MODE = const csr::STVEC_NO_MODE,
    SEPC = const layout::SEPC,
    SCAUSE = const layout::SCAUSE,
    STVAL = const layout::STVAL,
    SATP = const layout::SATP,
);
