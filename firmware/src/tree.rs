//! The device tree, as far as the firmware needs it: reads where RAM is and which harts there are, and adds the
//! range that the firmware keeps for itself, so that the next stage leaves it alone.
//!
//! The tree grows in place, where QEMU has put it; who calls says how far. Devices are at fixed places in QEMU's
//! `virt` and are not looked up.

use crate::harts::HartSet;
use core::ops::Range;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};

/// By how much a tree may grow: the new node, and free space at the end, since a next stage like U-Boot adds to its
/// tree in place.
pub const GROWTH: usize = 4096;

/// Fields of the header, by their offset. Devicetree spec 0.4, "Flattened Devicetree Header".
const TOTAL_SIZE: usize = 4;
const STRUCTURE: usize = 8;
const STRINGS: usize = 12;
const RESERVATIONS: usize = 16;
const STRINGS_SIZE: usize = 32;
const STRUCTURE_SIZE: usize = 36;

/// Tokens of the structure block.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;

/// The node in which reserved ranges are.
const RESERVED: &[u8] = b"reserved-memory";

/// What the firmware wants to know of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The range of RAM that the firmware itself lies in.
    pub ram: Range<u64>,
    /// The harts that may be started.
    pub harts: HartSet,
}

/// The size of the tree that begins with these eight bytes; none where it is no tree.
pub fn size(head: [u8; 8]) -> Option<usize> {
    let (magic, size) = (word(&head, 0)?, word(&head, 4)?);
    (magic == 0xd00d_feed).then_some(size as usize)
}

/// Reads a tree. None where it is damaged or has no RAM at `own`.
pub fn read(tree: &[u8], own: u64) -> Option<Machine> {
    let fdt = Fdt::new(tree).ok()?;
    let string = |property: Option<dtoolkit::fdt::FdtProperty<'_>>, value: &str| {
        property.is_some_and(|property| property.value_as().ok() == Some(value))
    };
    let banks = fdt.root().children().filter(|node| string(node.property("device_type"), "memory"));
    let mut ranges = banks.filter_map(|node| node.reg().ok()?).flatten().filter_map(|reg| {
        let start: u64 = reg.address().ok()?;
        Some(start..start.checked_add(reg.size().ok()?)?)
    });
    let ram = ranges.find(|range| range.contains(&own))?;
    let cpus = fdt.root().child("cpus")?;
    let harts = cpus.children().filter(|node| string(node.property("device_type"), "cpu"));
    let ids = harts.filter_map(|node| node.reg().ok()??.next()?.address::<u64>().ok());
    let harts = ids.fold(HartSet::default(), |set, id| set.with(usize::try_from(id).unwrap_or(usize::MAX)));
    Some(Machine { ram, harts })
}

/// Adds `range` as a node `name` to the memory that the tree at the start of `buffer` reserves, and free space up to
/// the end of the buffer. None, and nothing is changed, where it does not fit or the tree is not as QEMU's.
pub fn reserve(buffer: &mut [u8], name: &[u8], range: &Range<u64>) -> Option<()> {
    let total = word(buffer, TOTAL_SIZE)? as usize;
    Fdt::new(buffer.get(..total)?).ok()?;
    let names = Names::find(buffer)?;
    let place = Place::find(buffer)?;
    let mut node = Words::default();
    if !place.in_reserved {
        node.begin(RESERVED)?;
        node.property(names.address_cells, &[2])?;
        node.property(names.size_cells, &[2])?;
        node.property(names.ranges, &[])?;
    }
    let size = range.end.checked_sub(range.start)?;
    let halves = [range.start, size].map(|number| [(number >> 32) as u32, number as u32]);
    node.begin(name)?;
    node.property(names.reg, halves.as_flattened())?;
    node.push(END_NODE)?;
    if !place.in_reserved {
        node.push(END_NODE)?;
    }
    // The reservation block stays aligned to 8 bytes where it lies behind.
    if node.len % 2 != 0 {
        node.push(NOP)?;
    }
    let added = node.len * 4;
    let grown = total.checked_add(added).filter(|&grown| grown <= buffer.len())?;
    buffer.copy_within(place.at..total, place.at + added);
    for (at, value) in (place.at..).step_by(4).zip(&node.words[..node.len]) {
        put(buffer, at, *value)?;
    }
    for field in [STRINGS, RESERVATIONS] {
        let offset = word(buffer, field)?;
        if offset as usize >= place.at {
            put(buffer, field, offset + added as u32)?;
        }
    }
    let structure = word(buffer, STRUCTURE_SIZE)?;
    put(buffer, STRUCTURE_SIZE, structure + added as u32)?;
    buffer[grown..].fill(0);
    let whole = u32::try_from(buffer.len()).ok()?;
    put(buffer, TOTAL_SIZE, whole)
}

