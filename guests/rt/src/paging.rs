//! Builds page tables by hand: every entry can be set and read at every level, right or wrong, since tests
//! want both. Frames come from a static pool and are never given back.

use crate::csr_write;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
pub use isa::paging::{Mode, Pte, Satp, index, leaf_size};

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// Pages in the pool.
pub const POOL_PAGES: usize = 1024;

/// Flags of a leaf that supervisor mode may do all with, accessed and dirty.
pub const RWX: u64 = Pte::V | Pte::R | Pte::W | Pte::X | Pte::A | Pte::D;
/// Flags of a leaf that supervisor mode may read and write, accessed and dirty.
pub const RW: u64 = RWX & !Pte::X;

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u64; 512]; POOL_PAGES]>);
// SAFETY: `frame` hands each page out once.
unsafe impl Sync for Pool {}
static POOL: Pool = Pool(UnsafeCell::new([[0; 512]; POOL_PAGES]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Takes a zeroed page from the pool; gives its physical address.
///
/// # Panics
/// When all [`POOL_PAGES`] are taken.
pub fn frame() -> u64 {
    frames(1)
}

/// Takes `count` pages in a row, zeroed; gives the first one's physical address.
///
/// # Panics
/// When the pool has not as many left.
pub fn frames(count: usize) -> u64 {
    let first = TAKEN.fetch_add(count, Relaxed);
    assert!(first + count <= POOL_PAGES, "the pool of frames is empty");
    POOL.0.get() as u64 + first as u64 * PAGE
}

/// A frame that is taken at its first use, for a `static`.
pub struct LazyFrame(AtomicU64);

impl LazyFrame {
    /// Not taken yet.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Its physical address.
    pub fn address(&self) -> u64 {
        if self.0.load(Relaxed) == 0 {
            self.0.store(frame(), Relaxed);
        }
        self.0.load(Relaxed)
    }
}

impl Default for LazyFrame {
    fn default() -> Self {
        Self::new()
    }
}

/// A tree of page tables.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    mode: Mode,
    root: u64,
}

impl Tables {
    /// An empty tree. `mode` is not Bare.
    pub fn new(mode: Mode) -> Self {
        Self { mode, root: frame() }
    }

    /// A tree that maps this kernel and the machine's devices one to one for supervisor mode, by two leaves
    /// of 1 GiB: 0 (devices, not executable) and 0x8000_0000 (RAM).
    pub fn with_kernel(mode: Mode) -> Self {
        let tables = Self::new(mode);
        tables.map(0, 0, 2, RW | Pte::G);
        tables.map(0x8000_0000, 0x8000_0000, 2, RWX | Pte::G);
        tables
    }

    /// The physical address of the root table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// satp for this tree with this address-space identifier.
    pub fn satp(&self, asid: u16) -> u64 {
        Satp { mode: self.mode, asid, ppn: self.root / PAGE }.bits()
    }

    /// Turns translation on with this tree and this ASID, and fences everything.
    pub fn activate(&self, asid: u16) {
        csr_write!(SATP, self.satp(asid));
        fence_all();
    }

    /// Maps `virt` to `phys` by a leaf at `level` (0: 4 KiB, 1: 2 MiB, 2: 1 GiB) with `flags` as they are.
    pub fn map(&self, virt: u64, phys: u64, level: usize, flags: u64) {
        self.set(virt, level, Pte::new(phys, flags));
    }

    /// Writes the entry for `virt` at `level`. Fences nothing.
    pub fn set(&self, virt: u64, level: usize, entry: Pte) {
        // SAFETY: `slot` points into a table of the pool. Volatile, since the hart reads it too.
        unsafe { self.slot(virt, level).write_volatile(entry.0) }
    }

    /// Reads the entry for `virt` at `level`, with what the hart may have written to it.
    pub fn get(&self, virt: u64, level: usize) -> Pte {
        // SAFETY: as in `set`.
        Pte(unsafe { self.slot(virt, level).read_volatile() })
    }

    /// Where the entry for `virt` at `level` lies; makes the tables above it that are missing.
    ///
    /// # Panics
    /// When an entry on the way is a leaf.
    pub fn slot(&self, virt: u64, level: usize) -> *mut u64 {
        let mut table = self.root;
        for above in (level + 1..self.mode.levels()).rev() {
            let slot = (table as *mut u64).wrapping_add(index(virt, above));
            // SAFETY: a slot of a table of the pool.
            let mut entry = Pte(unsafe { slot.read_volatile() });
            if !entry.has(Pte::V) {
                entry = Pte::new(frame(), Pte::V);
                // SAFETY: the same slot.
                unsafe { slot.write_volatile(entry.0) };
            }
            assert!(entry.is_table(), "a leaf is in the way of {virt:#x} at level {above}");
            table = entry.address();
        }
        (table as *mut u64).wrapping_add(index(virt, level))
    }
}

/// Turns translation off.
pub fn deactivate() {
    csr_write!(SATP, 0);
    fence_all();
}

/// Whether the hart takes `mode` at all: a write to satp with a mode that it lacks changes nothing.
pub fn supports(mode: Mode) -> bool {
    let wanted = Tables::with_kernel(mode).satp(0);
    let before = crate::csr_swap!(SATP, wanted);
    let held = crate::csr_swap!(SATP, before);
    fence_all();
    held == wanted
}

/// SFENCE.VMA x0, x0: all addresses, all address spaces.
pub fn fence_all() {
    // SAFETY: a fence.
    unsafe { asm!("sfence.vma zero, zero", options(nostack)) }
}

/// SFENCE.VMA rs1, x0: one address, all address spaces.
pub fn fence_address(virt: u64) {
    // SAFETY: a fence. x0 is never chosen for an operand, so 0 is an address here.
    unsafe { asm!("sfence.vma {}, zero", in(reg) virt, options(nostack)) }
}

/// SFENCE.VMA x0, rs2: one address space but for its global mappings.
pub fn fence_asid(asid: u64) {
    // SAFETY: a fence.
    unsafe { asm!("sfence.vma zero, {}", in(reg) asid, options(nostack)) }
}

/// SFENCE.VMA rs1, rs2: one address in one address space.
pub fn fence_address_asid(virt: u64, asid: u64) {
    // SAFETY: a fence.
    unsafe { asm!("sfence.vma {}, {}", in(reg) virt, in(reg) asid, options(nostack)) }
}
