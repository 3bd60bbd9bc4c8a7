//! Sectors that were written and are kept in RAM: a bounded hash table of clusters, each with a bit for every sector that
//! it has. Nothing is allocated after it is made.

use crate::SECTOR;

/// Words in a sector.
pub const SECTOR_WORDS: usize = SECTOR as usize / 8;
/// Sectors in a cluster: a page.
const CLUSTER: u64 = 8;
const CLUSTER_WORDS: usize = CLUSTER as usize * SECTOR_WORDS;
/// Words of a cluster's data and of its part of the index, which has two to four entries of two words for each.
const WORDS_PER_CLUSTER: usize = CLUSTER_WORDS + 8;

/// There is no room for another cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Written sectors. By default there is no room for any.
#[derive(Default, Debug)]
pub struct Overlay {
    /// A power of two of entries.
    index: &'static mut [Entry],
    data: &'static mut [u64],
    used: usize,
    /// An odd number that guests do not know, so that no guest can choose sectors that meet in the index.
    seed: u64,
}

/// An entry of the index: the cluster's number plus 1, or 0; and its place, below a bit for each sector that is there.
type Entry = [u64; 2];

const HAS_SHIFT: u32 = 56;

impl Overlay {
    /// Words of memory for an overlay that has room for `sectors` sectors in whole clusters.
    pub const fn words_for(sectors: u64) -> usize {
        sectors.div_ceil(CLUSTER) as usize * WORDS_PER_CLUSTER
    }

    /// An overlay in this memory, with the room of `words_for`, and a random number.
    pub fn new(memory: &'static mut [u64], random: u64) -> Self {
        let clusters = memory.len() / WORDS_PER_CLUSTER;
        let entries = if clusters == 0 { 0 } else { (2 * clusters).next_power_of_two() };
        let (index, data) = memory.split_at_mut(2 * entries);
        let (index, _) = index.as_chunks_mut::<2>();
        index.fill([0; 2]);
        let room = data.len().min(clusters * CLUSTER_WORDS);
        Self { index, data: data.get_mut(..room).unwrap_or_default(), used: 0, seed: random | 1 }
    }

    /// Bytes that are used and that there are.
    pub fn usage(&self) -> (u64, u64) {
        let cluster = CLUSTER * SECTOR;
        (self.used as u64 * cluster, (self.data.len() / CLUSTER_WORDS) as u64 * cluster)
    }

    /// The sector, if it was written.
    pub fn read(&self, sector: u64) -> Option<&[u64; SECTOR_WORDS]> {
        let [key, value] = *self.index.get(self.find(sector / CLUSTER)?)?;
        let has = key != 0 && value >> (HAS_SHIFT as u64 + sector % CLUSTER) & 1 != 0;
        if has { self.data.get(place(value, sector)..)?.first_chunk() } else { None }
    }

    /// Writes a sector.
    pub fn write(&mut self, sector: u64, from: &[u64; SECTOR_WORDS]) -> Result<(), Full> {
        let found = self.find(sector / CLUSTER).ok_or(Full)?;
        let next = (self.used * CLUSTER_WORDS) as u64;
        let has_room = (next as usize) < self.data.len();
        let entry = self.index.get_mut(found).ok_or(Full)?;
        if entry[0] == 0 {
            if !has_room {
                return Err(Full);
            }
            *entry = [sector / CLUSTER + 1, next];
            self.used += 1;
        }
        entry[1] |= 1 << (HAS_SHIFT as u64 + sector % CLUSTER);
        let value = entry[1];
        let to = self.data.get_mut(place(value, sector)..).and_then(|words| words.first_chunk_mut());
        *to.ok_or(Full)? = *from;
        Ok(())
    }

    /// The entry of a cluster, or the free one where it would go. There always is one: the index is never more than
    /// half full.
    fn find(&self, cluster: u64) -> Option<usize> {
        let mask = self.index.len().checked_sub(1)?;
        let hash = (cluster ^ cluster >> 32).wrapping_mul(self.seed);
        let first = (hash ^ hash >> 29) as usize;
        (0..self.index.len()).map(|step| first.wrapping_add(step) & mask).find(|place| {
            let key = self.index.get(*place).map_or(0, |entry| entry[0]);
            key == 0 || key == cluster + 1
        })
    }
}

/// Where a sector is in the data, by its cluster's value.
fn place(value: u64, sector: u64) -> usize {
    (value & ((1 << HAS_SHIFT) - 1)) as usize + (sector % CLUSTER) as usize * SECTOR_WORDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use proptest::prelude::*;

    fn overlay(sectors: u64) -> Overlay {
        // Memory comes with anything in it.
        Overlay::new(vec![0xdead_beef; Overlay::words_for(sectors)].leak(), 0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn what_was_not_written_is_not_there() {
        let mut overlay = overlay(64);
        assert_eq!(overlay.read(0), None);
        overlay.write(8, &[7; SECTOR_WORDS]).unwrap();
        assert_eq!(overlay.read(8), Some(&[7; SECTOR_WORDS]));
        assert_eq!(overlay.read(9), None);
        assert_eq!(overlay.usage(), (4096, 64 * SECTOR));
    }

    #[test]
    fn a_full_overlay_takes_no_other_cluster_but_its_own() {
        let mut overlay = overlay(16);
        overlay.write(0, &[1; SECTOR_WORDS]).unwrap();
        overlay.write(1 << 40, &[2; SECTOR_WORDS]).unwrap();
        assert_eq!(overlay.write(100, &[3; SECTOR_WORDS]), Err(Full));
        overlay.write(1, &[4; SECTOR_WORDS]).unwrap();
        assert_eq!(overlay.read(1), Some(&[4; SECTOR_WORDS]));
        assert_eq!(overlay.read(100), None);
    }

    #[test]
    fn an_overlay_without_memory_is_full() {
        let mut overlay = Overlay::new(&mut [], 1);
        assert_eq!(overlay.read(0), None);
        assert_eq!(overlay.write(0, &[1; SECTOR_WORDS]), Err(Full));
    }

    proptest! {
        #[test]
        fn an_overlay_is_a_map(writes in prop::collection::vec((0u64..200, any::<u64>()), 0..200), seed: u64) {
            let mut overlay = Overlay::new(vec![seed; Overlay::words_for(96)].leak(), seed);
            let mut model = BTreeMap::new();
            let mut clusters = alloc::collections::BTreeSet::new();
            for (sector, value) in writes {
                let fits = clusters.contains(&(sector / CLUSTER)) || clusters.len() < 12;
                prop_assert_eq!(overlay.write(sector, &[value; SECTOR_WORDS]).is_ok(), fits);
                if fits {
                    clusters.insert(sector / CLUSTER);
                    model.insert(sector, value);
                }
            }
            for sector in 0..200 {
                let expected = model.get(&sector).map(|value| [*value; SECTOR_WORDS]);
                prop_assert_eq!(overlay.read(sector).copied(), expected);
            }
        }
    }
}
