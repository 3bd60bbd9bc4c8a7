//! Lists of pieces of guest RAM, as a driver lends them to a device.

use memory::{GuestPhysAddr, GuestRam};

use super::broken::Broken;

/// A piece of guest RAM. All of it was RAM when the device got it, and RAM does not go away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its first byte.
    pub address: GuestPhysAddr,
    /// Bytes; not 0.
    pub len: u32,
}

/// Bytes in all segments together.
pub(crate) fn total(segments: &[Segment]) -> u64 {
    segments.iter().fold(0, |sum, segment| sum + u64::from(segment.len))
}

/// Copies to `into` what begins `skip` bytes into the segments, as far as both reach. Says how many bytes.
pub(crate) fn gather(
    ram: &GuestRam,
    segments: &[Segment],
    skip: u64,
    into: &mut [u8],
) -> Result<usize, Broken> {
    let mut done = 0;
    for piece in pieces(segments, skip) {
        let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) else { break };
        let count = rest.len().min(piece.len as usize);
        let (to, _) = rest.split_at_mut(count);
        ram.read(piece.address, to).map_err(|_| Broken)?;
        done += count;
    }
    Ok(done)
}

/// Copies `from` to what begins `skip` bytes into the segments, as far as both reach. Says how many bytes.
pub(crate) fn scatter(ram: &GuestRam, segments: &[Segment], skip: u64, from: &[u8]) -> Result<usize, Broken> {
    let mut done = 0;
    for piece in pieces(segments, skip) {
        let Some(rest) = from.get(done..).filter(|rest| !rest.is_empty()) else { break };
        let count = rest.len().min(piece.len as usize);
        let (bytes, _) = rest.split_at(count);
        ram.device_write(piece.address, bytes).map_err(|_| Broken)?;
        done += count;
    }
    Ok(done)
}

/// The segments without their first `skip` bytes.
fn pieces(segments: &[Segment], skip: u64) -> impl Iterator<Item = Segment> + '_ {
    segments.iter().scan(skip, |skip, segment| {
        let cut = u64::from(segment.len).min(*skip);
        *skip -= cut;
        Some(Segment { address: segment.address.wrapping_add(cut), len: segment.len - cut as u32 })
    })
}
