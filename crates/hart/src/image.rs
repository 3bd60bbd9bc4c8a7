//! Where the image is, as the linker says.

use memory::{Extent, HostPhysAddr, PAGE_SIZE};

macro_rules! linker_symbols {
    ($($(#[$doc:meta])* $function:ident = $symbol:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            fn $function() -> u64 {
                unsafe extern "C" {
                    static $symbol: u8;
                }
                (&raw const $symbol) as u64
            }
        )*
    };
}

linker_symbols! {
    image_start = __image_start,
    text_end = __text_end,
    rodata_end = __rodata_end,
    stack_guard = __stack_guard,
    emergency_guard = __emergency_guard,
    image_end = __image_end,
}

/// The image in memory. While translation is off, addresses are physical.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Its first byte, a multiple of 2 MiB.
    pub(crate) start: HostPhysAddr,
    /// Bytes, with .bss and stacks; a multiple of the page size.
    pub(crate) size: u64,
    /// Offsets of the sections' ends and of the guard pages.
    pub(crate) text_end: u64,
    pub(crate) rodata_end: u64,
    pub(crate) guards: [u64; 2],
}

impl Image {
    /// Where the image is; for the first stage, when addresses are physical.
    pub fn locate() -> Self {
        let start = image_start();
        Self {
            start: HostPhysAddr(start),
            size: (image_end() - start).next_multiple_of(PAGE_SIZE),
            text_end: text_end() - start,
            rodata_end: rodata_end() - start,
            guards: [stack_guard() - start, emergency_guard() - start],
        }
    }
    /// The memory that it takes.
    pub fn extent(&self) -> Extent {
        Extent::new(self.start, self.size)
    }
}
