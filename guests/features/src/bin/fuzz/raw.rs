//! Single instructions that may trap. They run inside `catch`, which skips what trapped: nothing here may matter if it
//! was not executed.

use core::arch::asm;

use features::random::Random;

/// The instruction that makes an access.
#[derive(Clone, Copy)]
pub enum Form {
    /// LB, SB.
    Byte,
    /// LH, SH.
    Half,
    /// LW, SW.
    Word,
    /// LD, SD.
    Double,
    /// AMOADD.W, AMOSWAP.D.
    Atomic,
    /// LR.W, SC.W.
    Reserved,
    /// FLD, FSD.
    Float,
}

impl Form {
    /// One of them, a word most often.
    pub fn any(tape: &mut Random) -> Self {
        use Form::*;
        tape.pick(&[Byte, Byte, Half, Word, Word, Word, Word, Word, Double, Atomic, Reserved, Float])
    }
}

/// Loads; 0 where that trapped.
pub fn load(form: Form, address: u64) -> u64 {
    let mut value = 0_u64;
    // SAFETY: one access, in a register of a device's, in the field or nowhere; a trap is expected.
    unsafe {
        match form {
            Form::Byte => asm!("lb {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
            Form::Half => asm!("lhu {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
            Form::Word => asm!("lw {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
            Form::Double => asm!("ld {0}, 0({1})", inout(reg) value, in(reg) address, options(nostack)),
            Form::Atomic => {
                asm!("amoor.w {0}, zero, ({1})", inout(reg) value, in(reg) address, options(nostack));
            }
            Form::Reserved => asm!("lr.w {0}, ({1})", inout(reg) value, in(reg) address, options(nostack)),
            Form::Float => {
                asm!(".option push", ".option arch, +d", "fld f9, 0({0})", "fmv.x.d {1}, f9", ".option pop",
                in(reg) address, inout(reg) value, options(nostack))
            }
        }
    }
    value
}

/// Stores, if it does not trap.
pub fn store(form: Form, address: u64, value: u64) {
    // SAFETY: as in `load`.
    unsafe {
        match form {
            Form::Byte => asm!("sb {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
            Form::Half => asm!("sh {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
            Form::Word => asm!("sw {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
            Form::Double => asm!("sd {0}, 0({1})", in(reg) value, in(reg) address, options(nostack)),
            Form::Atomic => {
                asm!("amoswap.d zero, {0}, ({1})", in(reg) value, in(reg) address, options(nostack));
            }
            Form::Reserved => {
                asm!("sc.w {2}, {0}, ({1})", in(reg) value, in(reg) address, out(reg) _, options(nostack));
            }
            Form::Float => {
                asm!(".option push", ".option arch, +d", "fmv.d.x f9, {0}", "fsd f9, 0({1})", ".option pop",
                in(reg) value, in(reg) address, options(nostack))
            }
        }
    }
}

/// Calls code of the field; gives its a0.
pub fn call(address: u64, argument: u64) -> u64 {
    let mut value = argument;
    // SAFETY: code that `code.rs` wrote, which keeps to the convention; where it cannot be fetched, that is skipped, too.
    unsafe { asm!("jalr ra, 0({0})", in(reg) address, inlateout("a0") value, clobber_abi("C")) };
    value
}

/// Waits for an interrupt.
pub fn wait() {
    // SAFETY: waits.
    unsafe { asm!("wfi", options(nomem, nostack)) };
}
