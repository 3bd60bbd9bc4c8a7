//! Exit counters: how many of each kind of exit, and what they cost.

use serde::{Deserialize, Serialize};

macro_rules! exit_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal),* $(,)?) => {
        /// Why a guest stopped running.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
        pub enum ExitKind {
            $($(#[$doc])* $kind),*
        }

        impl ExitKind {
            /// All kinds, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The name that reports use.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name),*
                }
            }
        }
    };
}

exit_kinds! {
    /// A physical timer interrupt.
    HostTimer = "host-timer",
    /// A physical external or software interrupt.
    HostInterrupt = "host-interrupt",
    /// A CSR instruction that reads only.
    CsrRead = "csr-read",
    /// A CSR instruction that writes.
    CsrWrite = "csr-write",
    /// A write of satp.
    Satp = "satp",
    /// SRET.
    Sret = "sret",
    /// SFENCE.VMA and its kin.
    Fence = "fence",
    /// WFI.
    Wfi = "wfi",
    /// A supervisor's ecall.
    Sbi = "sbi",
    /// A user's ecall.
    UserEcall = "user-ecall",
    /// A page fault that the shadow answered.
    Fill = "fill",
    /// A page fault that the guest got.
    GuestPageFault = "guest-page-fault",
    /// An access to a device.
    Mmio = "mmio",
    /// A load from, or a store to, a page whose code is rewritten.
    Overlay = "overlay",
    /// A breakpoint of ours in rewritten code; counted beside the kind of the instruction it stands for.
    Rewritten = "rewritten",
    /// Any other exception that the guest got.
    GuestException = "guest-exception",
}

/// How often a vCPU left the guest, and what it cost, by kind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ExitCounters {
    #[serde(with = "crate::array")]
    kinds: [Counter; ExitKind::ALL.len()],
    /// The kind that was counted last.
    last: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
    cost: u64,
}

impl ExitCounters {
    /// Counts one.
    #[inline]
    pub fn count(&mut self, kind: ExitKind) {
        self.last = kind as usize;
        if let Some(counter) = self.kinds.get_mut(kind as usize) {
            counter.count = counter.count.wrapping_add(1);
        }
    }

    /// Adds to the cost of the kind that was counted last, in whatever unit the caller measures.
    #[inline]
    pub fn charge(&mut self, cost: u64) {
        if let Some(counter) = self.kinds.get_mut(self.last) {
            counter.cost = counter.cost.wrapping_add(cost);
        }
    }

    /// What all exits of `kind` have cost.
    pub fn cost(&self, kind: ExitKind) -> u64 {
        self.kinds.get(kind as usize).map_or(0, |counter| counter.cost)
    }

    /// How often `kind` was counted.
    pub fn get(&self, kind: ExitKind) -> u64 {
        self.kinds.get(kind as usize).map_or(0, |counter| counter.count)
    }

    /// The kinds that happened, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (ExitKind, u64)> + '_ {
        ExitKind::ALL.iter().map(|kind| (*kind, self.get(*kind))).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_counter_of_its_own() {
        let mut counters = ExitCounters::default();
        for (n, kind) in ExitKind::ALL.iter().enumerate() {
            (0..n).for_each(|_| counters.count(*kind));
        }
        for (n, kind) in ExitKind::ALL.iter().enumerate() {
            assert_eq!(counters.get(*kind), n as u64, "{}", kind.name());
        }
        assert_eq!(counters.iter().count(), ExitKind::ALL.len() - 1);
    }

    #[test]
    fn a_cost_is_the_last_exits() {
        let mut counters = ExitCounters::default();
        counters.count(ExitKind::Rewritten);
        counters.count(ExitKind::Sret);
        counters.charge(100);
        counters.count(ExitKind::Sbi);
        counters.charge(30);
        counters.charge(3);
        assert_eq!(counters.cost(ExitKind::Sret), 100);
        assert_eq!(counters.cost(ExitKind::Sbi), 33);
        assert_eq!(counters.cost(ExitKind::Rewritten), 0);
    }
}