/// Offsets of names in the strings block. Any tree with a bus has them all, so that block need not grow.
struct Names {
    address_cells: u32,
    size_cells: u32,
    ranges: u32,
    reg: u32,
}

impl Names {
    fn find(tree: &[u8]) -> Option<Self> {
        let start = word(tree, STRINGS)? as usize;
        let strings = tree.get(start..start.checked_add(word(tree, STRINGS_SIZE)? as usize)?)?;
        // A name may as well be the end of a longer one.
        let find = |name: &[u8]| {
            let at = strings.windows(name.len()).position(|window| window == name)?;
            u32::try_from(at).ok()
        };
        Some(Self {
            address_cells: find(b"#address-cells\0")?,
            size_cells: find(b"#size-cells\0")?,
            ranges: find(b"ranges\0")?,
            reg: find(b"reg\0")?,
        })
    }
}

/// Where the new node goes: in front of the end of the node that it becomes a child of.
struct Place {
    at: usize,
    /// Whether that is `/reserved-memory`; otherwise it is the root.
    in_reserved: bool,
}

impl Place {
    fn find(tree: &[u8]) -> Option<Self> {
        let mut at = word(tree, STRUCTURE)? as usize;
        let (mut depth, mut in_reserved) = (0, false);
        loop {
            match word(tree, at)? {
                BEGIN_NODE => {
                    let name = tree.get(at + 4..)?;
                    let name = &name[..name.iter().position(|&byte| byte == 0)?];
                    in_reserved |= depth == 1 && name == RESERVED;
                    depth += 1;
                    at += 4 + (name.len() + 1).next_multiple_of(4);
                }
                END_NODE if depth == 1 || (depth == 2 && in_reserved) => {
                    return Some(Self { at, in_reserved });
                }
                END_NODE => {
                    depth -= 1;
                    at += 4;
                }
                PROPERTY => at += 12 + (word(tree, at + 4)? as usize).next_multiple_of(4),
                NOP => at += 4,
                _ => return None,
            }
        }
    }
}

/// Words of a structure block.
#[derive(Default)]
struct Words {
    words: [u32; 32],
    len: usize,
}

impl Words {
    fn push(&mut self, word: u32) -> Option<()> {
        *self.words.get_mut(self.len)? = word;
        self.len += 1;
        Some(())
    }

    fn begin(&mut self, name: &[u8]) -> Option<()> {
        self.push(BEGIN_NODE)?;
        // One zero at least ends the name.
        for at in (0..=name.len()).step_by(4) {
            let byte = |index: usize| name.get(at + index).copied().unwrap_or(0);
            self.push(u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)]))?;
        }
        Some(())
    }

    fn property(&mut self, name: u32, cells: &[u32]) -> Option<()> {
        [PROPERTY, cells.len() as u32 * 4, name].iter().chain(cells).try_for_each(|&word| self.push(word))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&word| u32::from_be_bytes(word))
}

