//! Where the parts of this guest's image lie in memory, as the linker script lays them out. Physical
//! addresses, page-aligned.

use core::ops::Range;

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
}

/// Code: to be mapped executable.
pub fn text() -> Range<u64> {
    (&raw const __image_start) as u64..(&raw const __text_end) as u64
}

/// Constants: to be mapped read-only.
pub fn rodata() -> Range<u64> {
    (&raw const __text_end) as u64..(&raw const __rodata_end) as u64
}

/// Data, bss and the stack: to be mapped writable.
pub fn data() -> Range<u64> {
    (&raw const __rodata_end) as u64..(&raw const __image_end) as u64
}
