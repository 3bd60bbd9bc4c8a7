extern crate std;

use super::rules::RULES;
use super::*;

const FEATURES: CsrFeatures = CsrFeatures {
    widest_mode: Mode::Sv48,
    float: true,
    vector: true,
    cache_blocks: true,
    cache_zero: true,
    svinval: false,
};

/// Values that differ in each bit, and some that mean something.
fn values() -> impl Iterator<Item = u64> {
    let bits = (0..64).flat_map(|bit| [1 << bit, !(1 << bit)]);
    bits.chain([0, u64::MAX, 0x8000_0000_0008_0200, 0x0123_4567_89ab_cdef])
}

fn value(csrs: &CsrFile, csr: CsrAddr) -> u64 {
    match csrs.read(csr, Privilege::Supervisor) {
        Ok(Read::Value(value)) => value,
        other => panic!("{csr:?}: {other:?}"),
    }
}

/// What is written, as Rust does it.
fn written(csr: CsrAddr, old: u64, new: u64) -> u64 {
    let mut csrs = CsrFile::new(FEATURES);
    csrs.write(csr, old, Privilege::Supervisor).expect("it can be written");
    csrs.write(csr, new, Privilege::Supervisor).expect("it can be written");
    value(&csrs, csr)
}

#[test]
fn what_the_assembly_writes_by_the_table_is_what_rust_writes() {
    for rule in RULES.iter().filter(|rule| rule.field.is_some()) {
        for new in values() {
            let old = written(rule.csr, 0, 0x5555_5555_5555_5555);
            let by_assembly = match rule.in_assembly {
                InAssembly::ReadWrite => new & rule.writable,
                InAssembly::Vector if new & STVEC_NO_MODE == 0 => new,
                InAssembly::Status if new & sstatus::MXR == 0 => {
                    let units = new & (sstatus::FS | sstatus::VS);
                    let is_dirty =
                        [sstatus::FS_DIRTY, sstatus::VS_DIRTY].iter().any(|dirty| new & dirty == *dirty);
                    let dirty = if is_dirty { sstatus::SD } else { 0 };
                    new & STATUS_IN_ASSEMBLY | sstatus::UXL_64 | units | dirty
                }
                _ => continue,
            };
            assert_eq!(written(rule.csr, old, new), by_assembly, "{:?} <- {new:#x}", rule.csr);
        }
    }
}

#[test]
fn bits_that_cannot_be_written_are_0_or_stay() {
    for rule in RULES.iter().filter(|rule| rule.field.is_some() && rule.warl != Warl::Status) {
        for new in values() {
            let mut csrs = CsrFile::new(FEATURES);
            let before = value(&csrs, rule.csr);
            csrs.write(rule.csr, new, Privilege::Supervisor).expect("it can be written");
            assert_eq!((value(&csrs, rule.csr) ^ before) & !rule.writable, 0, "{:?} <- {new:#x}", rule.csr);
        }
    }
}

#[test]
fn a_csr_without_a_row_is_no_csr() {
    let csrs = CsrFile::new(FEATURES);
    for csr in (0..0x1000).map(CsrAddr::new) {
        assert_eq!(csrs.read(csr, Privilege::Supervisor).is_ok(), rule(csr).is_some(), "{csr:?}");
    }
}

#[test]
fn a_true_invalidation_is_nobodys() {
    let mut csrs = CsrFile::new(FEATURES);
    for value in values() {
        csrs.write(CsrAddr::SENVCFG, value, Privilege::Supervisor).expect("it can be written");
        assert!(csrs.real_senvcfg().iter().all(|real| real & senvcfg::CBIE != senvcfg::CBIE), "{value:#x}");
    }
}
