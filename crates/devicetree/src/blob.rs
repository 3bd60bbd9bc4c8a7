//! A flattened device tree as a stream of tokens. Devicetree spec 0.4, chapter 5.
//!
//! Read once from front to back, without a heap and without trust: every offset in the blob is checked where
//! it is used. More lenient than `dtoolkit`, which refuses names of more than 31 characters; real boards'
//! trees have them (`snps,dis-del-phy-power-chg-quirk`). Knows nothing of what a node means.

use crate::error::HostError;

const MAGIC: u32 = 0xd00d_feed;
/// The version whose header this reads; older ones have no size of the structure block.
const VERSION: u32 = 17;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// The blocks of a flattened device tree.
#[derive(Clone, Copy)]
pub(crate) struct Blob<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    reservations: &'a [u8],
}

/// One step through the structure block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token<'a> {
    /// A node begins; its full name, empty for the root.
    Open(&'a [u8]),
    /// A property of the node that began last: name and value.
    Property(&'a [u8], &'a [u8]),
    /// The innermost open node ends.
    Close,
}

/// A place in the structure block.
#[derive(Clone)]
pub(crate) struct Tokens<'a> {
    blob: Blob<'a>,
    at: usize,
    depth: usize,
}

impl<'a> Blob<'a> {
    /// Finds the blocks of the tree at the start of `dtb`, which may be longer than the tree.
    pub(crate) fn new(dtb: &'a [u8]) -> Result<Self, HostError> {
        let field = |index: usize| be32(dtb, index * 4).ok_or(HostError::Truncated);
        if field(0)? != MAGIC {
            return Err(HostError::NotADeviceTree);
        }
        let dtb = dtb.get(..field(1)? as usize).ok_or(HostError::Truncated)?;
        if field(5)? < VERSION || field(6)? > VERSION {
            return Err(HostError::Version);
        }
        let block = |start: u32, size: u32| {
            let start = start as usize;
            let end = start.checked_add(size as usize)?;
            dtb.get(start..end)
        };
        Ok(Self {
            structure: block(field(2)?, field(9)?).ok_or(HostError::Truncated)?,
            strings: block(field(3)?, field(8)?).ok_or(HostError::Truncated)?,
            reservations: dtb.get(field(4)? as usize..).ok_or(HostError::Truncated)?,
        })
    }

    /// All tokens from the root's `Open`.
    pub(crate) fn tokens(self) -> Tokens<'a> {
        Tokens { blob: self, at: 0, depth: 0 }
    }

    /// The memory reservation block: pairs of address and size.
    pub(crate) fn reservations(self) -> impl Iterator<Item = (u64, u64)> + 'a {
        self.reservations
            .chunks_exact(16)
            .map(|entry| (number(&entry[..8]).unwrap_or(0), number(&entry[8..]).unwrap_or(0)))
            .take_while(|&entry| entry != (0, 0))
    }

    /// The place just behind the `Open` of the node at `path`. A component without a unit address matches the
    /// first node of that name.
    pub(crate) fn find(self, path: &[u8]) -> Result<Option<Tokens<'a>>, HostError> {
        let mut wanted = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        let mut tokens = self.tokens();
        // The root matches the empty path; `matched` counts the open nodes that match.
        let mut matched = 0;
        let mut next = Some(&b""[..]);
        while let Some(token) = tokens.read()? {
            match token {
                Token::Open(name)
                    if tokens.depth == matched + 1 && next.is_some_and(|n| is_named(name, n)) =>
                {
                    matched += 1;
                    next = wanted.next();
                    if next.is_none() {
                        return Ok(Some(tokens));
                    }
                }
                // A matching node ended before its next component was found.
                Token::Close if tokens.depth < matched => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The value of property `name` of the node at `path`.
    pub(crate) fn property(self, path: &[u8], name: &[u8]) -> Result<Option<&'a [u8]>, HostError> {
        let Some(mut tokens) = self.find(path)? else { return Ok(None) };
        while let Some(Token::Property(found, value)) = tokens.read()? {
            if found == name {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

impl<'a> Tokens<'a> {
    /// The next token; `None` at the end of the tree.
    pub(crate) fn read(&mut self) -> Result<Option<Token<'a>>, HostError> {
        loop {
            return match self.cell()? {
                NOP => continue,
                BEGIN_NODE => {
                    self.depth += 1;
                    let rest = self.rest();
                    let name = until_nul(rest).ok_or(HostError::Structure)?;
                    self.skip(name.len() + 1)?;
                    Ok(Some(Token::Open(name)))
                }
                END_NODE => {
                    self.depth = self.depth.checked_sub(1).ok_or(HostError::Structure)?;
                    Ok(Some(Token::Close))
                }
                PROP => {
                    let length = self.cell()? as usize;
                    let name = self.cell()? as usize;
                    let value = self.rest().get(..length).ok_or(HostError::Structure)?;
                    let name = self.blob.strings.get(name..).and_then(until_nul);
                    self.skip(length)?;
                    Ok(Some(Token::Property(name.ok_or(HostError::Structure)?, value)))
                }
                END if self.depth == 0 => Ok(None),
                _ => Err(HostError::Structure),
            };
        }
    }

    /// Where the next token begins, in bytes of the structure block.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'a [u8] {
        self.blob.structure.get(self.at..).unwrap_or(&[])
    }

    fn cell(&mut self) -> Result<u32, HostError> {
        let cell = be32(self.blob.structure, self.at).ok_or(HostError::Structure)?;
        self.at += 4;
        Ok(cell)
    }

    /// Moves over `bytes` and the padding to the next cell.
    fn skip(&mut self, bytes: usize) -> Result<(), HostError> {
        let end = self.at.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(4));
        self.at = end.ok_or(HostError::Structure)?;
        Ok(())
    }
}

/// The strings of a string list: what precedes each NUL.
pub(crate) fn strings(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.strip_suffix(b"\0").map(|list| list.split(|&byte| byte == 0)).into_iter().flatten()
}

/// A number of one or two cells.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => be32(value, 0).map(u64::from),
        8 => value.try_into().ok().map(u64::from_be_bytes),
        _ => None,
    }
}

