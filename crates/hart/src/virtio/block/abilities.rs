//! What a disk can do: its features and its configuration space ("Device configuration layout").

use virtio_drivers::transport::Transport;
use virtio_drivers::transport::mmio::MmioTransport;

/// Bytes in a sector, the unit of all positions and capacities.
pub const SECTOR: u64 = 512;
/// Pieces of memory that a request may have.
pub const MAX_SEGMENTS: usize = 32;

bitflags::bitflags! {
    /// Feature bits that we know what to do with. Without the event index, for the crate's comparison of indices
    /// forgets to wrap, and would lose a notification every 65,536 requests.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Features: u64 {
        const SIZE_MAX = 1 << 1;
        const SEG_MAX = 1 << 2;
        const READ_ONLY = 1 << 5;
        const BLOCK_SIZE = 1 << 6;
        const FLUSH = 1 << 9;
        const DISCARD = 1 << 13;
        const WRITE_ZEROES = 1 << 14;
        const VERSION_1 = 1 << 32;
    }
}

/// Offsets in the configuration space.
mod config {
    pub const CAPACITY: usize = 0;
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const BLOCK_SIZE: usize = 20;
    pub const MAX_DISCARD_SECTORS: usize = 36;
    pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
}

/// What a disk can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// Sectors.
    pub capacity: u64,
    /// Bytes of a block: what positions and lengths have to be multiples of.
    pub block_size: u32,
    /// Whether writes fail.
    pub readonly: bool,
    /// Whether written data needs a flush to be safe.
    pub flush: bool,
    /// Pieces of memory in a request, at most `MAX_SEGMENTS`, and bytes in a piece.
    pub segments: usize,
    /// See `segments`.
    pub segment_size: u32,
    /// Sectors in a discard; 0 where the disk has none.
    pub discard: u32,
    /// Sectors in a write-zeroes; 0 where the disk has none.
    pub write_zeroes: u32,
}

pub(super) fn read_abilities(transport: &MmioTransport, features: Features) -> Option<Abilities> {
    let word = |offset: usize| transport.read_config_space::<u32>(offset).ok();
    let optional =
        |feature: Features, offset: usize| if features.contains(feature) { word(offset) } else { Some(0) };
    let capacity = transport
        .read_consistent(|| {
            let low: u32 = transport.read_config_space(config::CAPACITY)?;
            let high: u32 = transport.read_config_space(config::CAPACITY + 4)?;
            Ok(u64::from(high) << 32 | u64::from(low))
        })
        .ok()?;
    // Without a limit, one segment is all that a device promises; but then there is none that has fewer than our queue.
    let seg_max = optional(Features::SEG_MAX, config::SEG_MAX)?;
    let size_max = optional(Features::SIZE_MAX, config::SIZE_MAX)?;
    let block_size = optional(Features::BLOCK_SIZE, config::BLOCK_SIZE)?;
    let unlimited = |value: u32, limit: u32| if value == 0 { limit } else { value.min(limit) };
    Some(Abilities {
        capacity,
        block_size: if block_size == 0 { SECTOR as u32 } else { block_size },
        readonly: features.contains(Features::READ_ONLY),
        flush: features.contains(Features::FLUSH),
        segments: unlimited(seg_max, MAX_SEGMENTS as u32) as usize,
        // Whole sectors, so that a long piece can be cut.
        segment_size: unlimited(size_max, 1 << 30) / SECTOR as u32 * SECTOR as u32,
        discard: optional(Features::DISCARD, config::MAX_DISCARD_SECTORS)?,
        write_zeroes: optional(Features::WRITE_ZEROES, config::MAX_WRITE_ZEROES_SECTORS)?,
    })
}
