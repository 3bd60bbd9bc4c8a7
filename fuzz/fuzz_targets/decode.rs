//! The instruction decoder: any four bytes that a guest may execute.
#![no_main]

use isa::instr::{Instr, decode, length};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bits: u32| {
    let instr = decode(bits);
    let low = bits as u16;
    if length(low) == 2 {
        assert_eq!(instr, decode(low.into()), "the upper half is another instruction's");
    }
    match instr {
        Instr::Load { offset, .. }
        | Instr::Store { offset, .. }
        | Instr::FpLoad { offset, .. }
        | Instr::FpStore { offset, .. } => assert!((-2048..2048).contains(&offset)),
        _ => {}
    }
});