/// The cell at byte `offset`.
pub(crate) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    let cell = bytes.get(offset..offset.checked_add(4)?)?;
    cell.try_into().ok().map(u32::from_be_bytes)
}

fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|&byte| byte == 0).and_then(|end| bytes.get(..end))
}

/// Whether a path's component `wanted` names the node `name`, with or without its unit address.
fn is_named(name: &[u8], wanted: &[u8]) -> bool {
    name == wanted
        || name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&b'@') && !wanted.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;
    use dtoolkit::fdt::{Fdt, FdtNode};
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
    use dtoolkit::{Node, Property};

    const QEMU: &[u8] = include_bytes!("../tests/fixtures/virt-4.dtb");

    fn flatten(node: FdtNode<'_>, into: &mut Vec<String>) {
        into.push(format!("{:?}", Token::Open(node.name().as_bytes())));
        into.extend(
            node.properties().map(|p| format!("{:?}", Token::Property(p.name().as_bytes(), p.value()))),
        );
        node.children().for_each(|child| flatten(child, into));
        into.push(format!("{:?}", Token::Close));
    }

    #[test]
    fn the_tokens_are_what_dtoolkit_finds() {
        let mut expected = Vec::new();
        flatten(Fdt::new(QEMU).unwrap().root(), &mut expected);
        let mut tokens = Blob::new(QEMU).unwrap().tokens();
        let mut found = Vec::new();
        while let Some(token) = tokens.read().unwrap() {
            found.push(format!("{token:?}"));
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn a_path_finds_nodes_with_and_without_unit_addresses() {
        let blob = Blob::new(QEMU).unwrap();
        let compatible = |path: &[u8]| blob.property(path, b"compatible").unwrap();
        assert_eq!(compatible(b"/soc/serial@10000000"), Some(&b"ns16550a\0"[..]));
        assert_eq!(compatible(b"/soc/rtc"), Some(&b"google,goldfish-rtc\0"[..]));
        assert_eq!(compatible(b"/"), Some(&b"riscv-virtio\0"[..]));
        assert_eq!(compatible(b"/soc/seria"), None);
        assert_eq!(compatible(b"/serial@10000000"), None);
        assert_eq!(compatible(b"/soc/serial@10000000/more"), None);
    }

    #[test]
    fn names_longer_than_the_specification_allows_are_read() {
        let long = "snps,dis-del-phy-power-chg-quirk";
        let mut tree = DeviceTree::new();
        let mut usb = DeviceTreeNode::new_unchecked("usb");
        usb.add_property(DeviceTreeProperty::new_unchecked(long, [7u32]));
        tree.root.add_child(usb);
        let dtb = tree.to_dtb();
        let blob = Blob::new(&dtb).unwrap();
        assert_eq!(blob.property(b"/usb", long.as_bytes()), Ok(Some(&[0, 0, 0, 7][..])));
        assert!(Fdt::new(&dtb).is_err());
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = [QEMU, &[0; 64]].concat();
        assert!(Blob::new(&whole).is_ok());
        for length in 0..QEMU.len() {
            assert!(Blob::new(&QEMU[..length]).is_err(), "{length} bytes");
        }
    }
}
