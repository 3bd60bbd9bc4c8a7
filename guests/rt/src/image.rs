//! Where the parts of this guest's image lie in memory, as the linker script lays them out. Physical
//! addresses, page-aligned.

use core::ops::Range;

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static __stack_guard: u8;
}

/// Code: to be mapped executable.
pub fn text() -> Range<u64> {
    (&raw const __image_start) as u64..(&raw const __text_end) as u64
}

/// Constants: to be mapped read-only.
pub fn rodata() -> Range<u64> {
    (&raw const __text_end) as u64..(&raw const __rodata_end) as u64
}

/// Data, bss, the guard page and the stack: to be mapped writable but for the guard page, if it is to guard.
pub fn data() -> Range<u64> {
    (&raw const __rodata_end) as u64..(&raw const __image_end) as u64
}

/// The page below the stack, for a guest that wants an overflow to fault.
pub fn stack_guard() -> Range<u64> {
    let start = (&raw const __stack_guard) as u64;
    start..start + 4096
}
