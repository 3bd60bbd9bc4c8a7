//! Sv39 page tables. Priv. spec, "Sv39: Page-Based 39-bit Virtual-Memory System".
//!
//! The kernel is mapped one to one (virtual = physical) in every table, for supervisor mode only, so a trap
//! needs no change of table. Its pages are writable or executable, never both. User space is the one gigabyte
//! from `USER_BASE` on: exactly one entry of the root, and the only one in which two tables differ.

use super::PAGE;
use super::frames::{Frame, Frames};
use crate::machine::Machine;
use core::ops::Range;
use guest_rt::isa::paging::{Mode, Pte, Satp, index, leaf_size};
use guest_rt::{console, finisher, image};
use user::abi::USER_BASE;

/// Sv39 has three levels; this is the root's.
const ROOT: usize = 2;
/// The root's entry for user space.
const USER_ENTRY: usize = index(USER_BASE, ROOT);

/// Leaf flags for kernel data and devices. Accessed and dirty are set from the start: this kernel does not
/// page to disk, so it has no use for them. Global: the same in every address space.
const KERNEL_DATA: u64 = Pte::V | Pte::R | Pte::W | Pte::G | Pte::A | Pte::D;
const KERNEL_CODE: u64 = Pte::V | Pte::R | Pte::X | Pte::G | Pte::A;
const KERNEL_CONSTANTS: u64 = Pte::V | Pte::R | Pte::G | Pte::A;

/// There is no frame left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames;

/// A tree of page tables, and the frames that its user half maps.
pub struct PageTable {
    root: Frame,
}

/// What a tree contains.
#[derive(Clone, Copy, Default)]
pub struct Census {
    /// Tables, the root among them.
    pub tables: usize,
    /// Leaves of 4 KiB, 2 MiB and 1 GiB.
    pub leaves: [usize; 3],
}

impl PageTable {
    /// The kernel's own table: all of RAM from the image on, and the devices.
    pub fn kernel(frames: &mut Frames, machine: &Machine) -> Result<Self, OutOfFrames> {
        let table = Self { root: frames.take().ok_or(OutOfFrames)? };
        let data = image::data();
        let guard = image::stack_guard();
        table.map_kernel(image::text(), KERNEL_CODE, frames)?;
        table.map_kernel(image::rodata(), KERNEL_CONSTANTS, frames)?;
        // The page below the stack stays unmapped: an overflow faults instead of overwriting.
        table.map_kernel(data.start..guard.start, KERNEL_DATA, frames)?;
        table.map_kernel(guard.end..machine.memory.end & !(PAGE - 1), KERNEL_DATA, frames)?;
        for device in [console::UART, finisher::ADDRESS] {
            table.map_kernel(device..device + PAGE, KERNEL_DATA, frames)?;
        }
        table.map_kernel(machine.plic.clone(), KERNEL_DATA, frames)?;
        Ok(table)
    }

    /// A table for a process: the kernel's mappings, shared, and an empty user space.
    pub fn for_process(kernel: &Self, frames: &mut Frames) -> Result<Self, OutOfFrames> {
        let table = Self { root: frames.take().ok_or(OutOfFrames)? };
        for entry in 0..512 {
            write(table.root.address(), entry, read(kernel.root.address(), entry));
        }
        Ok(table)
    }

    /// satp's value for this table.
    pub fn satp(&self, asid: u16) -> u64 {
        Satp { mode: Mode::Sv39, asid, ppn: self.root.address() / PAGE }.bits()
    }

    /// Maps the page at user address `address` to `frame`, which belongs to the table from now on.
    pub fn map_user(
        &self,
        address: u64,
        frame: Frame,
        flags: u64,
        frames: &mut Frames,
    ) -> Result<(), OutOfFrames> {
        let flags = flags | Pte::V | Pte::U | Pte::A | Pte::D;
        let mapped = self.map(address, frame.address(), 0, flags, frames);
        if mapped.is_err() {
            frames.give_back(frame);
        }
        mapped
    }

