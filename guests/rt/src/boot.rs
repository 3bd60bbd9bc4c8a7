//! From the firmware's jump to the guest's `main`: stack, bss, trap vector. Also the panic handler.

use crate::{finisher, println, trap};
use core::arch::global_asm;
use core::panic::PanicInfo;

// a0 = hart id, a1 = address of the device tree (SBI spec, "Hart State Management", boot protocol of virt).
// Both survive: the loop over bss uses t0 and t1 only.
global_asm!(
    ".pushsection .text.entry, \"ax\"",
    ".globl _start",
    "_start:",
    "    csrw sie, zero",
    "    csrci sstatus, 2", // SIE off, whatever the firmware left
    "    lla t0, __bss_start",
    "    lla t1, __bss_end",
    "1:  bgeu t0, t1, 2f",
    "    sd zero, 0(t0)",
    "    addi t0, t0, 8",
    "    j 1b",
    "2:  lla sp, __stack_top",
    "    j {start}",
    ".popsection",
    start = sym start,
);

unsafe extern "Rust" {
    /// What [`entry!`](crate::entry) defines.
    safe fn guest_main(hart: u64, device_tree: u64);
}

extern "C" fn start(hart: u64, device_tree: u64) -> ! {
    trap::install();
    guest_main(hart, device_tree);
    finisher::pass()
}

/// Names the guest's main function, a `fn(hart: u64, device_tree: u64)`: the id of the hart and the
/// physical address of the flattened device tree. Where it returns, the machine powers off with success.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn guest_main(hart: u64, device_tree: u64) {
            let main: fn(u64, u64) = $main;
            main(hart, device_tree)
        }
    };
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    println!("{info}");
    finisher::fail(finisher::PANICKED)
}
