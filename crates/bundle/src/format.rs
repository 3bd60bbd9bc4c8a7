//! How a bundle is laid out in bytes, and the checks that find a damaged one. Everything is little-endian:
//!
//! | word | what |
//! | --- | --- |
//! | 0 | magic, the bytes `HYPOBNDL` |
//! | 1 | format version |
//! | 2 | header length: bytes of these words and of the manifest |
//! | 3 | total length: bytes up to the end of the payload |
//! | 4 | payload length: bytes, a multiple of 8 |
//! | 5, 6 | the payload's two sums |
//! | 7 | `HostSettings::window`, or 0, for the hypervisor's first stage, which has no heap |
//! | 8 | CRC-32 of words 0 to 7 and of the manifest |
//!
//! Then comes the manifest in postcard's encoding, zeros up to a multiple of 4096, and the payload.
//! What follows the total length is ignored: a boot loader may hand over more than the file.

use crate::{Manifest, ManifestError};
use alloc::vec::Vec;
use thiserror::Error;

const MAGIC: u64 = u64::from_le_bytes(*b"HYPOBNDL");
/// Counts up whenever the layout or the manifest's encoding changes.
const VERSION: u64 = 7;
/// Words before the manifest.
const FIXED_WORDS: usize = 9;
/// The payload starts at a multiple of this, so that a page of it is a page of memory.
const PAYLOAD_ALIGN: u64 = 4096;
/// More than any manifest needs. Bounds the work that a damaged length can cause.
const MAX_HEADER: u64 = 1 << 20;

/// Why a bundle cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The first word is something else.
    #[error("this is not a boot bundle; make one with `hypo pack`")]
    Magic,
    /// Made by another version of the writer.
    #[error(
        "the bundle has format version {0}, this reader knows version {VERSION}; pack it again with this version's hypo"
    )]
    Version(u64),
    /// Fewer bytes than the header asks for.
    #[error(
        "the bundle is cut off: {needed} bytes are needed and {present} are there; copy or pack it again"
    )]
    Truncated {
        /// Bytes that the header says there are.
        needed: u64,
        /// Bytes at hand.
        present: u64,
    },
    /// The header's lengths contradict each other, its CRC is wrong or its manifest cannot be decoded.
    #[error("the bundle's header is damaged; copy or pack it again")]
    Header,
    /// The payload does not have the sums that the header promises.
    #[error("the bundle's payload is damaged; copy or pack it again")]
    Payload,
    /// The bundle is whole but what it says cannot be carried out.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The words before the manifest, but for the CRC.
struct Fixed {
    header_len: u64,
    total_len: u64,
    payload_len: u64,
    sums: Sums,
    window: u64,
}

impl Fixed {
    fn words(&self) -> [u64; FIXED_WORDS - 1] {
        let Sums { plain, weighted } = self.sums;
        [MAGIC, VERSION, self.header_len, self.total_len, self.payload_len, plain, weighted, self.window]
    }

    /// The CRC of these words and the manifest after them.
    fn crc(&self, manifest: &[u8]) -> u64 {
        let words = self.words();
        let fixed = words.iter().flat_map(|word| word.to_le_bytes());
        u64::from(crc32(fixed.chain(manifest.iter().copied())))
    }
}

/// A bundle of `manifest` and `payload`, the latter zero-padded to a multiple of 8 bytes.
///
/// # Errors
/// The manifest breaks a rule; see [`Manifest::check`].
pub fn write(manifest: &Manifest, payload: &[u8]) -> Result<Vec<u8>, FormatError> {
    manifest.check(payload.len() as u64)?;
    let encoded = postcard::to_allocvec(manifest).map_err(|_| FormatError::Header)?;
    let header_len = (FIXED_WORDS * 8 + encoded.len()) as u64;
    if header_len > MAX_HEADER {
        return Err(FormatError::Header);
    }
    let start = header_len.next_multiple_of(PAYLOAD_ALIGN);
    let payload_len = (payload.len() as u64).next_multiple_of(8);
    let (whole, rest) = payload.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let mut sums = Sums::default();
    for word in whole.iter().chain((!rest.is_empty()).then_some(&last)) {
        sums.add(u64::from_le_bytes(*word));
    }
    let window = manifest.host.window.unwrap_or(0);
    let fixed = Fixed { header_len, total_len: start + payload_len, payload_len, sums, window };

    let mut bytes = Vec::with_capacity(fixed.total_len as usize);
    for word in fixed.words().into_iter().chain([fixed.crc(&encoded)]) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&encoded);
    bytes.resize(start as usize, 0);
    bytes.extend_from_slice(payload);
    bytes.resize(fixed.total_len as usize, 0);
    Ok(bytes)
}

/// `HostSettings::window` of the bundle that starts at `words`, unchecked: `read` finds out whether it is damaged.
pub fn window(words: &[u64]) -> Option<u64> {
    let word = |index: usize| words.get(index).map(|word| u64::from_le(*word));
    let ours = word(0) == Some(MAGIC) && word(1) == Some(VERSION);
    word(7).filter(|window| ours && *window != 0)
}

