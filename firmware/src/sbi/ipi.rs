//! The IPI extension.

use super::machine::harts;
use super::mailbox;
use rustsbi::{HartMask, SbiRet};

/// The extension.
pub struct Ipi;

impl rustsbi::Ipi for Ipi {
    fn send_ipi(&self, mask: HartMask) -> SbiRet {
        let (mask, base) = mask.into_inner();
        match harts().named(mask, base) {
            Some(targets) => {
                targets.iter().for_each(mailbox::interrupt);
                SbiRet::success(0)
            }
            None => SbiRet::invalid_param(),
        }
    }
}
