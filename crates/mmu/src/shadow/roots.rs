//! The numbers of a vCPU's contexts and shadow roots, and sets of them as bits.

use memory::HostPhysAddr;

/// Contexts that a vCPU keeps.
pub const CONTEXTS: usize = 64;

const _: () = assert!(CONTEXTS == 64, "a bit each");

/// Roots: one for each context, and one for the half that they share. The hypervisor may run under any of them at any
/// time, so they are never anything else, and keep the hypervisor's window.
pub(crate) use vhart::tables::ROOTS;

const _: () = assert!(ROOTS == CONTEXTS + 1);

/// The number of the context that stands for all whose shared half is all they have.
pub(super) const KERNEL: usize = CONTEXTS;

/// A shadow root, for satp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// The root table.
    pub table: HostPhysAddr,
    /// Which of the vCPU's roots it is, 0 to `CONTEXTS`: a hart with ASIDs makes one of it.
    pub number: usize,
}

/// A context's bit in a set of them; `KERNEL` has none.
pub(super) const fn bit(number: usize) -> u64 {
    if number < CONTEXTS { 1 << number } else { 0 }
}

/// The numbers of a set of contexts.
pub(super) fn members(mut set: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let number = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        number
    })
}