    /// The leaf that maps the user page at `address`, or `None`: what the hart's own walk would find.
    pub fn user_leaf(&self, address: u64) -> Option<Pte> {
        if !Mode::Sv39.is_canonical(address) {
            return None;
        }
        let mut table = self.root.address();
        for level in (0..=ROOT).rev() {
            let entry = read(table, index(address, level));
            if entry.is_leaf() {
                return entry.has(Pte::U).then_some(entry);
            }
            if !entry.is_table() {
                return None;
            }
            table = entry.address();
        }
        None
    }

    /// Counts the tables and leaves of the whole tree, or of its user half.
    pub fn census(&self, user_only: bool) -> Census {
        let mut census = Census { tables: 1, ..Census::default() };
        for entry in (0..512).filter(|&entry| !user_only || entry == USER_ENTRY) {
            count(read(self.root.address(), entry), ROOT, &mut census);
        }
        census
    }

    /// Gives back the user half, its tables and pages, and the root.
    pub fn destroy(self, frames: &mut Frames) {
        destroy_entry(read(self.root.address(), USER_ENTRY), frames);
        frames.give_back(self.root);
    }

    /// Maps a range one to one, with the largest leaves that fit.
    fn map_kernel(&self, range: Range<u64>, flags: u64, frames: &mut Frames) -> Result<(), OutOfFrames> {
        let mut address = range.start;
        while address < range.end {
            let fits = |level: &usize| {
                let size = leaf_size(*level);
                address.is_multiple_of(size) && range.end - address >= size
            };
            let level = (1..=ROOT).rev().find(fits).unwrap_or(0);
            self.map(address, address, level, flags, frames)?;
            address += leaf_size(level);
        }
        Ok(())
    }

    /// Writes the leaf for `address` at `level`, and makes the tables above it that are missing.
    fn map(
        &self,
        address: u64,
        to: u64,
        level: usize,
        flags: u64,
        frames: &mut Frames,
    ) -> Result<(), OutOfFrames> {
        let mut table = self.root.address();
        for above in (level + 1..=ROOT).rev() {
            let mut entry = read(table, index(address, above));
            if !entry.has(Pte::V) {
                let next = frames.take().ok_or(OutOfFrames)?;
                entry = Pte::new(next.into_address(), Pte::V);
                write(table, index(address, above), entry);
            }
            assert!(entry.is_table(), "{address:#x} is mapped already by a larger page");
            table = entry.address();
        }
        write(table, index(address, level), Pte::new(to, flags));
        Ok(())
    }
}

fn count(entry: Pte, level: usize, census: &mut Census) {
    if entry.is_leaf() {
        census.leaves[level] += 1;
    } else if entry.is_table() {
        census.tables += 1;
        (0..512).for_each(|slot| count(read(entry.address(), slot), level - 1, census));
    }
}

/// Gives back what an entry of a user half points to, table or page.
fn destroy_entry(entry: Pte, frames: &mut Frames) {
    if entry.is_table() {
        (0..512).for_each(|slot| destroy_entry(read(entry.address(), slot), frames));
    }
    if entry.has(Pte::V) {
        // SAFETY: `map` put the frame there; the tree is on its way out and no satp names it.
        frames.give_back(unsafe { Frame::from_address(entry.address()) });
    }
}

fn read(table: u64, slot: usize) -> Pte {
    // SAFETY: `table` is a frame that a `PageTable` owns and `slot` one of its 512 entries. Volatile: the hart
    // reads and writes them too.
    Pte(unsafe { (table as *const u64).add(slot & 511).read_volatile() })
}

fn write(table: u64, slot: usize, entry: Pte) {
    // SAFETY: as in `read`.
    unsafe { (table as *mut u64).add(slot & 511).write_volatile(entry.0) }
}
