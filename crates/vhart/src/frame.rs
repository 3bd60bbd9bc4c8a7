//! The frame: what is saved of a virtual hart while the hypervisor works, and all that the assembly reads and writes
//! when it serves an exit by itself.

use core::fmt;

use alloc::sync::Arc;

use isa::csr::sstatus;
use isa::{Privilege, Reg};
use memory::{GuestRam, RamState};

use crate::csr::{CsrFeatures, CsrFile, SEPC_MASK};
use crate::hint::{HintTable, SharedHints};
use crate::site::SiteTable;
use crate::space::{Roots, SpaceTable};
use crate::tables::address_of;
use crate::units::Units;

/// A virtual hart: the guest's registers and CSRs, and what the assembly goes by, in `fast`. The assembly finds its fields by
/// the offsets in `layout`.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct VcpuFrame {
    /// x1 to x31; the place of x0 is never read. The fast path keeps t0, t1, t2 and t3 here while it works.
    pub(crate) x: [u64; 32],
    /// Where the guest goes on.
    pub pc: u64,
    /// The hypervisor's stack pointer while the guest runs; the world switch's own.
    pub(crate) host_sp: u64,
    /// The mode that the guest believes it is in.
    pub privilege: Privilege,
    /// The supervisor CSRs.
    pub csr: CsrFile,
    /// Exits that were served without leaving the assembly.
    pub fast_exits: u64,
    /// Fences of all addresses for which there was nothing to do in the shadow.
    pub fast_fences: u64,
    /// Fences that changes of the root wanted.
    pub switch_flushes: u64,
    /// What the assembly goes by.
    pub fast: FastState,
    /// Bits of sstatus that Rust is to set: MXR, and FS and VS where the unit's registers are not at hand, but in `units`,
    /// from where they have to be loaded before the guest may use them.
    pub guarded: u64,
    /// Floating-point and vector registers.
    pub units: Units,
}

/// What the assembly goes by. Each address in it comes from what lies there, and that lives on as long as this.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct FastState {
    /// The interrupts that are pending and enabled in sie: where not 0, Rust must see to it when interrupts are enabled.
    pub(crate) ready: u64,
    /// Bits of sstatus that the assembly may not set: `guarded`, and SIE where an interrupt is ready.
    pub(crate) status_guard: u64,
    /// The shadow roots of the address space that the guest is in.
    pub roots: Roots,
    /// Not 0 where a change of the root wants more than a write of satp: see `switch_senvcfg` and `flush_on_switch`.
    pub(crate) switch_extra: u64,
    /// What the real senvcfg has to be in virtual user mode and in virtual supervisor mode.
    pub(crate) senvcfg: [u64; 2],
    /// Not 0 where a change of the root wants a fence: the hart has no ASIDs to tell roots by.
    pub(crate) flush_on_switch: u64,
    /// Whether senvcfg differs between the two modes; not 0 if so.
    pub(crate) switch_senvcfg: u64,
    /// The guest's memory.
    pub(crate) memory: GuestMemory,
    /// Where the hints are; 0 where there are none.
    pub(crate) hints: u64,
    /// Not 0 since the assembly has filled in a page that can be written.
    pub filled_writable: u64,
    /// `Overlay::unwatched` as long as a fence of all addresses has nothing to do; `u64::MAX` where it has.
    pub settled: u64,
    /// Rewritten sites, by pc.
    pub sites: SiteTable,
    /// Address spaces whose shadow roots are at hand, by satp.
    pub spaces: SpaceTable,
    /// Keeps alive what `memory` and `hints` lead to.
    kept: Kept,
}

/// The guest's memory, for the assembly.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct GuestMemory {
    /// Its first guest-physical address.
    pub(crate) base: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Where it begins in host-physical memory.
    pub(crate) host: u64,
    /// Where `RamState::blocks` is, which has 16 bits for each block of it, 0 where the block is plain.
    pub(crate) blocks: u64,
    /// Where `RamState::unwatched` is.
    pub(crate) unwatched: u64,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    ram: Option<Arc<RamState>>,
    hints: Option<Arc<SharedHints>>,
}

