//! Host memory that was handed out for ever, and who may say where it lies.
//!
//! An address by which the hardware reads or writes is no number that anybody may think of. It comes with the memory that is
//! there, in a type whose constructor asks for a [`HartAuthority`].

use core::sync::atomic::AtomicU64;

use crate::HostPhysAddr;

/// Who shows one has written `unsafe`, and vouches for what is made with it. The crate `hart` alone may do that, for every
/// other one forbids unsafe code.
#[derive(Debug)]
pub struct HartAuthority(());

impl HartAuthority {
    /// The authority to say what the hardware goes by.
    ///
    /// # Safety
    /// What is made with it must be as its type says.
    #[allow(unsafe_code, reason = "declares what only `hart` may call")]
    pub const unsafe fn new() -> Self {
        Self(())
    }

    /// On a machine that is not the hypervisor's there is no assembly and no shadow root that could go by an address: tests
    /// may say what they like.
    #[cfg(not(target_arch = "riscv64"))]
    pub const fn simulated() -> Self {
        Self(())
    }
}

/// Words of host memory that were handed out for ever, to this owner alone.
#[derive(Debug)]
pub struct HostWords {
    words: &'static [AtomicU64],
    at: HostPhysAddr,
}

impl HostWords {
    /// `words`, which lie at `at`.
    pub const fn new(words: &'static [AtomicU64], at: HostPhysAddr, _: HartAuthority) -> Self {
        Self { words, at }
    }

    /// The words.
    pub const fn words(&self) -> &'static [AtomicU64] {
        self.words
    }

    /// Where they lie.
    pub const fn at(&self) -> HostPhysAddr {
        self.at
    }
}
