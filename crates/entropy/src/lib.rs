//! Random numbers for guests: mixes what the machine has to offer into one root key, and derives from it an independent
//! stream for each guest and each purpose: *own-randomness*.
//!
//! Pure: the caller reads the hardware and hands the bytes in. Does not judge how random a source is, only whether an
//! outsider can compute it.
//!
//! ```
//! use entropy::{Collector, Purpose, Source};
//!
//! let mut collector = Collector::new();
//! collector.add(Source::Firmware, &[0x5a; 32]);
//! assert!(collector.is_unpredictable());
//! let root = collector.finish();
//! let (mut first, mut second) = (root.stream(Purpose::Device, 0), root.stream(Purpose::Device, 1));
//! assert_ne!(first.next_u64(), second.next_u64());
//! ```
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// Bytes that one source must give at once to be worth a key.
pub const ENOUGH: usize = 16;

/// Where random bytes come from. The discriminant is part of what is hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Source {
    /// The boot bundle's seed, where the bundle is booted once: `hypo run` makes a new one for each run.
    FreshBundle = 0,
    /// The boot bundle's seed, where the bundle may be booted many times.
    Bundle = 1,
    /// `/chosen/rng-seed` of the host's device tree.
    Firmware = 2,
    /// The processor's entropy source, the `seed` CSR (Zkr).
    Processor = 3,
    /// A virtio-rng device of the host's.
    Device = 4,
    /// The date, and how long things took.
    Clocks = 5,
}

impl Source {
    const ALL: [Self; 6] =
        [Self::FreshBundle, Self::Bundle, Self::Firmware, Self::Processor, Self::Device, Self::Clocks];

    /// Whether nobody outside of the machine can compute what it gives.
    pub const fn is_unpredictable(self) -> bool {
        match self {
            Self::FreshBundle | Self::Firmware | Self::Processor | Self::Device => true,
            Self::Bundle | Self::Clocks => false,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FreshBundle => "a new seed in the bundle",
            Self::Bundle => "the bundle's seed",
            Self::Firmware => "firmware's rng-seed",
            Self::Processor => "the processor (Zkr)",
            Self::Device => "virtio-rng",
            Self::Clocks => "clocks",
        })
    }
}

/// What a stream is for. The discriminant is part of the stream's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// `rng-seed` in the guest's device tree, anew at each start.
    DeviceTree = 0,
    /// The guest's virtio-rng device.
    Device = 1,
    /// The hash tables of disks whose writes are kept in memory.
    HashTables = 2,
}

/// Gathers the sources.
#[derive(Clone, Default)]
pub struct Collector {
    hash: Sha256,
    /// The sources that gave [`ENOUGH`], a bit each.
    given: u8,
}

impl Collector {
    /// Nothing gathered yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Mixes in what a source has given; nothing where it gave no bytes. The order of calls matters, so that equal
    /// bytes from two sources do not cancel.
    pub fn add(&mut self, source: Source, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.hash.update([source as u8]);
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
        if bytes.len() >= ENOUGH {
            self.given |= source.bit();
        }
    }

    /// The sources that have given enough.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        let given = self.given;
        Source::ALL.into_iter().filter(move |source| given & source.bit() != 0)
    }

    /// Whether at least one source has given enough that nobody outside of the machine can compute.
    pub fn is_unpredictable(&self) -> bool {
        self.sources().any(Source::is_unpredictable)
    }

    /// The key from which all streams are derived.
    pub fn finish(self) -> Root {
        Root(self.hash.finalize().into())
    }
}

impl fmt::Display for Collector {
    /// The sources, with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sources().enumerate().try_for_each(|(place, source)| {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{source}")
        })
    }
}

impl fmt::Debug for Collector {
    /// The sources, and nothing of what they gave.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sources()).finish()
    }
}

/// The key from which all streams are derived. `Debug` does not show it.
#[derive(Clone)]
pub struct Root([u8; 32]);

impl Root {
    /// The stream of one guest, by its number in the manifest, for one purpose. What is read from one stream neither
    /// changes nor tells what any other gives.
    pub fn stream(&self, purpose: Purpose, guest: usize) -> Stream {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update([purpose as u8]);
        hash.update((guest as u64).to_le_bytes());
        Stream(ChaCha20Rng::from_seed(hash.finalize().into()))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(..)")
    }
}

/// Random bytes for one guest and one purpose. `Debug` does not show its state.
#[derive(Clone)]
pub struct Stream(ChaCha20Rng);