impl FastState {
    fn new() -> Self {
        Self {
            ready: 0,
            status_guard: u64::MAX,
            roots: Roots::NONE,
            switch_extra: 0,
            senvcfg: [0; 2],
            flush_on_switch: 0,
            switch_senvcfg: 0,
            memory: GuestMemory::default(),
            hints: 0,
            filled_writable: 0,
            settled: u64::MAX,
            sites: SiteTable::new(),
            spaces: SpaceTable::new(),
            kept: Kept::default(),
        }
    }

    /// Drops all of it, as before the guest has run; the handlers of sites stay. Whatever the assembly meets then is Rust's
    /// until Rust has seen to it: *droppable-caches*.
    pub fn drop_all(&mut self) {
        // Without `..`: a new cache is to be dropped, too.
        let Self {
            ready,
            status_guard,
            roots,
            switch_extra,
            senvcfg,
            flush_on_switch,
            switch_senvcfg,
            memory,
            hints,
            filled_writable,
            settled,
            sites,
            spaces,
            kept,
        } = self;
        (*ready, *status_guard, *roots) = (0, u64::MAX, Roots::NONE);
        (*switch_extra, *senvcfg, *flush_on_switch, *switch_senvcfg) = (0, [0; 2], 0, 0);
        (*memory, *hints, *kept) = (GuestMemory::default(), 0, Kept::default());
        (*filled_writable, *settled) = (0, u64::MAX);
        sites.clear();
        spaces.clear();
    }

    /// What the real senvcfg has to be in this mode.
    #[inline]
    pub fn senvcfg(&self, privilege: Privilege) -> u64 {
        self.senvcfg.get(privilege as usize).copied().unwrap_or(0)
    }

    /// Whether the assembly writes the real senvcfg where it changes the mode.
    #[inline]
    pub const fn switches_senvcfg(&self) -> bool {
        self.switch_senvcfg != 0
    }

    /// Whether a change of the root wants a fence.
    #[inline]
    pub const fn flushes_on_switch(&self) -> bool {
        self.flush_on_switch != 0
    }

    /// Lets the assembly fill in pages of this RAM, by these hints.
    pub fn set_memory(&mut self, ram: &GuestRam, hints: &HintTable) {
        let (state, hints) = (ram.state(), hints.shared());
        if !self.kept.ram.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, state)) {
            self.memory = GuestMemory {
                base: ram.base().0,
                size: ram.size(),
                host: ram.host_base().0,
                blocks: state.blocks().as_ptr().addr() as u64,
                unwatched: address_of(state.unwatched()),
            };
            self.kept.ram = Some(state.clone());
        }
        if !self.kept.hints.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, hints)) {
            self.hints = hints.address();
            self.kept.hints = Some(hints.clone());
        }
    }
}

impl VcpuFrame {
    /// A hart with these features after reset; registers and pc are 0.
    pub fn new(features: CsrFeatures) -> Self {
        Self {
            x: [0; 32],
            pc: 0,
            host_sp: 0,
            privilege: Privilege::Supervisor,
            csr: CsrFile::new(features),
            fast_exits: 0,
            fast_fences: 0,
            switch_flushes: 0,
            fast: FastState::new(),
            guarded: u64::MAX,
            units: Units::new(0, 0),
        }
    }

    /// Back to the state of a hart that has not run; counters and caches stay.
    pub fn reset(&mut self) {
        self.x = [0; 32];
        self.pc = 0;
        self.privilege = Privilege::Supervisor;
        self.csr = CsrFile::new(*self.csr.features());
        self.guarded = u64::MAX;
        self.units.reset();
    }

