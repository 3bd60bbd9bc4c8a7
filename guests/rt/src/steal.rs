//! What others on the same hart have taken: SBI spec, "Steal-time Accounting Extension".

use crate::sbi;

/// What the hypervisor writes for us.
#[repr(C, align(64))]
struct Record([u64; 8]);

static mut RECORD: Record = Record([0; 8]);

/// Asks for the account; the SBI's error, 0 where there is none.
pub fn begin() -> i64 {
    sbi::call(sbi::STA, 0, [(&raw const RECORD) as u64, 0, 0, 0, 0, 0]).error
}

/// Nanoseconds since `begin` in which this hart would have run and something else did.
pub fn stolen() -> u64 {
    // SAFETY: what others write to it, they write in one piece.
    unsafe { (&raw const RECORD.0[1]).read_volatile() }
}
