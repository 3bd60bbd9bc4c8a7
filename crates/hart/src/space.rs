//! The hypervisor's own address space: a window of consecutive root entries that every shadow root carries too.
//!
//! | offset in the window | what |
//! | --- | --- |
//! | 0 | the image, in 4 KiB pages: text RX, read-only data R, data RW, guard pages absent |
//! | 256 MiB | device registers, RW |
//! | 1 GiB | RAM from `ram_floor`, RW, without the image |
//!
//! On a host with Sv57 or Sv48 the window is one root entry in the middle of the address space, which a guest's
//! narrower mode cannot name; with Sv39 it is as many gigabytes as it takes, where the guest leaves a hole.
//! Nothing is writable and executable (*write-xor-execute*), and nothing is accessible to user mode.

use arrayvec::ArrayVec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use isa::paging::{self, Mode, PageTable, Pte};
use memory::{Extent, Extents, HostPhysAddr, PAGE_SIZE};

use crate::image::Image;
use crate::mmio::Mmio;

const GIB: u64 = 1 << 30;
const DEVICES: u64 = 256 << 20;
const DEVICES_END: u64 = GIB;
const RAM: u64 = GIB;
/// The window's root slot on hosts where a guest cannot name it: the lowest address of the upper half.
const WIDE_SLOT: usize = 256;
/// Where the window lies on an Sv39 host unless the manifest says otherwise. Linux keeps nothing between its direct
/// map and its KASAN shadow, which its kernels do not have.
pub const SV39_WINDOW: u64 = 0xffff_fff6_0000_0000;

/// What the hypervisor wants mapped.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// RAM.
    pub ram: &'a [Extent],
    /// Device registers.
    pub devices: &'a [Extent],
    /// Where the window is to lie on an Sv39 host; a multiple of 1 GiB.
    pub window: Option<u64>,
}

/// Why the address space cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceError {
    /// The hart translates nothing.
    NoTranslation,
    /// There is more to map than tables, or devices than places.
    TooMuch,
    /// The window is not aligned, not canonical, or does not fit.
    BadWindow(u64),
    /// It is there already.
    Twice,
    /// RAM and device registers overlap.
    Overlap,
}

/// Ranges of device registers that a plan may name.
pub const MAX_DEVICES: usize = 40;
const TABLES: usize = 64;
/// Root entries that the window may take on an Sv39 host.
const MAX_ROOT_ENTRIES: usize = 64;

struct Tables(UnsafeCell<[PageTable; TABLES]>);

// SAFETY: `HostSpace::build` is their only user, and runs once, on one hart.
unsafe impl Sync for Tables {}

/// Whether `HostSpace::build` has run.
static BUILT: AtomicBool = AtomicBool::new(false);

static HOST_TABLES: Tables = Tables(UnsafeCell::new([PageTable::EMPTY; TABLES]));

#[derive(Clone, Copy, Debug)]
struct DevicePlace {
    registers: Extent,
    address: u64,
}

/// The hypervisor's address space, as plain numbers that hold before and after translation is on.
#[derive(Clone, Debug)]
pub struct HostSpace {
    mode: Mode,
    window: u64,
    root: HostPhysAddr,
    root_entries: ArrayVec<Pte, MAX_ROOT_ENTRIES>,
    image: Image,
    ram_floor: u64,
    /// The RAM that is mapped, without the image.
    ram: Extents,
    devices: ArrayVec<DevicePlace, MAX_DEVICES>,
}

impl HostSpace {
    /// Builds it, once, while translation is off.
    ///
    /// # Errors
    /// Where the hart or the plan does not allow it.
    pub fn build(image: Image, plan: &Plan) -> Result<Self, SpaceError> {
        if BUILT.swap(true, Ordering::Relaxed) {
            return Err(SpaceError::Twice);
        }
        let overlap = |one: &Extent, other: &Extent| one.start < other.end() && other.start < one.end();
        if plan.ram.iter().any(|ram| plan.devices.iter().any(|device| overlap(ram, device))) {
            return Err(SpaceError::Overlap);
        }
        let mode = widest_mode().ok_or(SpaceError::NoTranslation)?;
        let floor = plan.ram.iter().map(|ram| ram.start.0).min().unwrap_or(0) & !(GIB - 1);
        let top = plan.ram.iter().map(|ram| ram.end().0).max().unwrap_or(0);
        let size = RAM + top.saturating_sub(floor).next_multiple_of(GIB);
        let window = place_window(mode, plan.window, size)?;
        // SAFETY: this point is reached once, before anything is mapped through the tables.
        let tables = unsafe { &mut *HOST_TABLES.0.get() };
        let mut mapper = Mapper { base: tables.as_ptr() as u64, tables, used: 1, mode };
        let mut space = Self {
            mode,
            window,
            root: HostPhysAddr(mapper.base),
            root_entries: ArrayVec::new(),
            image,
            ram_floor: floor,
            ram: Extents::new(),
            devices: ArrayVec::new(),
        };
        space.map_image(&mut mapper)?;
        space.map_devices(&mut mapper, plan.devices)?;
        space.map_ram(&mut mapper, plan.ram)?;
        let slots = if mode == Mode::Sv39 { (size / GIB) as usize } else { 1 };
        let first = space.first_slot();
        for slot in first..first + slots {
            let entry = mapper.tables[0].0.get(slot).ok_or(SpaceError::BadWindow(window))?;
            space.root_entries.try_push(Pte(*entry)).map_err(|_| SpaceError::TooMuch)?;
        }
        Ok(space)
    }

