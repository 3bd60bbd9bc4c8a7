extern crate std;

use super::*;

const PC: u64 = 0xffff_ffff_8020_1234;
const TAG: u64 = 5 << 48;
const SRET: u32 = 0x1020_0073;
/// csrrci a0, sstatus, 2
const OFF_READ: u32 = 0x1001_7573;

fn plan(bits: u32) -> Plan {
    Plan::of(&decode(bits))
}

#[test]
fn a_shared_site_is_found_in_every_space_and_another_only_in_its_own() {
    let mut table = SiteTable::new();
    table.insert(PC, 0, SRET, 1);
    assert_eq!((table.find(PC, TAG), table.find(PC, 6 << 48)), (Some(SRET), Some(SRET)));
    table.clear();
    table.insert(PC, TAG, SRET, 1);
    assert_eq!((table.find(PC, TAG), table.find(PC, 6 << 48)), (Some(SRET), None));
    assert_eq!(table.find(PC + 4, TAG), None);
}

#[test]
fn two_sites_of_one_first_place_stay_both() {
    let mut table = SiteTable::new();
    let other = PC + 0x40_2000;
    assert_eq!(places(PC)[0], places(other)[0]);
    table.insert(PC, 0, SRET, 1);
    table.insert(other, 0, OFF_READ, 2);
    assert_eq!((table.find(PC, TAG), table.find(other, TAG)), (Some(SRET), Some(OFF_READ)));
    // Put in again, a site takes its own place, not a second one.
    table.insert(other, 0, SRET, 2);
    assert_eq!((table.find(PC, TAG), table.find(other, TAG)), (Some(SRET), Some(SRET)));
}

#[test]
fn sites_are_forgotten_by_their_page_and_by_their_address() {
    let mut table = SiteTable::new();
    table.insert(PC, 0, SRET, 1);
    table.insert(PC + 0x1000, TAG, SRET, 2);
    // One that is not here, and one that looks like it.
    table.forget_page(3);
    table.forget_page(1 + PAGES as u64);
    assert_eq!(table.find(PC, TAG), Some(SRET));
    table.forget_page(1);
    assert_eq!((table.find(PC, TAG), table.find(PC + 0x1000, TAG)), (None, Some(SRET)));
    table.forget_addresses(PC);
    assert_eq!(table.find(PC + 0x1000, TAG), Some(SRET));
    table.forget_addresses(PC + 0x1000);
    assert_eq!(table.find(PC + 0x1000, TAG), None);
}

#[test]
fn what_the_assembly_cannot_do_alone_is_left_to_rust() {
    // sfence.vma a0, wfi, csrs stvec, csrs sie, csrs sscratch with a register, rdtime, csrrw satp with a result.
    for bits in [0x1205_0073, 0x1050_0073, 0x1055_2073, 0x1045_2073, 0x1405_2073, 0xc010_2573, 0x1805_15f3] {
        assert_eq!(plan(bits).op, Op::Bail, "{bits:#x}");
    }
}

#[test]
fn sites_are_served_by_what_they_do() {
    let cases = [
        (0x1020_0073, Op::Sret),
        (0x1001_7073, Op::InterruptsOff),     // csrci sstatus, 2
        (OFF_READ, Op::InterruptsOffRead),    // csrrci a0, sstatus, 2
        (0x1001_6073, Op::InterruptsOn),      // csrsi sstatus, 2
        (0x1000_2573, Op::StatusRead),        // csrr a0, sstatus
        (0x1005_2073, Op::InterruptsRestore), // csrs sstatus, a0
        (0x1005_25f3, Op::StatusSet),         // csrrs a1, sstatus, a0
        (0x1002_6073, Op::InterruptsRestore), // csrsi sstatus, 4
        (0x1005_3073, Op::StatusClear),       // csrc sstatus, a0
        (0x1005_1073, Op::StatusWrite),       // csrw sstatus, a0
        (0x1400_1073, Op::Write),             // csrw sscratch, zero
        (0x1402_1273, Op::Swap),              // csrrw tp, sscratch, tp
        (0x1420_2573, Op::Read),              // csrr a0, scause
        (0x1805_1073, Op::Satp),              // csrw satp, a0
        (0x1055_1073, Op::Vector),            // csrw stvec, a0
        (0x1200_0073, Op::Fence),             // sfence.vma
        (0x12a0_0073, Op::Fence),             // sfence.vma zero, a0
    ];
    for (bits, op) in cases {
        assert_eq!(plan(bits).op, op, "{bits:#x}");
    }
}

#[test]
fn a_write_of_sepc_keeps_its_last_bit_clear() {
    assert_eq!(plan(0x1415_1073).mask, !1);
    assert_eq!(plan(0x1405_1073).mask, u64::MAX);
}
