//! A bug of the firmware's own: says what it was and ends the machine. Nothing that S-mode does leads here.

use crate::uart::println;
use crate::{hart, map};
use core::panic::PanicInfo;

/// The test finisher's word for failure, and the exit status that QEMU makes of it.
const FAIL: u32 = 0x3333 | 1 << 16;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    println!("firmware: {info}");
    map::finisher().write(FAIL);
    hart::halt()
}