    /// The translation mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where the window lies.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The root slot of the window's first entry.
    pub fn first_slot(&self) -> usize {
        paging::index(self.window, self.mode.levels() - 1)
    }

    /// The window's root entries, for shadow roots.
    pub fn root_entries(&self) -> &[Pte] {
        &self.root_entries
    }

    /// Registers that the plan named.
    pub fn device(&self, start: HostPhysAddr) -> Option<Mmio> {
        let place = self.devices.iter().find(|place| place.registers.start == start)?;
        Some(Mmio::new(place.address as usize, place.registers.size))
    }

    /// The virtual address of RAM, as far as the plan named it and it is not the image.
    pub(crate) fn ram_address(&self, address: HostPhysAddr) -> usize {
        address.0.wrapping_add(self.ram_offset()) as usize
    }

    /// Whether all of a range is RAM that is mapped.
    pub(crate) fn maps_ram(&self, extent: Extent) -> bool {
        self.ram.iter().any(|ram| ram.start <= extent.start && extent.end() <= ram.end())
    }

    /// What to add to a physical address in RAM, modulo 2^64.
    pub(crate) fn ram_offset(&self) -> u64 {
        (self.window + RAM).wrapping_sub(self.ram_floor)
    }

    /// satp's value.
    pub(crate) fn satp(&self) -> u64 {
        (self.mode as u64) << 60 | self.root.0 >> 12
    }

    /// What to add to a physical address in the image.
    pub(crate) fn image_offset(&self) -> u64 {
        self.window.wrapping_sub(self.image.start.0)
    }

    fn map_image(&self, mapper: &mut Mapper) -> Result<(), SpaceError> {
        for offset in (0..self.image.size).step_by(PAGE_SIZE as usize) {
            let flags = match offset {
                _ if self.image.guards.contains(&offset) => continue,
                _ if offset < self.image.text_end => Pte::R | Pte::X,
                _ if offset < self.image.rodata_end => Pte::R,
                _ => Pte::R | Pte::W,
            };
            mapper.map(self.window + offset, self.image.start.0 + offset, PAGE_SIZE, flags)?;
        }
        Ok(())
    }

    fn map_devices(&mut self, mapper: &mut Mapper, devices: &[Extent]) -> Result<(), SpaceError> {
        const STEP: u64 = 2 << 20;
        let mut next = self.window + DEVICES;
        for registers in devices {
            let frame = |range: &Extent| {
                let first = range.start.align_down(STEP);
                (range.size < STEP && range.end().0 <= first.0.saturating_add(STEP)).then_some(first)
            };
            // Small ranges in the same 2 MiB share a place, and so a table.
            let shared = frame(registers)
                .and_then(|own| self.devices.iter().find(|place| frame(&place.registers) == Some(own)));
            let place = shared.map_or(next, |place| place.address & !(STEP - 1));
            // The same offset in 2 MiB, so that large ranges need no small pages.
            let address = place + registers.start.0 % STEP;
            let first = registers.start.align_down(PAGE_SIZE).0;
            let last = registers.end().align_up(PAGE_SIZE).ok_or(SpaceError::TooMuch)?.0;
            let end = (address + registers.size).next_multiple_of(STEP);
            next = next.max(end);
            if next > self.window + DEVICES_END {
                return Err(SpaceError::TooMuch);
            }
            mapper.map(address & !(PAGE_SIZE - 1), first, last - first, Pte::R | Pte::W)?;
            let place = DevicePlace { registers: *registers, address };
            self.devices.try_push(place).map_err(|_| SpaceError::TooMuch)?;
        }
        Ok(())
    }