fn put(bytes: &mut [u8], at: usize, value: u32) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeNodeBuilder, DeviceTreeProperty};
    use std::vec::Vec;

    const NAME: &[u8] = b"firmware@80000000";
    const OWN: Range<u64> = 0x8000_0000..0x8008_0000;

    fn property(name: &str, value: &[u8]) -> DeviceTreeProperty {
        DeviceTreeProperty::new(name, value).unwrap()
    }

    fn node(name: &str) -> DeviceTreeNodeBuilder {
        DeviceTreeNode::builder(name).unwrap()
    }

    fn cells(name: &str, cells: &[u32]) -> DeviceTreeProperty {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        property(name, &bytes)
    }

    /// A machine with 256 MiB of RAM and harts 0 and 3.
    fn tree(more: Option<DeviceTreeNode>) -> Vec<u8> {
        let cpu = |id: u32| {
            node(&std::format!("cpu@{id}"))
                .property(property("device_type", b"cpu\0"))
                .property(cells("reg", &[id]))
        };
        let cpus = node("cpus")
            .property(cells("#address-cells", &[1]))
            .property(cells("#size-cells", &[0]))
            .child(cpu(0).build())
            .child(cpu(3).build());
        let memory = node("memory@80000000")
            .property(property("device_type", b"memory\0"))
            .property(cells("reg", &[0, 0x8000_0000, 0, 0x1000_0000]));
        let bus = node("soc").property(property("ranges", b""));
        let mut root = node("")
            .property(cells("#address-cells", &[2]))
            .property(cells("#size-cells", &[2]))
            .child(cpus.build())
            .child(memory.build())
            .child(bus.build());
        if let Some(more) = more {
            root = root.child(more);
        }
        let mut tree = DeviceTree::new();
        tree.root = root.build();
        tree.to_dtb()
    }

    fn reserved(tree: &[u8]) -> Vec<(u64, u64)> {
        let fdt = Fdt::new(tree).unwrap();
        let nodes = fdt.reserved_memory().unwrap();
        let ranges = nodes.flat_map(|node| node.reg().unwrap().unwrap());
        ranges.map(|reg| (reg.address().unwrap(), reg.size().unwrap())).collect()
    }

    #[test]
    fn ram_and_harts_are_read() {
        let machine = read(&tree(None), OWN.start).unwrap();
        assert_eq!(machine.ram, 0x8000_0000..0x9000_0000);
        assert_eq!(machine.harts, HartSet(0b1001));
        assert_eq!(read(&tree(None), 0x4000_0000), None);
        assert_eq!(read(&tree(None)[..100], OWN.start), None);
    }

    #[test]
    fn the_size_is_read_where_there_is_a_tree() {
        let tree = tree(None);
        assert_eq!(size(*tree.first_chunk().unwrap()), Some(tree.len()));
        assert_eq!(size([0; 8]), None);
    }

    #[test]
    fn the_range_is_reserved_in_a_node_of_its_own() {
        let mut buffer = tree(None);
        let before = read(&buffer, OWN.start);
        buffer.resize(buffer.len() + GROWTH, 0xff);
        reserve(&mut buffer, NAME, &OWN).unwrap();
        assert_eq!(size(*buffer.first_chunk().unwrap()), Some(buffer.len()));
        assert_eq!(reserved(&buffer), [(OWN.start, 0x8_0000)]);
        assert_eq!(read(&buffer, OWN.start), before, "the rest is as it was");
    }

    #[test]
    fn the_range_joins_those_that_are_reserved() {
        let other = node("other@88000000").property(cells("reg", &[0, 0x8800_0000, 0, 0x1000]));
        let reserved_memory = node("reserved-memory")
            .property(cells("#address-cells", &[2]))
            .property(cells("#size-cells", &[2]))
            .property(property("ranges", b""))
            .child(other.build());
        let mut buffer = tree(Some(reserved_memory.build()));
        buffer.resize(buffer.len() + GROWTH, 0);
        reserve(&mut buffer, NAME, &OWN).unwrap();
        assert_eq!(reserved(&buffer), [(0x8800_0000, 0x1000), (OWN.start, 0x8_0000)]);
    }

    #[test]
    fn a_tree_without_room_or_without_sense_stays_as_it_is() {
        let mut full = tree(None);
        let before = full.clone();
        assert_eq!(reserve(&mut full, NAME, &OWN), None);
        assert_eq!(full, before);
        assert_eq!(reserve(&mut [0; 64], NAME, &OWN), None);
    }
}