/// The manifest and the payload of the bundle that starts at `words`, which is memory as it lies.
///
/// # Errors
/// The bundle is damaged, cut off, of another version, or its manifest breaks a rule.
pub fn read(words: &[u64]) -> Result<(Manifest, &[u64]), FormatError> {
    let present = words.len() as u64 * 8;
    let word = |index: usize| {
        let needed = FIXED_WORDS as u64 * 8;
        words.get(index).map(|word| u64::from_le(*word)).ok_or(FormatError::Truncated { needed, present })
    };
    if word(0)? != MAGIC {
        return Err(FormatError::Magic);
    }
    if word(1)? != VERSION {
        return Err(FormatError::Version(word(1)?));
    }
    let fixed = Fixed {
        header_len: word(2)?,
        total_len: word(3)?,
        payload_len: word(4)?,
        sums: Sums { plain: word(5)?, weighted: word(6)? },
        window: word(7)?,
    };
    let crc = word(8)?;
    if !(FIXED_WORDS as u64 * 8..=MAX_HEADER).contains(&fixed.header_len) {
        return Err(FormatError::Header);
    }
    let start = fixed.header_len.next_multiple_of(PAYLOAD_ALIGN);
    let manifest = words.get(FIXED_WORDS..(start / 8) as usize);
    let manifest = manifest.ok_or(FormatError::Truncated { needed: start, present })?;
    let mut encoded: Vec<u8> = manifest.iter().flat_map(|word| word.to_ne_bytes()).collect();
    encoded.truncate(fixed.header_len as usize - FIXED_WORDS * 8);
    if fixed.crc(&encoded) != crc
        || !fixed.payload_len.is_multiple_of(8)
        || start.checked_add(fixed.payload_len) != Some(fixed.total_len)
    {
        return Err(FormatError::Header);
    }
    let payload = words.get((start / 8) as usize..(fixed.total_len / 8) as usize);
    let payload = payload.ok_or(FormatError::Truncated { needed: fixed.total_len, present })?;
    if Sums::of(payload) != fixed.sums {
        return Err(FormatError::Payload);
    }
    let (manifest, rest) =
        postcard::take_from_bytes::<Manifest>(&encoded).map_err(|_| FormatError::Header)?;
    if !rest.is_empty() {
        return Err(FormatError::Header);
    }
    manifest.check(fixed.payload_len)?;
    Ok((manifest, payload))
}

/// Fletcher's pair of sums over 64-bit words. A kernel of 31 MB is summed at each boot, so this is two
/// additions and a load for each word, where a CRC without hardware help takes dozens of instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    plain: u64,
    weighted: u64,
}

impl Sums {
    /// The sums of memory as it lies.
    fn of(words: &[u64]) -> Self {
        let mut sums = Self::default();
        // Eight at a time, so that counting and branching weigh little.
        let (chunks, rest) = words.as_chunks::<8>();
        for chunk in chunks {
            chunk.map(u64::from_le).into_iter().for_each(|word| sums.add(word));
        }
        rest.iter().for_each(|word| sums.add(u64::from_le(*word)));
        sums
    }

    fn add(&mut self, word: u64) {
        self.plain = self.plain.wrapping_add(word);
        self.weighted = self.weighted.wrapping_add(self.plain);
    }
}

