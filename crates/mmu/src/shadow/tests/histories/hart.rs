//! A hart that vCPUs share, as the run loop and the assembly use it: who comes, what is fenced when, and under which root it
//! runs. Whatever it can look up under the root in satp it may have cached at any time, so it always has.

use super::*;
use crate::asids::{AsidSpace, TlbPolicy};
use crate::shadow::tests::tlb::{Tlb, Under};

/// The hart: `crates/world/src/run.rs` and `crates/hart/src/hart.rs`, as far as the TLB is concerned.
pub(super) struct Hart {
    pub(super) asids: AsidSpace,
    tlb: Tlb,
    /// What is in satp, also while the hypervisor works.
    satp: Option<Under>,
    /// What can be looked up under that.
    reach: Tlb,
    /// The guest whose vCPU is there.
    current: Option<usize>,
    /// `Hart::shares_asids`.
    shares_asids: bool,
}

impl Hart {
    /// A hart with so many bits of ASIDs, for so many vCPUs.
    pub(super) fn new(bits: u32, vcpus: usize) -> Self {
        Self {
            asids: AsidSpace::new(bits, vcpus),
            tlb: Tlb::default(),
            satp: None,
            reach: Tlb::default(),
            current: None,
            shares_asids: false,
        }
    }

    /// Whether it is a guest's vCPU that runs here.
    pub(super) fn runs(&self, guest: usize) -> bool {
        self.current == Some(guest) && self.satp.is_some_and(|satp| satp.guest == guest)
    }

    /// A guest's turn: `run::enter`, `Hart::enter`.
    pub(super) fn enter(&mut self, guest: usize) {
        if self.current.replace(guest) != Some(guest) {
            self.shares_asids = self.asids.policy() == TlbPolicy::FlushOnEntry;
        }
    }

    /// Looks up these addresses of a guest, if it is one of its roots that is in satp.
    pub(super) fn look_up(&mut self, guest: usize, shadow: &ShadowMmu, addresses: &[u64]) {
        let Some(satp) = self.satp.filter(|satp| satp.guest == guest) else { return };
        self.reach = Tlb::default();
        for address in addresses {
            self.reach.access(shadow, satp, *address, Access::Load);
        }
        self.tlb.learn(&self.reach);
    }

    /// The fence that a shadow asks for, which comes before the write of satp: `run::run_guest`.
    pub(super) fn fence(&mut self, flush: TlbFlush) {
        self.tlb.flush(flush);
        self.tlb.learn(&self.reach);
    }

    /// Goes on under a root: the head of `Hart::run`.
    pub(super) fn switch(&mut self, guest: usize, shadow: &ShadowMmu, root: Root) {
        self.write_satp(guest, shadow, root);
        if core::mem::take(&mut self.shares_asids) {
            self.tlb.flush(TlbFlush::All);
        }
        self.check(guest, shadow, root);
    }

    /// The assembly goes on under another root of the guest that runs: `FAST_FLUSH_IF_NEEDED`.
    pub(super) fn switch_fast(&mut self, guest: usize, shadow: &ShadowMmu, root: Root) {
        assert!(self.runs(guest), "the assembly switches between roots of the vCPU that runs");
        self.write_satp(guest, shadow, root);
        self.check(guest, shadow, root);
    }

    pub(super) fn write_satp(&mut self, guest: usize, shadow: &ShadowMmu, root: Root) {
        let satp = Some(Under::new(guest, shadow, root));
        if core::mem::replace(&mut self.satp, satp) != satp {
            self.reach = Tlb::default();
            if shadow.host.asids.is_none() {
                self.tlb.flush(TlbFlush::All);
            }
        }
    }

    /// Asserts that the hart uses nothing that is not the guest's.
    pub(super) fn check(&self, guest: usize, shadow: &ShadowMmu, root: Root) {
        match self.asids.policy() {
            // Under whichever root the assembly goes on.
            TlbPolicy::OwnAsids | TlbPolicy::FlushOnEntry => self.tlb.assert_consistent(guest, shadow),
            TlbPolicy::FlushOnSwitch => {
                if let Err(why) = self.tlb.check(shadow, Under::new(guest, shadow, root)) {
                    panic!("{why}");
                }
            }
        }
    }

    /// The guest that runs makes an access; says whether it succeeds.
    pub(super) fn access(&mut self, shadow: &ShadowMmu, address: u64, access: Access) -> bool {
        let satp = self.satp.expect("a guest runs");
        self.tlb.access(shadow, satp, address, access)
    }
}
