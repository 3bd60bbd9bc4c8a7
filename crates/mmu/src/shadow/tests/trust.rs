//! Kernels that fence less than they change: they are served as by a hart that forgets everything at each fence and at each
//! change of satp, until they have shown that they need not be.

use super::*;
use crate::shadow::trust::{ENOUGH, ENOUGH_SWITCHES};
use crate::testing::{KERNEL, RAM_BASE, SUPERVISOR, USER};

/// In the lower half, where each space is for itself.
const VA: u64 = 0x4000_0000;
const OTHER: u64 = VA + 0x1000;

/// A kernel of which nothing is known, in a space with these flags at `VA` and `OTHER`.
fn unknown(asid: u16) -> (Rig, ContextKey) {
    let mut rig = Rig::new(Mode::Sv48);
    rig.shadow.drop_all();
    let key = rig.space(asid);
    (rig, key)
}

impl Rig {
    fn space(&mut self, asid: u16) -> ContextKey {
        let satp = self.guest.space(Mode::Sv39, asid);
        for address in [VA, OTHER] {
            self.guest.map(satp, address, 0, Pte::new(RAM_BASE, KERNEL));
        }
        ContextKey::new(satp, SUPERVISOR)
    }

    fn write_satp(&mut self, key: ContextKey) -> bool {
        self.shadow.satp_changed(&self.guest.ram, key.satp);
        let is_fence = !self.shadow.trusts_switches();
        self.activate(key);
        is_fence
    }

    fn change_rights(&mut self) -> bool {
        let is_fence = !self.shadow.trusts_fences();
        self.shadow.rights_changed(&self.guest.ram);
        is_fence
    }

    /// Fills a page, takes it away, and fences it.
    fn unmap_and_fence(&mut self, key: ContextKey, address: u64) {
        self.guest.map(key.satp, address, 0, Pte::new(RAM_BASE, KERNEL));
        self.fill(key, address, Access::Load);
        self.guest.map(key.satp, address, 0, Pte(0));
        self.fence(Some(address), None);
    }

    fn earn_trust(&mut self, key: ContextKey) {
        for _ in 0..ENOUGH {
            self.unmap_and_fence(key, VA);
        }
    }

    /// Whether a page is still seen that the guest took away before `happens`.
    fn stays(&mut self, key: ContextKey, happens: impl Fn(&mut Self)) -> bool {
        self.guest.map(key.satp, OTHER, 0, Pte::new(RAM_BASE, KERNEL));
        self.fill(key, OTHER, Access::Load);
        self.guest.map(key.satp, OTHER, 0, Pte(0));
        happens(self);
        self.seen(key, OTHER).is_some()
    }
}

#[test]
fn any_fence_of_an_unknown_kernel_fences_everything() {
    for (address, asid) in [(Some(VA >> 12), None), (Some(VA), None), (None, Some(6)), (Some(VA), Some(6))] {
        let (mut rig, key) = unknown(5);
        assert!(!rig.stays(key, |rig| _ = rig.fence(address, asid)), "{address:x?} {asid:?}");
    }
}

#[test]
fn writes_of_satp_and_changes_of_sum_are_fences_of_an_unknown_kernel() {
    for asid in [0, 5] {
        let (mut rig, key) = unknown(asid);
        let other = rig.space(asid + 1);
        let leave_and_return = |rig: &mut Rig| {
            assert!(rig.write_satp(other) && rig.write_satp(key));
        };
        assert!(!rig.stays(key, leave_and_return));
        let root = rig.activate(key);
        rig.fill(key, VA, Access::Load);
        assert!(!rig.stays(key, |rig| assert!(rig.change_rights())));
        assert!(
            rig.shadow.root(key) == Some(root) && rig.seen(key, VA).is_some(),
            "what has not changed stays"
        );
    }
}

#[test]
fn a_kernel_that_fences_what_it_changes_is_trusted() {
    let (mut rig, key) = unknown(5);
    rig.earn_trust(key);
    assert!(rig.stays(key, |rig| _ = rig.fence(Some(VA), None)));
    assert!(rig.stays(key, |rig| _ = rig.fence(None, Some(6))));
    assert!(rig.stays(key, |rig| assert!(!rig.change_rights())));
    assert!(!rig.stays(key, |rig| _ = rig.fence(Some(OTHER), None)));
}

#[test]
fn a_change_that_no_fence_has_named_starts_the_count_anew() {
    let (mut rig, key) = unknown(5);
    for _ in 0..2 {
        for _ in 1..ENOUGH {
            rig.unmap_and_fence(key, VA);
        }
        assert!(!rig.stays(key, |rig| _ = rig.fence(Some(VA), None)));
    }
}

#[test]
fn what_allows_more_than_before_is_not_missed() {
    for (before, after, counts) in [
        (KERNEL & !Pte::W & !Pte::D, KERNEL, true),
        (KERNEL & !Pte::X, KERNEL, true),
        (KERNEL, KERNEL & !Pte::W, false),
        (KERNEL, KERNEL | Pte::G, false),
        (USER, KERNEL, false),
    ] {
        let (mut rig, key) = unknown(5);
        let key =
            if before == USER { ContextKey::new(key.satp, crate::testing::SUPERVISOR_SUM) } else { key };
        rig.guest.map(key.satp, OTHER, 0, Pte::new(RAM_BASE, before));
        for _ in 1..ENOUGH {
            rig.unmap_and_fence(key, VA);
        }
        rig.fill(key, OTHER, Access::Load);
        rig.guest.map(key.satp, OTHER, 0, Pte::new(RAM_BASE, after));
        rig.fence(Some(VA), None);
        rig.activate(key);
        rig.unmap_and_fence(key, VA);
        assert_eq!(rig.change_rights(), !counts, "{before:x} {after:x}");
    }
}

#[test]
fn a_kernel_is_trusted_to_switch_after_switches_with_asids_only() {
    for asid in [0, 5] {
        let (mut rig, key) = unknown(asid);
        let other = rig.space(asid);
        rig.earn_trust(key);
        for _ in 0..ENOUGH_SWITCHES / 2 {
            assert!(rig.write_satp(other) && rig.write_satp(key));
        }
        assert_eq!(rig.write_satp(other), asid == 0);
        rig.write_satp(key);
        let leave_and_return = |rig: &mut Rig| {
            rig.write_satp(other);
            rig.write_satp(key);
        };
        assert_eq!(rig.stays(key, leave_and_return), asid != 0);
    }
}

#[test]
fn a_switch_that_misses_a_fence_starts_the_count_anew() {
    let (mut rig, key) = unknown(5);
    let other = rig.space(6);
    rig.earn_trust(key);
    for _ in 0..4 {
        for _ in 0..ENOUGH_SWITCHES / 2 - 1 {
            assert!(rig.write_satp(other) && rig.write_satp(key));
        }
        let leave_and_return = |rig: &mut Rig| {
            assert!(rig.write_satp(other) && rig.write_satp(key));
        };
        assert!(!rig.stays(key, leave_and_return));
    }
}

#[test]
fn a_reset_forgets_what_the_kernel_has_shown() {
    let (mut rig, key) = unknown(5);
    rig.earn_trust(key);
    rig.shadow.drop_all();
    assert!(rig.change_rights());
}
