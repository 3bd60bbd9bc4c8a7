//! Floating-point and vector registers. The hypervisor is built without them, so they hold the state of the vCPU
//! that ran last until somebody asks for them here.

use core::arch::asm;

use isa::FReg;
use isa::csr::sstatus;

/// Runs `work` with the units in `units` (bits of sstatus.FS and VS) switched on, then off.
fn with_units<T>(units: u64, work: impl FnOnce() -> T) -> T {
    // SAFETY: FS and VS decide only whether the instructions in `work` are legal.
    unsafe { asm!("csrs sstatus, {}", in(reg) units, options(nostack)) };
    let result = work();
    // SAFETY: as above.
    unsafe { asm!("csrc sstatus, {}", in(reg) units, options(nostack)) };
    result
}

macro_rules! each_register {
    ($register:expr, $($number:literal)*; $access:ident $value:ident) => {
        match $register.index() {
            $($number => each_register!(@$access $number $value),)*
            _ => {}
        }
    };
    (@read $number:literal $value:ident) => {
        // SAFETY: copies a register that Rust does not use.
        unsafe {
            asm!(".option push", ".option arch, +d", concat!("fmv.x.d {}, f", $number), ".option pop",
                out(reg) $value, options(nomem, nostack))
        }
    };
    (@write $number:literal $value:ident) => {
        // SAFETY: as above.
        unsafe {
            asm!(".option push", ".option arch, +d", concat!("fmv.d.x f", $number, ", {}"), ".option pop",
                in(reg) $value, options(nomem, nostack))
        }
    };
}

/// The 64 bits of a floating-point register. The hart must have D.
pub fn read(register: FReg) -> u64 {
    let mut value = 0_u64;
    with_units(sstatus::FS_DIRTY, || {
        each_register!(register, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31;
            read value);
    });
    value
}

/// Sets a floating-point register. The hart must have D.
pub fn write(register: FReg, value: u64) {
    with_units(sstatus::FS_DIRTY, || {
        each_register!(register, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31;
            write value);
    });
}

/// Makes all floating-point registers and fcsr zero. The hart must have D.
pub fn clear() {
    for number in 0..32 {
        write(FReg::new(number), 0);
    }
    // SAFETY: as above.
    with_units(sstatus::FS_DIRTY, || unsafe { asm!("csrw fcsr, zero", options(nomem, nostack)) });
}

/// Makes all vector registers and vector CSRs zero. The hart must have V.
pub fn clear_vector() {
    // SAFETY: as above.
    with_units(sstatus::VS_DIRTY, || unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "vsetvli t0, zero, e8, m8, ta, ma",
            "vmv.v.i v0, 0",
            "vmv.v.i v8, 0",
            "vmv.v.i v16, 0",
            "vmv.v.i v24, 0",
            "li t0, -1", "vsetvl zero, zero, t0",
            "csrw vcsr, zero",
            "csrw vstart, zero",
            ".option pop",
            out("t0") _,
            options(nomem, nostack),
        )
    });
}
