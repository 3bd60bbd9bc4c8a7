//! Floating-point and vector registers. The hypervisor is built without them, so they hold a vCPU's state until somebody
//! asks for them here. Whose state they hold is the world switch's business.

use core::arch::asm;

use isa::FReg;
use isa::csr::sstatus;
use vhart::Units;

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

/// Copies the floating-point registers and fcsr out. The hart must have D.
pub(crate) fn save(units: &mut Units) {
    // SAFETY: writes to the 32 words, and else reads registers that Rust does not use.
    with_units(sstatus::FS_DIRTY, || unsafe {
        asm!(
            ".option push",
            ".option arch, +d",
            ".irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fsd f\\number, 8 * \\number({to})",
            ".endr",
            "csrr {fcsr}, fcsr",
            ".option pop",
            to = in(reg) units.float.as_mut_ptr(),
            fcsr = out(reg) units.fcsr,
            options(nostack),
        )
    });
}

/// Copies them in. The hart must have D.
pub(crate) fn load(units: &Units) {
    // SAFETY: reads the 32 words, and writes registers that Rust does not use.
    with_units(sstatus::FS_DIRTY, || unsafe {
        asm!(
            ".option push",
            ".option arch, +d",
            ".irp number, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "fld f\\number, 8 * \\number({from})",
            ".endr",
            "csrw fcsr, {fcsr}",
            ".option pop",
            from = in(reg) units.float.as_ptr(),
            fcsr = in(reg) units.fcsr,
            options(nostack),
        )
    });
}

/// Copies the vector registers and CSRs out. The hart must have V, and `units` room for its registers.
pub(crate) fn save_vector(units: &mut Units) {
    let csrs = &mut units.vector_csrs;
    assert!(units.vector.len() == 4 * vector_length(), "room for the vector registers");
    // SAFETY: the stores of whole registers write to all of `vector` and no more, whatever vtype is, once vstart is 0.
    with_units(sstatus::VS_DIRTY, || unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "csrr {vstart}, vstart", "csrr {vl}, vl", "csrr {vtype}, vtype", "csrr {vcsr}, vcsr",
            "csrw vstart, zero",
            "vs8r.v v0, ({to})", "add {to}, {to}, {eight}",
            "vs8r.v v8, ({to})", "add {to}, {to}, {eight}",
            "vs8r.v v16, ({to})", "add {to}, {to}, {eight}",
            "vs8r.v v24, ({to})",
            ".option pop",
            to = inout(reg) units.vector.as_mut_ptr() => _,
            eight = in(reg) units.vector.len() * 2,
            vstart = out(reg) csrs.vstart,
            vl = out(reg) csrs.vl,
            vtype = out(reg) csrs.vtype,
            vcsr = out(reg) csrs.vcsr,
            options(nostack),
        )
    });
}

/// Copies them in. The hart must have V, and `units` what its registers are to hold.
pub(crate) fn load_vector(units: &Units) {
    let csrs = &units.vector_csrs;
    assert!(units.vector.len() == 4 * vector_length(), "all of the vector registers");
    // SAFETY: the loads of whole registers read all of `vector` and no more, whatever vtype is, once vstart is 0. A vl that
    // was read with this vtype is set again by it.
    with_units(sstatus::VS_DIRTY, || unsafe {
        asm!(
            ".option push",
            ".option arch, +v",
            "csrw vstart, zero",
            "vl8re64.v v0, ({from})", "add {from}, {from}, {eight}",
            "vl8re64.v v8, ({from})", "add {from}, {from}, {eight}",
            "vl8re64.v v16, ({from})", "add {from}, {from}, {eight}",
            "vl8re64.v v24, ({from})",
            "vsetvl zero, {vl}, {vtype}",
            "csrw vcsr, {vcsr}", "csrw vstart, {vstart}",
            ".option pop",
            from = inout(reg) units.vector.as_ptr() => _,
            eight = in(reg) units.vector.len() * 2,
            vstart = in(reg) csrs.vstart,
            vl = in(reg) csrs.vl,
            vtype = in(reg) csrs.vtype,
            vcsr = in(reg) csrs.vcsr,
            options(nostack),
        )
    });
}

/// Bytes of a vector register. The hart must have V.
pub(crate) fn vector_length() -> usize {
    with_units(sstatus::VS_DIRTY, || {
        let bytes;
        // SAFETY: reads a constant, vlenb.
        unsafe { asm!("csrr {}, 0xc22", out(reg) bytes, options(nomem, nostack)) };
        bytes
    })
}
