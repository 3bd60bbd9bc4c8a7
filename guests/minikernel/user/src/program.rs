//! A program's entry, and what becomes of a panic.

use crate::{println, sys};
use core::panic::PanicInfo;

/// Names the program's main function, a `fn(usize) -> usize`.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        /// The kernel enters here with the argument in a0 and the stack ready.
        #[unsafe(no_mangle)]
        extern "C" fn _start(argument: usize) -> ! {
            let main: fn(usize) -> usize = $main;
            $crate::sys::exit(main(argument))
        }

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo) -> ! {
            $crate::program::panicked(info)
        }
    };
}

/// The exit status of a program that panicked.
const PANICKED: usize = 101;

/// What `program!` makes of a panic.
pub fn panicked(info: &PanicInfo) -> ! {
    println!("{info}");
    sys::exit(PANICKED)
}
