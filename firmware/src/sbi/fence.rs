//! The remote fence extension. A call returns when the fences are done everywhere.
//!
//! All translations go, whatever the range and the ASID: more than was asked for is allowed, and on QEMU hardly
//! costs more. There are no fences of guests' translations, with or without the H extension.

use super::hsm;
use super::machine::harts;
use super::mailbox::{self, Kind};
use crate::hart;
use firmware::harts::HartSet;
use rustsbi::{HartMask, SbiRet};

/// The extension.
pub struct Fence;

impl Fence {
    fn all(mask: HartMask, kind: Kind) -> SbiRet {
        let (mask, base) = mask.into_inner();
        match harts().named(mask, base) {
            Some(targets) => {
                run(targets, kind);
                SbiRet::success(0)
            }
            None => SbiRet::invalid_param(),
        }
    }
}

/// Fences on these harts. Those that do not run fence when they are started.
pub fn run(targets: HartSet, kind: Kind) {
    let own = hart::id();
    let mut others = HartSet::default();
    let mut tickets = [0; firmware::harts::MAX_HARTS];
    for target in targets.iter().filter(|&target| target != own && hsm::runs(target)) {
        tickets[target] = mailbox::ask(target, kind);
        others = others.with(target);
    }
    if targets.contains(own) {
        kind.carry_out();
    }
    for target in others.iter() {
        while !mailbox::is_done(target, kind, tickets[target]) {
            // The other one may be waiting for us.
            mailbox::serve(own);
            core::hint::spin_loop();
        }
    }
}

impl rustsbi::Fence for Fence {
    fn remote_fence_i(&self, mask: HartMask) -> SbiRet {
        Self::all(mask, Kind::Instructions)
    }

    fn remote_sfence_vma(&self, mask: HartMask, _start: usize, _size: usize) -> SbiRet {
        Self::all(mask, Kind::Memory)
    }

    fn remote_sfence_vma_asid(&self, mask: HartMask, _start: usize, _size: usize, _asid: usize) -> SbiRet {
        Self::all(mask, Kind::Memory)
    }
}
