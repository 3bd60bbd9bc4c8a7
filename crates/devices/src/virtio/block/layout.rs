//! The block device's numbers and its configuration (virtio 1.2, "Device configuration layout").

use super::Disk;
use crate::virtio::queue::MAX_SIZE;

pub(crate) const DEVICE_ID: u32 = 2;

/// The most buffers of one request: a chain without its header and its status.
pub const MAX_SEGMENTS: u32 = MAX_SIZE as u32 - 2;
/// The most sectors that one discard or write of zeroes names: 1 GiB.
pub const MAX_DISCARD_SECTORS: u32 = 1 << 21;

pub(crate) mod feature {
    pub(crate) const SEG_MAX: u64 = 1 << 2;
    pub(crate) const RO: u64 = 1 << 5;
    pub(crate) const BLK_SIZE: u64 = 1 << 6;
    pub(crate) const FLUSH: u64 = 1 << 9;
    pub(crate) const DISCARD: u64 = 1 << 13;
    pub(crate) const WRITE_ZEROES: u64 = 1 << 14;
}

/// Types of requests.
pub(crate) mod request {
    pub(crate) const IN: u32 = 0;
    pub(crate) const OUT: u32 = 1;
    pub(crate) const FLUSH: u32 = 4;
    pub(crate) const GET_ID: u32 = 8;
    pub(crate) const DISCARD: u32 = 11;
    pub(crate) const WRITE_ZEROES: u32 = 13;
}

/// What the last byte of a chain says.
pub(crate) mod status {
    pub(crate) const OK: u8 = 0;
    pub(crate) const IO_ERROR: u8 = 1;
    pub(crate) const UNSUPPORTED: u8 = 2;
}

pub(super) const fn features(disk: &Disk) -> u64 {
    let mut features = feature::SEG_MAX | feature::BLK_SIZE | feature::FLUSH;
    if disk.read_only {
        return features | feature::RO;
    }
    if disk.discard {
        features |= feature::DISCARD;
    }
    if disk.write_zeroes {
        features |= feature::WRITE_ZEROES;
    }
    features
}

/// `struct virtio_blk_config` up to `write_zeroes_may_unmap`.
pub(super) fn config(disk: &Disk) -> [u8; 60] {
    let mut config = [0; 60];
    let mut put = |offset: usize, bytes: &[u8]| {
        for (place, byte) in config.iter_mut().skip(offset).zip(bytes) {
            *place = *byte;
        }
    };
    put(0, &disk.sectors.to_le_bytes());
    put(12, &MAX_SEGMENTS.to_le_bytes());
    put(20, &(super::SECTOR as u32).to_le_bytes());
    // num_queues
    put(34, &1u16.to_le_bytes());
    if disk.discard {
        put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
        // Segments of a discard, and the alignment that it should have, in sectors.
        put(40, &1u32.to_le_bytes());
        put(44, &1u32.to_le_bytes());
    }
    if disk.write_zeroes {
        put(48, &MAX_DISCARD_SECTORS.to_le_bytes());
        put(52, &1u32.to_le_bytes());
        put(56, &[u8::from(disk.discard)]);
    }
    config
}