    fn map_ram(&mut self, mapper: &mut Mapper, ram: &[Extent]) -> Result<(), SpaceError> {
        let image = Extent::new(self.image.start, self.image.size);
        for extent in ram {
            let start = extent.start.align_up(PAGE_SIZE).ok_or(SpaceError::TooMuch)?.0;
            let end = extent.end().align_down(PAGE_SIZE).0;
            // The image is mapped in its own place only, with its own permissions.
            let (before, after) = (image.start.0.clamp(start, end), image.end().0.clamp(start, end));
            for (from, to) in [(start, before), (after, end)] {
                if from < to {
                    mapper.map(
                        self.ram_address(HostPhysAddr(from)) as u64,
                        from,
                        to - from,
                        Pte::R | Pte::W,
                    )?;
                    let mapped = Extent::new(HostPhysAddr(from), to - from);
                    self.ram.add(mapped).map_err(|_| SpaceError::TooMuch)?;
                }
            }
        }
        Ok(())
    }
}

fn place_window(mode: Mode, wanted: Option<u64>, size: u64) -> Result<u64, SpaceError> {
    let slot_size = paging::leaf_size(mode.levels() - 1);
    if mode != Mode::Sv39 {
        let bits = mode.address_bits();
        let lowest_of_upper_half = u64::MAX << (bits - 1);
        debug_assert_eq!(paging::index(lowest_of_upper_half, mode.levels() - 1), WIDE_SLOT);
        return if size <= slot_size { Ok(lowest_of_upper_half) } else { Err(SpaceError::TooMuch) };
    }
    let window = wanted.unwrap_or(SV39_WINDOW);
    let last = window.checked_add(size - 1).ok_or(SpaceError::BadWindow(window))?;
    let same_half = window >> 63 == last >> 63;
    if !window.is_multiple_of(GIB) || !mode.is_canonical(window) || !mode.is_canonical(last) || !same_half {
        return Err(SpaceError::BadWindow(window));
    }
    Ok(window)
}

/// The widest mode that the hart takes. Each is tried live, under a root that maps the low addresses to themselves.
fn widest_mode() -> Option<Mode> {
    // SAFETY: as in `build`; the entries are cleared again.
    let tables = unsafe { &mut *HOST_TABLES.0.get() };
    let root = &mut tables[0].0;
    // With Sv39 each entry is a gigabyte; with wider modes the first alone covers all that matters.
    for (slot, entry) in root.iter_mut().enumerate().take(256) {
        *entry = Pte::new(slot as u64 * GIB, LEAF | Pte::R | Pte::W | Pte::X).0;
    }
    let ppn = root.as_ptr() as u64 >> 12;
    let found = [Mode::Sv57, Mode::Sv48, Mode::Sv39].into_iter().find(|mode| {
        let satp = (*mode as u64) << 60 | ppn;
        let taken: u64;
        // SAFETY: code, stack and tables stay where they are: low addresses map to themselves.
        unsafe {
            core::arch::asm!(
                "sfence.vma",
                "csrw satp, {satp}",
                "csrr {taken}, satp",
                "csrw satp, zero",
                "sfence.vma",
                satp = in(reg) satp,
                taken = out(reg) taken,
                options(nostack),
            )
        };
        taken == satp
    });
    root.fill(0);
    found
}

/// Flags of every leaf: global, for every root has the same, and A and D preset, so the hardware never writes one.
const LEAF: u64 = Pte::V | Pte::A | Pte::D | Pte::G;

struct Mapper<'a> {
    tables: &'a mut [PageTable; TABLES],
    base: u64,
    used: usize,
    mode: Mode,
}

impl Mapper<'_> {
    /// Maps `size` bytes in the largest pages that fit.
    fn map(&mut self, address: u64, physical: u64, size: u64, flags: u64) -> Result<(), SpaceError> {
        let mut done = 0;
        while done < size {
            let (at, to) = (address + done, physical + done);
            let level = (0..=2)
                .rev()
                .find(|level| {
                    let page = paging::leaf_size(*level);
                    at.is_multiple_of(page) && to.is_multiple_of(page) && size - done >= page
                })
                .unwrap_or(0);
            self.map_page(at, to, level, flags)?;
            done += paging::leaf_size(level);
        }
        Ok(())
    }

    fn map_page(&mut self, address: u64, physical: u64, level: usize, flags: u64) -> Result<(), SpaceError> {
        const BOTH: u64 = Pte::W | Pte::X;
        assert!(flags & BOTH != BOTH, "a page would be writable and executable");
        let mut table = 0;
        for above in (level + 1..self.mode.levels()).rev() {
            let slot = paging::index(address, above);
            if self.tables[table].0[slot] == 0 {
                if self.used == TABLES {
                    return Err(SpaceError::TooMuch);
                }
                let next = self.base + self.used as u64 * PAGE_SIZE;
                self.tables[table].0[slot] = Pte::new(next, Pte::V).0;
                self.used += 1;
            }
            table = ((Pte(self.tables[table].0[slot]).address() - self.base) / PAGE_SIZE) as usize;
        }
        self.tables[table].0[paging::index(address, level)] = Pte::new(physical, LEAF | flags).0;
        Ok(())
    }
}