/// CRC-32 as in IEEE 802.3: reflected, polynomial 0x04c1_1db7. A header is short, so bit by bit will do.
fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        Attach, ConsoleConfig, DEVICE_TREE_SLOT, DiskConfig, DiskSource, HostSettings, InitrdRange, Mac,
        NetConfig, OnStop, Partition, RAM_BASE, Segment, Show, SwitchConfig, Switches, VirtioTransport,
        VmConfig,
    };
    use alloc::vec;
    use proptest::prelude::*;

    /// Bytes of payload that [`linux_like`] wants.
    pub(crate) const PAYLOAD: u64 = 5 * 4096;

    /// A guest with a kernel, a RAM disk, disks and a network.
    pub(crate) fn linux_like() -> Manifest {
        let memory = 512 << 20;
        Manifest {
            host: HostSettings {
                seed: [7; 32],
                seed_is_fresh: true,
                window: None,
                log_level: 2,
                check_every: 0,
                drop_caches_every: 0,
                show: Show::All,
            },
            switches: vec![SwitchConfig { name: "lan".into(), uplink: Some(Mac([2, 0, 0, 0, 0, 1])) }],
            vms: vec![VmConfig {
                name: "linux".into(),
                memory,
                vcpus: 1,
                entry: 0x8020_0000,
                bootargs: "console=ttyS0".into(),
                segments: vec![
                    Segment { address: 0x8020_0000, offset: 0, len: 3000 },
                    Segment { address: 0x8800_0000, offset: 3000, len: 1096 },
                ],
                initrd: Some(InitrdRange { address: 0x8800_0000, len: 1096 }),
                device_tree: RAM_BASE + memory - DEVICE_TREE_SLOT,
                weight: 200,
                cap: Some(50),
                disks: vec![
                    DiskConfig {
                        source: DiskSource::Host {
                            serial: "linux-0".into(),
                            partition: Some(Partition::Name("root".into())),
                        },
                        readonly: false,
                        snapshot: false,
                        serial: "root".into(),
                    },
                    DiskConfig {
                        source: DiskSource::Image { offset: 4096, len: 1024 },
                        readonly: true,
                        snapshot: false,
                        serial: "linux-1".into(),
                    },
                ],
                nets: vec![NetConfig {
                    attach: Attach::Switch(0),
                    mac: Mac([2, 0, 0, 0, 0, 2]),
                    rate: Some(1 << 20),
                }],
                console: ConsoleConfig::Virtio,
                virtio: VirtioTransport::Legacy,
                on_stop: OnStop::Restart,
                max_restart_delay: 500,
                autostart: false,
                switches: Switches { exact: true, ..Switches::default() },
                ..VmConfig::default()
            }],
        }
    }

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    /// The bytes as a boot loader leaves them in memory; a part word at the end is dropped.
    fn as_memory(bytes: &[u8]) -> Vec<u64> {
        bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    }

    /// A bundle without a payload that has these bytes for a manifest, and a good CRC.
    fn forged(encoded: &[u8]) -> Vec<u8> {
        let header_len = FIXED_WORDS as u64 * 8 + encoded.len() as u64;
        let fixed = Fixed { header_len, total_len: 4096, payload_len: 0, sums: Sums::default(), window: 0 };
        let words = fixed.words().into_iter().chain([fixed.crc(encoded)]);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.extend(encoded);
        bytes.resize(4096, 0);
        bytes
    }

    #[test]
    fn what_is_written_is_read_back() {
        for len in [20_480, 20_481, 20_487, 70_000] {
            let memory = as_memory(&write(&linux_like(), &payload(len)).unwrap());
            let (manifest, words) = read(&memory).unwrap();
            assert_eq!(manifest, linux_like());
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            assert_eq!(bytes[..len], payload(len));
            assert!(bytes.len() - len < 8 && bytes[len..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn the_payload_starts_on_a_page() {
        let bytes = write(&linux_like(), &payload(PAYLOAD as usize)).unwrap();
        assert_eq!(bytes.len() as u64, 4096 + PAYLOAD);
        assert_eq!(bytes[4096..], payload(PAYLOAD as usize));
    }

    #[test]
    fn memory_after_the_bundle_is_ignored() {
        let mut memory = as_memory(&write(&linux_like(), &payload(PAYLOAD as usize)).unwrap());
        memory.extend([u64::MAX; 100]);
        assert_eq!(read(&memory).unwrap().0, linux_like());
    }

    #[test]
    fn every_cut_is_noticed() {
        let memory = as_memory(&write(&linux_like(), &payload(PAYLOAD as usize)).unwrap());
        for words in 0..memory.len() {
            assert!(matches!(read(&memory[..words]), Err(FormatError::Truncated { .. })), "{words} words");
        }
    }

    #[test]
    fn other_files_and_other_versions_are_told_apart() {
        assert_eq!(read(&[0; 600]), Err(FormatError::Magic));
        let mut memory = as_memory(&write(&linux_like(), &payload(PAYLOAD as usize)).unwrap());
        memory[1] = 99u64.to_le();
        assert_eq!(read(&memory), Err(FormatError::Version(99)));
    }

    #[test]
    fn a_swapped_pair_of_payload_words_is_noticed() {
        let mut memory = as_memory(&write(&linux_like(), &payload(PAYLOAD as usize)).unwrap());
        memory.swap(600, 601);
        assert_eq!(read(&memory), Err(FormatError::Payload));
    }

    #[test]
    fn a_manifest_that_breaks_a_rule_is_neither_written_nor_read() {
        let mut wrong = linux_like();
        wrong.vms[0].vcpus = 0;
        assert!(matches!(write(&wrong, &payload(PAYLOAD as usize)), Err(FormatError::Manifest(_))));

        let encoded = postcard::to_allocvec(&wrong).unwrap();
        assert!(matches!(read(&as_memory(&forged(&encoded))), Err(FormatError::Manifest(_))));
    }

    #[test]
    fn the_crc_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789".iter().copied()), 0xcbf4_3926);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_before_the_end_is_always_noticed(bit in 0usize..(4096 + PAYLOAD as usize) * 8) {
            let mut bytes = write(&linux_like(), &payload(PAYLOAD as usize)).unwrap();
            let header_len = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
            // The zeros between manifest and payload carry nothing.
            prop_assume!(!(header_len..4096).contains(&(bit / 8)));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&as_memory(&bytes)).is_err());
        }

        #[test]
        fn any_words_behind_a_good_start_are_survived(
            lengths in prop::array::uniform6(prop_oneof![0u64..10_000, any::<u64>()]),
            rest in prop::collection::vec(any::<u64>(), 0..1200),
        ) {
            let mut memory = vec![MAGIC.to_le(), VERSION.to_le()];
            memory.extend(lengths);
            memory.extend(rest);
            prop_assert!(read(&memory).is_err());
        }

        #[test]
        fn any_bytes_as_a_manifest_are_survived(encoded in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(read(&as_memory(&forged(&encoded))).is_err());
        }
    }
}