    /// Goes on where another one was; on no hart, so that none has the units' values.
    pub(crate) fn go_on_from(&mut self, x: &[u64; 31], pc: u64, privilege: Privilege) {
        let [_, own @ ..] = &mut self.x;
        *own = *x;
        self.pc = pc;
        self.privilege = privilege;
        self.guarded = u64::MAX;
    }

    /// Lets the assembly know which interrupts are ready, and what of sstatus it may not set.
    #[inline]
    pub const fn follow_interrupts(&mut self) {
        self.fast.ready = self.csr.ready();
        let enabling = if self.fast.ready != 0 { sstatus::SIE } else { 0 };
        self.fast.status_guard = self.guarded | enabling;
    }

    /// Lets the assembly know what senvcfg says, and whether a change of the root wants a fence.
    pub const fn follow_environment(&mut self, flush_on_switch: bool) {
        let [user, supervisor] = self.csr.real_senvcfg();
        self.fast.senvcfg = [user, supervisor];
        self.fast.switch_senvcfg = (user != supervisor) as u64;
        self.fast.flush_on_switch = flush_on_switch as u64;
        self.fast.switch_extra = self.fast.switch_senvcfg | self.fast.flush_on_switch;
    }

    /// Says that the registers of these units are at hand.
    pub const fn take_units(&mut self, units: u64) {
        self.guarded &= !units;
        self.fast.status_guard &= !units;
    }

    /// As firmware hands a hart to a kernel that begins at `address`, with a0 and a1. A pc is even, so the address loses
    /// its last bit, as in sepc. The vector registers stay, as firmware leaves them alone.
    pub fn hand_over(&mut self, address: u64, a0: u64, a1: u64) {
        self.x = [0; 32];
        self.set(Reg::A0, a0);
        self.set(Reg::A1, a1);
        self.pc = address & SEPC_MASK;
        self.privilege = Privilege::Supervisor;
        self.csr.hand_over(self.pc);
        self.units.hand_over();
        // The real hart may hold what was in them before.
        self.guarded |= sstatus::FS;
    }

    /// A register's value; 0 for x0.
    #[inline]
    pub fn get(&self, reg: Reg) -> u64 {
        if reg == Reg::ZERO { 0 } else { self.x.get(reg.index()).copied().unwrap_or(0) }
    }

    /// Sets a register; x0 stays 0: *one-x0*.
    #[inline]
    pub fn set(&mut self, reg: Reg, value: u64) {
        if reg != Reg::ZERO
            && let Some(place) = self.x.get_mut(reg.index())
        {
            *place = value;
        }
    }
}

impl fmt::Display for VcpuFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  pc   {:#018x}", self.pc)?;
        for number in 1..32_u32 {
            let reg = Reg::new(number);
            let separator = if number.is_multiple_of(4) { "\n" } else { "" };
            write!(f, "{separator}  {:<4} {:#018x}", reg, self.get(reg))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::space::Space;

    #[test]
    fn caches_that_were_dropped_are_as_before_the_guest_has_run() {
        let features = CsrFeatures {
            widest_mode: isa::paging::Mode::Sv48,
            float: true,
            vector: false,
            cache_blocks: true,
            cache_zero: true,
            svinval: true,
        };
        let mut frame = VcpuFrame::new(features);
        let fresh = format!("{:?}", frame.fast);
        frame.csr.set_pending(isa::Interrupt::Timer, true);
        frame.follow_interrupts();
        frame.follow_environment(true);
        let fast = &mut frame.fast;
        (fast.status_guard, fast.filled_writable, fast.settled, fast.hints) = (0, 1, 2, 3);
        fast.memory = GuestMemory { base: 1, size: 2, host: 3, blocks: 4, unwatched: 5 };
        fast.roots.tag = 1 << 48;
        fast.sites.insert(0x1000, 0, 0x1020_0073, 1);
        fast.spaces.insert(Space { satp: 8 << 60 | 1, roots: fast.roots });
        fast.drop_all();
        assert!(format!("{fast:?}") == fresh);
    }
}
