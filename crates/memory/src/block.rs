//! The state of a block of RAM in one atomic word: whether it is filled in, and how many of its pages are guarded or have a
//! copy. 0 is a plain block, of which the fast path maps any page as it is. All of it is in one word because a block that one
//! hart sees filled in and another one sees without guarded pages need not be both at one time: *plain-block*.

use sync::atomic::{AtomicU16, Ordering};

/// A block's state. The assembly reads it as a number of 16 bits.
#[derive(Debug)]
#[repr(transparent)]
pub struct Block(AtomicU16);

/// Set until the block is filled in.
const EMPTY: u16 = 1;
/// Set while a hart fills it in.
const FILLING: u16 = 1 << 1;
/// A page that is counted. A page counts at most three times, so 512 pages need 11 bits.
const PAGE: u16 = 1 << 2;

impl Block {
    /// A block that is not filled in, none of whose pages counts.
    pub(crate) fn new() -> Self {
        Self(AtomicU16::new(EMPTY))
    }

    /// Whether it is filled in, and no page of it has a copy or is guarded.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// Whether it is filled in.
    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.0.load(Ordering::Acquire) & EMPTY == 0
    }

    /// Whether any of its pages counts.
    #[inline]
    pub(crate) fn has_pages(&self) -> bool {
        self.0.load(Ordering::Acquire) >= PAGE
    }

    /// Begins to fill it in; says whether the caller is the one to do so.
    pub(crate) fn begin_filling(&self) -> bool {
        let begin = |state| (state & (EMPTY | FILLING) == EMPTY).then_some(state | FILLING);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, begin).is_ok()
    }

    /// Shows what the caller has filled in.
    pub(crate) fn end_filling(&self) {
        self.0.fetch_and(!(EMPTY | FILLING), Ordering::AcqRel);
    }

    /// Makes it a block that is not filled in. No hart may use it meanwhile.
    pub(crate) fn forget(&self) {
        self.0.fetch_or(EMPTY, Ordering::AcqRel);
    }

    /// Counts a page.
    pub(crate) fn add_page(&self) {
        self.0.fetch_add(PAGE, Ordering::AcqRel);
    }

    /// Counts `pages` fewer pages; says whether none is left.
    pub(crate) fn remove_pages(&self, pages: u16) -> bool {
        self.0.fetch_sub(pages * PAGE, Ordering::AcqRel) < (pages + 1) * PAGE
    }
}
