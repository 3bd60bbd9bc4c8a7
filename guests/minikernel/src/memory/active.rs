//! Which page table the hart translates by: the satp register. Priv. spec, "Supervisor Address Translation and
//! Protection (satp) Register".

use super::table::PageTable;
use guest_rt::isa::paging::Satp;
use guest_rt::paging::fence_all;
use guest_rt::{csr_read, csr_write};

/// The kernel's address-space identifier.
pub const KERNEL_ASID: u16 = 0;

/// Turns translation on with the kernel's own table, and finds out how many bits of an ASID the hart keeps:
/// those that it does not have read back as 0.
///
/// # Panics
/// Where the hart has no Sv39: a write to satp with a mode that it lacks changes nothing.
pub fn turn_on(kernel: &PageTable) -> u32 {
    csr_write!(SATP, kernel.satp(u16::MAX));
    fence_all();
    let kept = Satp::from_bits(csr_read!(SATP)).filter(|satp| satp.bits() != 0);
    let asid = kept.expect("the hart has no Sv39").asid;
    csr_write!(SATP, kernel.satp(KERNEL_ASID));
    fence_all();
    asid.count_ones()
}

/// Goes over to another table, unless it is the one in use. Where all tables share one ASID, the hart must
/// forget the old one's translations; where each has its own, it may keep them for the next time.
pub fn switch_to(satp: u64, asids: bool) {
    if csr_read!(SATP) != satp {
        csr_write!(SATP, satp);
        if !asids {
            fence_all();
        }
    }
}