impl Stream {
    /// Fills `bytes` with the stream's next ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// The stream's next eight bytes as a number.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream(..)")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn gathered(parts: &[(Source, &[u8])]) -> Collector {
        let mut collector = Collector::new();
        parts.iter().for_each(|(source, bytes)| collector.add(*source, bytes));
        collector
    }

    fn first(root: &Root, purpose: Purpose, guest: usize) -> [u8; 64] {
        let mut bytes = [0; 64];
        root.stream(purpose, guest).fill(&mut bytes);
        bytes
    }

    #[test]
    fn a_bundle_that_is_booted_twice_and_clocks_do_not_count() {
        assert!(!Collector::new().is_unpredictable());
        assert!(!gathered(&[(Source::Bundle, &[1; 32]), (Source::Clocks, &[2; 512])]).is_unpredictable());
        for source in [Source::FreshBundle, Source::Firmware, Source::Processor, Source::Device] {
            assert!(gathered(&[(source, &[3; ENOUGH])]).is_unpredictable());
            assert!(!gathered(&[(source, &[3; ENOUGH - 1])]).is_unpredictable());
        }
    }

    #[test]
    fn two_boots_of_one_bundle_differ_by_the_clocks_alone() {
        let boot = |clocks: &[u8]| gathered(&[(Source::Bundle, &[1; 32]), (Source::Clocks, clocks)]).finish();
        let (one, other) = (boot(&[0; 8]), boot(&[1, 0, 0, 0, 0, 0, 0, 0]));
        assert_ne!(first(&one, Purpose::DeviceTree, 0), first(&other, Purpose::DeviceTree, 0));
    }

    #[test]
    fn the_key_is_not_shown() {
        let root = gathered(&[(Source::Firmware, &[0x77; 32])]).finish();
        assert_eq!(format!("{root:?}"), "Root(..)");
        let collector = gathered(&[(Source::Firmware, &[0x77; 32]), (Source::Bundle, &[0x78; 32])]);
        assert_eq!(format!("{collector:?}"), "[Bundle, Firmware]");
        assert_eq!(format!("{collector}"), "the bundle's seed, firmware's rng-seed");
    }

    proptest! {
        #[test]
        fn each_bit_of_each_source_changes_each_stream(
            source in 0..Source::ALL.len(), bytes in prop::collection::vec(any::<u8>(), 1..80), bit: usize, guest in 0usize..8,
        ) {
            let mut changed = bytes.clone();
            changed[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
            let with = |bytes: &[u8]| gathered(&[(Source::Bundle, &[9; 32]), (Source::ALL[source], bytes)]).finish();
            prop_assert_ne!(first(&with(&bytes), Purpose::Device, guest), first(&with(&changed), Purpose::Device, guest));
        }

        #[test]
        fn where_bytes_are_split_between_sources_matters(
            bytes in prop::collection::vec(any::<u8>(), 2..40), at: prop::sample::Index,
        ) {
            let at = 1 + at.index(bytes.len() - 1);
            let parts = |source| gathered(&[(source, &bytes[..at]), (Source::Clocks, &bytes[at..])]).finish();
            let whole = gathered(&[(Source::Firmware, &bytes)]).finish();
            prop_assert_ne!(first(&parts(Source::Firmware), Purpose::Device, 0), first(&whole, Purpose::Device, 0));
            prop_assert_ne!(
                first(&parts(Source::Firmware), Purpose::Device, 0), first(&parts(Source::Device), Purpose::Device, 0));
        }

        #[test]
        fn what_one_guest_reads_changes_no_other_stream(reads in prop::collection::vec(1usize..200, 0..20)) {
            let root = gathered(&[(Source::Firmware, &[4; 32])]).finish();
            let expected = first(&root, Purpose::Device, 1);
            let mut greedy = root.stream(Purpose::Device, 0);
            reads.into_iter().for_each(|count| greedy.fill(&mut std::vec![0; count]));
            prop_assert_eq!(first(&root, Purpose::Device, 1), expected);
        }
    }

    /// *own-randomness*
    #[test]
    fn no_two_streams_begin_alike() {
        let root = gathered(&[(Source::Firmware, &[5; 32])]).finish();
        let purposes = [Purpose::DeviceTree, Purpose::Device, Purpose::HashTables];
        let all = purposes.into_iter().flat_map(|purpose| (0..64).map(move |guest| (purpose, guest)));
        let mut seen: Vec<_> = all.map(|(purpose, guest)| first(&root, purpose, guest)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3 * 64);
    }
}
