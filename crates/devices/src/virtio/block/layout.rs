//! The block device's numbers and its configuration (virtio 1.2, "Device configuration layout").

use super::disk::{Disk, SECTOR};

pub(crate) const DEVICE_ID: u32 = 2;

/// Descriptors of its queue where the driver asks for no other number, as on QEMU.
pub(crate) const QUEUE_SIZE: u16 = 256;
/// The most buffers that a driver is told to make a request of: a queue's without header and status.
pub(super) const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
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

/// Types of requests, without what `FLAGS` has.
pub(crate) mod request {
    pub(crate) const IN: u32 = 0;
    pub(crate) const FLUSH: u32 = 4;
    pub(crate) const GET_ID: u32 = 8;
    pub(crate) const DISCARD: u32 = 10;
    pub(crate) const WRITE_ZEROES: u32 = 12;

    /// Set where data goes to the device.
    pub(crate) const OUT: u32 = 1;
    /// "Legacy interface": requests before this one come first. What was acknowledged has come first already.
    pub(crate) const BARRIER: u32 = 1 << 31;
    /// What QEMU leaves out when it looks for a request's type.
    pub(crate) const FLAGS: u32 = OUT | BARRIER;
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
    put(12, &SEG_MAX.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
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
