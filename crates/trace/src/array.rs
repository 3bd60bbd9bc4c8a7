//! Arrays in serde's encodings as sequences: the code for an element is there once, where serde has it as often as there are
//! elements. For `#[serde(with = "trace::array")]`.

use alloc::vec::Vec;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// Writes the elements, with their number.
///
/// # Errors
/// Those of the encoding.
pub fn serialize<S: Serializer, T: Serialize, const N: usize>(
    array: &[T; N],
    to: S,
) -> Result<S::Ok, S::Error> {
    array.as_slice().serialize(to)
}

/// Reads so many elements.
///
/// # Errors
/// Those of the encoding, and where there are more or fewer.
pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>, const N: usize>(
    from: D,
) -> Result<[T; N], D::Error> {
    Vec::deserialize(from)?.try_into().map_err(|_| D::Error::custom("an array of another length"))
}
