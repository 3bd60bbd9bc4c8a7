//! Whether the guests' disks may lie on the host's disks as they are asked for.

use crate::gpt::Range;

/// A guest's disk on a host disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attachment {
    /// The host disk.
    pub host: usize,
    /// Where on it.
    pub range: Range,
    /// Whether writes go to the host disk.
    pub writes: bool,
}

/// Two of them of which one writes what the other uses, by their places in `all`.
pub fn conflict(all: &[Attachment]) -> Option<(usize, usize)> {
    let clash = |a: &Attachment, b: &Attachment| {
        let overlap = a.range.first < b.range.first.saturating_add(b.range.count)
            && b.range.first < a.range.first.saturating_add(a.range.count);
        a.host == b.host && overlap && (a.writes || b.writes)
    };
    all.iter().enumerate().find_map(|(second, b)| {
        let first = all.iter().take(second).position(|a| clash(a, b))?;
        Some((first, second))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: usize, first: u64, count: u64, writes: bool) -> Attachment {
        Attachment { host, range: Range { first, count }, writes }
    }

    #[test]
    fn partitions_and_readers_share_a_disk() {
        assert_eq!(conflict(&[at(0, 0, 10, true), at(0, 10, 10, true), at(1, 0, 10, true)]), None);
        assert_eq!(conflict(&[at(0, 0, 10, false), at(0, 5, 10, false)]), None);
    }

    #[test]
    fn what_one_writes_nobody_else_uses() {
        assert_eq!(conflict(&[at(1, 0, 5, true), at(0, 0, 10, true), at(0, 9, 10, true)]), Some((1, 2)));
        assert_eq!(conflict(&[at(0, 0, 10, false), at(0, 9, 10, true)]), Some((0, 1)));
    }
}
