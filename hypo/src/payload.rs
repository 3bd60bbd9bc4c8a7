//! The bytes that a bundle's segments and disk images refer to. What several guests start with is there once.

use memory::PAGE_SIZE;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// A payload that grows.
#[derive(Debug, Default)]
pub struct Payload {
    bytes: Vec<u8>,
    /// The places of what may be shared, by hash.
    shared: HashMap<u64, Vec<(usize, usize)>>,
}

impl Payload {
    /// Adds what is only read, and says at what offset it is: where the same bytes are already, or on a page of its own.
    pub fn add(&mut self, data: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        data.hash(&mut hasher);
        let hash = hasher.finish();
        let places = self.shared.get(&hash).map_or(&[][..], Vec::as_slice);
        let same = places.iter().find(|(offset, len)| self.bytes.get(*offset..offset + len) == Some(data));
        if let Some((offset, _)) = same {
            return *offset as u64;
        }
        let offset = self.add_own(data);
        self.shared.entry(hash).or_default().push((offset as usize, data.len()));
        offset
    }

    /// Adds what may be written, on pages that nobody else has, and says at what offset.
    pub fn add_own(&mut self, data: &[u8]) -> u64 {
        let offset = self.bytes.len().next_multiple_of(PAGE_SIZE as usize);
        self.bytes.resize(offset, 0);
        self.bytes.extend_from_slice(data);
        offset as u64
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_there_once_unless_it_may_be_written() {
        let mut payload = Payload::default();
        let first = payload.add(&[1; 5000]);
        assert_eq!(payload.add(&[2; 10]), 8192);
        assert_eq!(payload.add(&[1; 5000]), first);
        let own = payload.add_own(&[1; 5000]);
        assert_eq!(own, 12_288);
        assert_eq!(payload.add(&[1; 5000]), first, "what may be written is not shared");
        assert_eq!(payload.bytes()[own as usize..], [1; 5000]);
    }
}
