//! The sets that calls are given: of harts, as a mask and its base, and of counters.

use super::call::SbiError;
use crate::machine::Machine;

/// The harts that a mask and its base select. SBI spec, "Hart list parameter".
///
/// # Errors
/// `InvalidParam` where a selected hart does not exist. An empty mask selects none, whatever its base.
pub(super) fn select_harts(machine: &Machine, mask: u64, base: u64) -> Result<u64, SbiError> {
    let all = u64::MAX.checked_shr(64_u32.saturating_sub(machine.links.len() as u32)).unwrap_or(0);
    if base == u64::MAX {
        return Ok(all);
    }
    if mask == 0 {
        return Ok(0);
    }
    let shift = u32::try_from(base).ok().filter(|base| *base < 64).ok_or(SbiError::InvalidParam)?;
    let selected = mask << shift;
    if selected >> shift != mask || selected & !all != 0 {
        return Err(SbiError::InvalidParam);
    }
    Ok(selected)
}

/// The numbers of the bits that are set.
pub(super) fn bits(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |n| mask >> n & 1 != 0)
}
