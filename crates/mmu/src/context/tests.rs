//! Which contexts there are: one for each way of seeing an address space.

use super::*;

const SPACE: Satp = Satp { mode: Mode::Sv39, asid: 7, ppn: 0x80000 };

const fn rights(privilege: Privilege, sum: bool, mxr: bool) -> Rights {
    Rights { privilege, sum, mxr }
}

#[test]
fn without_translation_there_is_one_context_whatever_the_rights() {
    for privilege in [Privilege::User, Privilege::Supervisor] {
        for (sum, mxr) in [(false, false), (false, true), (true, false), (true, true)] {
            let satp = Satp { mode: Mode::Bare, ..SPACE };
            let key = ContextKey::new(satp, rights(privilege, sum, mxr));
            assert_eq!(key, ContextKey { satp: Satp::BARE, view: View::Bare });
        }
    }
}

#[test]
fn sum_has_views_of_its_own_in_supervisor_mode_only() {
    let key = |privilege, sum| ContextKey::new(SPACE, rights(privilege, sum, false));
    assert_eq!(key(Privilege::User, false), key(Privilege::User, true));
    assert_ne!(key(Privilege::Supervisor, false), key(Privilege::Supervisor, true));
}

#[test]
fn mxr_has_views_of_its_own_in_both_modes() {
    for privilege in [Privilege::User, Privilege::Supervisor] {
        let key = |mxr| ContextKey::new(SPACE, rights(privilege, false, mxr));
        assert_ne!(key(false), key(true));
    }
}

#[test]
fn the_privileges_of_one_address_space_have_views_of_their_own() {
    let key = |privilege| ContextKey::new(SPACE, rights(privilege, true, false));
    assert_ne!(key(Privilege::User), key(Privilege::Supervisor));
}

#[test]
fn mode_asid_and_root_each_make_another_context() {
    let supervisor = rights(Privilege::Supervisor, false, false);
    let key = ContextKey::new(SPACE, supervisor);
    for other in [
        Satp { mode: Mode::Sv48, ..SPACE },
        Satp { asid: 0x8007, ..SPACE },
        Satp { ppn: SPACE.ppn + 1, ..SPACE },
    ] {
        assert_ne!(ContextKey::new(other, supervisor), key);
    }
}

#[test]
fn a_view_gives_back_the_rights_that_it_was_made_for() {
    for privilege in [Privilege::User, Privilege::Supervisor] {
        for (sum, mxr) in [(false, false), (false, true), (true, false), (true, true)] {
            let rights = rights(privilege, sum, mxr);
            let seen = ContextKey::new(SPACE, rights).view.rights();
            assert_eq!((seen.privilege, seen.mxr), (privilege, mxr));
            // SUM means nothing to a user.
            assert!(privilege == Privilege::User || seen.sum == sum);
        }
    }
}
