//! What tests have done at every Nth exit, between two runs of a guest: its shadow tables are scanned, or its vCPU loses all that
//! it could do without.

use vmm::vcpu::Vcpu;
use vmm::{Machine, VcpuState, vm};

use crate::port::HartPort;

/// At which exits what is done; 0 is never. For tests: both are slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Probes {
    /// Exits between two scans of the shadow tables for broken invariants.
    pub check_every: u32,
    /// Exits between two moments at which a vCPU loses its caches.
    pub drop_caches_every: u32,
}

impl Probes {
    /// Whether anything is ever done.
    pub const fn are_on(self) -> bool {
        self.check_every != 0 || self.drop_caches_every != 0
    }

    /// Whether something is done after so many exits.
    pub const fn are_due(self, exits: u64) -> bool {
        self.checks(exits) || self.drops(exits)
    }

    const fn checks(self, exits: u64) -> bool {
        self.check_every != 0 && exits.is_multiple_of(self.check_every as u64)
    }

    const fn drops(self, exits: u64) -> bool {
        self.drop_caches_every != 0 && exits.is_multiple_of(self.drop_caches_every as u64)
    }

    /// Does what is due at this exit, after so many, to a vCPU that is on the hart.
    #[cold]
    #[inline(never)]
    pub(crate) fn apply<P: HartPort>(
        self,
        exits: u64,
        port: &mut P,
        shares_asids: bool,
        machine: &Machine,
        vcpu: &mut Vcpu,
        losses: &mut Losses,
    ) {
        if self.drops(exits) && losses.may_lose(vcpu.frame.pc) {
            if losses.count.is_multiple_of(2) {
                vcpu.drop_caches();
            } else {
                port.leave(&mut vcpu.frame);
                lose_all_but_state(machine, vcpu);
                port.enter(&mut vcpu.frame, shares_asids);
            }
        }
        if self.checks(exits) {
            scan(machine, vcpu);
        }
    }
}

/// What a vCPU has lost so far.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    count: u64,
    /// The pc that it was at then.
    at: u64,
}

impl Losses {
    /// Whether a vCPU that is there may lose its caches, which is counted then. An instruction may need several of them, which are
    /// filled by an exit each, so it does not lose them twice in a row at one place.
    const fn may_lose(&mut self, pc: u64) -> bool {
        let has_moved = pc != self.at || self.count == 0;
        if has_moved {
            self.count = self.count.wrapping_add(1);
            self.at = pc;
        }
        has_moved
    }
}

/// Has a vCPU, which is on no hart, go on from its state alone: *droppable-caches*. Not by way of bytes, whose encoding would be a
/// good part of the image: `vmm`'s tests do that.
#[allow(clippy::panic, reason = "a state that is not taken up again is a bug of ours")]
fn lose_all_but_state(machine: &Machine, vcpu: &mut Vcpu) {
    let Some(link) = machine.links.get(vcpu.id) else { return };
    let state = VcpuState::of(vcpu, link);
    vcpu.reset();
    if let Err(error) = state.restore(vcpu, link, &machine.ram) {
        panic!("a vCPU does not go on from its state: {error}");
    }
}

#[allow(clippy::panic, reason = "what the scanner finds is a bug of ours")]
fn scan(machine: &Machine, vcpu: &Vcpu) {
    if let Err(violation) = mmu::check::check(&vcpu.caches.shadow, &machine.ram) {
        panic!("{violation}");
    }
    if let Some(root) = vm::foreign_root(vcpu) {
        panic!("invariant own-root broken: the assembly may write {root:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_that_stands_still_loses_nothing_twice() {
        let mut losses = Losses::default();
        let lost = [0, 0, 4, 4, 4, 0].map(|pc| losses.may_lose(pc));
        assert_eq!(lost, [true, false, true, false, false, true]);
    }

    #[test]
    fn each_probe_has_exits_of_its_own() {
        let probes = Probes { check_every: 3, drop_caches_every: 0 };
        assert!(probes.are_on() && !Probes::default().are_on());
        assert_eq!([1, 3, 4, 6].map(|exits| probes.are_due(exits)), [false, true, false, true]);
        let probes = Probes { drop_caches_every: 2, ..probes };
        assert_eq!([1, 3, 4, 5].map(|exits| probes.are_due(exits)), [false, true, true, false]);
        assert!(!Probes::default().are_due(0));
    }
}
