//! Which errata the hart has that this runs on: asks the firmware for the machine ids. `isa::errata` has the table.

use isa::errata::{Errata, HartIds};

/// The errata of this hart.
pub(crate) fn of_this_hart() -> Errata {
    Errata::of(HartIds {
        vendor: sbi_rt::get_mvendorid() as u64,
        architecture: sbi_rt::get_marchid() as u64,
        implementation: sbi_rt::get_mimpid() as u64,
    })
}
