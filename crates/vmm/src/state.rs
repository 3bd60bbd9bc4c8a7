//! A vCPU's state: what its guest can see, and what decides what it does next. Plain data, which goes into bytes and comes back;
//! another vCPU goes on from it, as the first would have. Its caches are not part of it: see `caches`.
//!
//! What belongs to the machine (RAM, devices, copies of code) is not here, and neither is what only the operator reads. Times are
//! ticks of the host's clock.

use alloc::vec::Vec;

use memory::{GuestPhysAddr, GuestRam, PAGE_SIZE};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use trace::ExitCounters;
use vhart::{FrameState, Unfit};

use crate::link::{HartState, Link};
use crate::pmu::Pmu;
use crate::steal;
use crate::timer::VirtualTimer;
use crate::vcpu::{RunState, Vcpu};

/// The state of a vCPU that does not run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VcpuState {
    hart: u64,
    frame: FrameState,
    run: RunState,
    timer: VirtualTimer,
    /// The guest's counters may count them.
    exits: ExitCounters,
    steal: Option<steal::Told>,
    pmu: Pmu,
    pmu_snapshot: Option<u64>,
    console_sent: u64,
    /// What is in its letter box. A fence is not: it is carried out when the caches are dropped.
    power: HartState,
    software_interrupt: bool,
}

/// Why a vCPU cannot go on from a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum StateError {
    /// The bytes are something else.
    #[error("this is no vCPU's state")]
    NotAState,
    /// They were written by another version.
    #[error("the state has format version {0}, this hypervisor knows version {VERSION}")]
    Version(u64),
    /// They are cut off, too long, or say what cannot be read.
    #[error("the state is damaged")]
    Damaged,
    /// The vCPU cannot be in it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// "hypovcpu", in the order of the bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"hypovcpu");
/// Raised whenever the encoding changes, or what a hart has.
const VERSION: u64 = 1;

impl VcpuState {
    /// The state of a vCPU that is on no hart, so that its units are saved; `link` is its letter box.
    pub fn of(vcpu: &Vcpu, link: &Link) -> Self {
        // Without `..`: a new field is to be saved, or to be known as no state.
        let Vcpu {
            id,
            frame,
            caches: _,
            timer,
            state,
            exits,
            site_misses: _,
            steal,
            pmu,
            pmu_snapshot,
            console_sent,
        } = vcpu;
        Self {
            hart: *id as u64,
            frame: FrameState::of(frame),
            run: *state,
            timer: timer.on_any_host(),
            exits: exits.clone(),
            steal: steal.told(),
            pmu: pmu.clone(),
            pmu_snapshot: pmu_snapshot.map(|page| page.0),
            console_sent: *console_sent,
            power: link.state(),
            software_interrupt: link.has_software_interrupt(),
        }
    }

    /// It in bytes: two words that say what it is and of which version, then the fields in postcard's encoding.
    ///
    /// # Errors
    /// Never, as long as there is memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StateError> {
        let head: Vec<u8> = [MAGIC, VERSION].into_iter().flat_map(u64::to_le_bytes).collect();
        postcard::to_extend(self, head).map_err(|_| StateError::Damaged)
    }

    /// The state that these bytes, from wherever, say. Whether a vCPU can be in it, `restore` finds out.
    ///
    /// # Errors
    /// Where they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let (magic, bytes) = bytes.split_first_chunk().ok_or(StateError::NotAState)?;
        if u64::from_le_bytes(*magic) != MAGIC {
            return Err(StateError::NotAState);
        }
        let (version, bytes) = bytes.split_first_chunk().ok_or(StateError::Damaged)?;
        let version = u64::from_le_bytes(*version);
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        match postcard::take_from_bytes(bytes) {
            Ok((state, [])) => Ok(state),
            _ => Err(StateError::Damaged),
        }
    }

    /// Lets a vCPU, which is on no hart, go on from here; its caches are dropped. `link` is its letter box, `ram` its machine's.
    ///
    /// # Errors
    /// Where it cannot be in this state; it is as before then.
    pub fn restore(&self, vcpu: &mut Vcpu, link: &Link, ram: &GuestRam) -> Result<(), StateError> {
        self.check(vcpu, ram)?;
        let pmu = self.pmu.checked().ok_or(IMPOSSIBLE_COUNTERS)?;
        let Vcpu { frame, timer, state, exits, steal, pmu: own_pmu, pmu_snapshot, console_sent, .. } = vcpu;
        self.frame.restore(frame)?;
        timer.go_on_from(self.timer);
        *state = self.run;
        *exits = self.exits.clone();
        steal.go_on_from(self.steal);
        *own_pmu = pmu;
        *pmu_snapshot = self.pmu_snapshot.map(GuestPhysAddr);
        *console_sent = self.console_sent;
        link.set_state(self.power);
        link.take_software_interrupt();
        if self.software_interrupt {
            link.send_software_interrupt();
        }
        vcpu.virtualise_counters();
        vcpu.drop_caches();
        Ok(())
    }

    fn check(&self, vcpu: &Vcpu, ram: &GuestRam) -> Result<(), Unfit> {
        if self.hart != vcpu.id as u64 {
            return Err(Unfit::OtherHart);
        }
        self.frame.check(&vcpu.frame)?;
        if (self.run == RunState::Stopped) != (self.power == HartState::Stopped) {
            return Err(Unfit::Impossible("it runs and is stopped"));
        }
        if let RunState::Suspended(start) = self.run
            && !ram.contains(GuestPhysAddr(start.address), 2)
        {
            return Err(Unfit::Impossible("it resumes outside RAM"));
        }
        if self.steal.is_some_and(|told| !told.is_possible(ram)) {
            return Err(Unfit::Impossible("the memory for its steal time"));
        }
        let is_page =
            |page: u64| page.is_multiple_of(PAGE_SIZE) && ram.contains(GuestPhysAddr(page), PAGE_SIZE);
        if self.pmu_snapshot.is_some_and(|page| !is_page(page)) {
            return Err(Unfit::Impossible("the page for its counters"));
        }
        Ok(())
    }
}

const IMPOSSIBLE_COUNTERS: StateError = StateError::Unfit(Unfit::Impossible("its counters"));

#[cfg(test)]
mod tests;
