//! The host's device tree as QEMU and others write it, whole and corrupted.

use devicetree::host::{MAX_BOOTARGS, MAX_RESERVED};
use devicetree::{Console, ConsoleKind, Extension, HostError, HostInfo, Plic, VirtioSlot};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use isa::paging::Mode;
use memory::{Extent, HostPhysAddr};
use proptest::prelude::*;

const VIRT_1: &[u8] = include_bytes!("fixtures/virt-1.dtb");
const VIRT_4: &[u8] = include_bytes!("fixtures/virt-4.dtb");
const SIFIVE_U: &[u8] = include_bytes!("fixtures/sifive_u.dtb");
const BOARD: &[u8] = include_bytes!("fixtures/board.dtb");

fn extent(start: u64, size: u64) -> Extent {
    Extent::new(HostPhysAddr(start), size)
}

/// The tree `dtb` after `change`.
fn changed(dtb: &[u8], change: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(dtb).unwrap());
    change(&mut tree);
    tree.to_dtb()
}

fn set<T: dtoolkit::ToPropertyValue>(tree: &mut DeviceTree, path: &str, name: &str, value: T) {
    tree.find_node_mut(path).unwrap().add_property(DeviceTreeProperty::new(name, value).unwrap());
}

#[test]
fn qemu_virt_is_found() {
    let host = HostInfo::parse(VIRT_4).unwrap();
    assert_eq!(host.memory[..], [extent(0x8000_0000, 256 << 20)]);
    assert!(host.reserved.is_empty());
    assert_eq!(host.timebase_frequency, 10_000_000);
    let kind = ConsoleKind::Ns16550 { reg_shift: 0, reg_io_width: 1 };
    assert_eq!(host.console, Some(Console { kind, registers: extent(0x1000_0000, 0x100), irq: Some(10) }));
    assert_eq!(host.plic, Some(Plic { registers: extent(0xc00_0000, 0x60_0000), sources: 96 }));
    assert_eq!(host.finisher, Some(HostPhysAddr(0x10_0000)));
    assert_eq!(host.rtc, Some(HostPhysAddr(0x10_1000)));
    assert_eq!(host.virtio.len(), 8);
    let slot = |number: u32| VirtioSlot {
        registers: extent(0x1000_0000 + 0x1000 * u64::from(number), 0x1000),
        irq: number,
    };
    assert!((1..=8).all(|number| host.virtio.contains(&slot(number))));
    assert_eq!(host.initrd, None);
    assert_eq!(host.bootargs.as_str(), "");
    assert_eq!(host.rng_seed.len(), 32);

    let harts: Vec<_> = host.harts.iter().map(|hart| (hart.id, hart.mmu_type, hart.plic_context)).collect();
    let sv48 = |id, context| (id, Mode::Sv48, Some(context));
    assert_eq!(harts, [sv48(0, 1), sv48(1, 3), sv48(2, 5), sv48(3, 7)]);
    let isa = "rv64imafdch_zicsr_zifencei_zihintpause_zba_zbb_zbc_zbs_sstc";
    assert_eq!(host.common_isa().extensions.to_isa(), isa);
}

#[test]
fn qemu_virt_with_one_hart_is_found() {
    let host = HostInfo::parse(VIRT_1).unwrap();
    assert_eq!(host.harts.len(), 1);
    assert_eq!(host.harts[0].plic_context, Some(1));
}

#[test]
fn a_hart_without_an_s_mode_is_left_out() {
    let host = HostInfo::parse(SIFIVE_U).unwrap();
    let harts: Vec<_> = host.harts.iter().map(|hart| (hart.id, hart.plic_context)).collect();
    assert_eq!(harts, [(1, Some(2)), (2, Some(4)), (3, Some(6)), (4, Some(8))]);
    let console =
        Console { kind: ConsoleKind::SiFiveUart, registers: extent(0x1001_0000, 0x1000), irq: Some(4) };
    assert_eq!(host.console, Some(console));
    assert_eq!(host.plic, Some(Plic { registers: extent(0xc00_0000, 0x400_0000), sources: 53 }));
    assert_eq!((host.timebase_frequency, host.finisher, host.rtc), (1_000_000, None, None));
}

#[test]
fn a_board_that_does_everything_differently_is_found() {
    let host = HostInfo::parse(BOARD).unwrap();
    let memory = [
        extent(0x8000_0000, 0x4000_0000),
        extent(0x1_8000_0000, 0x8000_0000),
        extent(0x4_0000_0000, 0x8000_0000),
    ];
    assert_eq!(host.memory[..], memory);
    let reserved = [
        extent(0x8000_0000, 0x4_0000),
        extent(0x8004_0000, 0x2_0000),
        extent(0xc000_0000, 0x1000),
        extent(0xd000_0000, 0x2000),
    ];
    assert_eq!(host.reserved[..], reserved);
    assert_eq!(host.timebase_frequency, 24_000_000);
    let kind = ConsoleKind::Ns16550 { reg_shift: 2, reg_io_width: 4 };
    let registers = extent(0x1_1010_3020, 0xe0);
    assert_eq!(host.console, Some(Console { kind, registers, irq: Some(32) }));
    assert_eq!(host.plic, Some(Plic { registers: extent(0x2_0400_0000, 0x400_0000), sources: 159 }));
    let harts: Vec<_> = host.harts.iter().map(|hart| (hart.id, hart.mmu_type, hart.plic_context)).collect();
    assert_eq!(harts, [(1, Mode::Sv39, Some(2)), (0x100, Mode::Sv48, Some(4))]);
    assert_eq!(host.initrd, Some(extent(0x1_8400_0000, 0x80_0000)));
    assert_eq!(host.bootargs.as_str(), "level=4 größe");
    assert_eq!(host.rng_seed[..], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    let isa = host.common_isa();
    assert_eq!(isa.extensions.to_isa(), "rv64imafdc_zicbom_zicboz_zicsr");
    assert_eq!((isa.cbom_block_size, isa.cboz_block_size), (Some(64), None));
    assert!(host.harts[0].isa.extensions.contains(Extension::V));
}

#[test]
fn without_a_stdout_path_the_first_enabled_uart_is_the_console() {
    let dtb = changed(VIRT_4, |tree| {
        tree.find_node_mut("/chosen").unwrap().remove_property("stdout-path");
    });
    assert!(HostInfo::parse(&dtb).unwrap().console.is_some());
    let dtb = changed(VIRT_4, |tree| set(tree, "/chosen", "stdout-path", "/no/such/node"));
    assert!(HostInfo::parse(&dtb).unwrap().console.is_some());
    let dtb = changed(VIRT_4, |tree| set(tree, "/soc/serial@10000000", "status", "disabled"));
    assert_eq!(HostInfo::parse(&dtb).unwrap().console, None);
}

#[test]
fn a_console_of_an_unknown_kind_is_not_replaced_by_another_uart() {
    let dtb = changed(VIRT_4, |tree| set(tree, "/chosen", "stdout-path", "/soc/rtc@101000"));
    assert_eq!(HostInfo::parse(&dtb).unwrap().console, None);
}

#[test]
fn a_virtio_slot_without_an_interrupt_or_that_is_disabled_is_left_out() {
    let dtb = changed(VIRT_4, |tree| {
        tree.find_node_mut("/soc/virtio_mmio@10001000").unwrap().remove_property("interrupts");
        set(tree, "/soc/virtio_mmio@10002000", "status", "disabled");
    });
    let host = HostInfo::parse(&dtb).unwrap();
    assert_eq!(host.virtio.len(), 6);
    assert!(host.virtio.iter().all(|slot| slot.irq > 2));
}

#[test]
fn an_initrd_is_read_from_one_and_two_cells() {
    for wide in [false, true] {
        let dtb = changed(VIRT_4, |tree| {
            for (name, value) in [("linux,initrd-start", 0x8800_0000u32), ("linux,initrd-end", 0x8800_1234)] {
                match wide {
                    false => set(tree, "/chosen", name, value),
                    true => set(tree, "/chosen", name, u64::from(value)),
                }
            }
        });
        assert_eq!(HostInfo::parse(&dtb).unwrap().initrd, Some(extent(0x8800_0000, 0x1234)));
    }
}

#[test]
fn an_initrd_above_4_gib_is_found_where_qemu_has_cut_its_address_off() {
    let initrd = |memory: u64, start: u32, end: u32| {
        let dtb = changed(VIRT_4, |tree| {
            set(tree, "/memory@80000000", "reg", [0x8000_0000, memory].map(u64::to_be_bytes).concat());
            set(tree, "/chosen", "linux,initrd-start", start);
            set(tree, "/chosen", "linux,initrd-end", end);
        });
        HostInfo::parse(&dtb).unwrap().initrd
    };
    assert_eq!(initrd(8 << 30, 0x740_0000, 0x9c0_0000), Some(extent(0x1_0740_0000, 0x280_0000)));
    assert_eq!(initrd(8 << 30, 0xff00_0000, 0x100_0000), Some(extent(0xff00_0000, 0x200_0000)));
    assert_eq!(
        initrd(8 << 30, 0x8800_0000, 0x8900_0000),
        Some(extent(0x8800_0000, 0x100_0000)),
        "the lowest"
    );
    // In no RAM, so nothing is known of it; and nothing at all.
    assert_eq!(initrd(1 << 30, 0x740_0000, 0x9c0_0000), Some(extent(0x740_0000, 0x280_0000)));
    assert_eq!(initrd(1 << 30, 0x8800_0000, 0x8800_0000), None);
}

#[test]
fn boot_arguments_are_cut_off_between_characters() {
    let long = format!("x{}", "ö".repeat(MAX_BOOTARGS));
    let dtb = changed(VIRT_4, |tree| set(tree, "/chosen", "bootargs", long.as_str()));
    let bootargs = HostInfo::parse(&dtb).unwrap().bootargs;
    assert_eq!(bootargs.as_str(), &long[..MAX_BOOTARGS - 1]);
}

#[test]
fn a_reserved_range_too_many_is_an_error() {
    let reserved = |count: usize| {
        let mut node = DeviceTreeNode::new("reserved-memory").unwrap();
        for name in ["#address-cells", "#size-cells"] {
            node.add_property(DeviceTreeProperty::new(name, 2u32).unwrap());
        }
        for index in 0..count {
            let mut range = DeviceTreeNode::new(format!("r@{index}")).unwrap();
            range.add_property(DeviceTreeProperty::new("reg", [0, (index as u32) << 12, 0, 0x1000]).unwrap());
            node.add_child(range);
        }
        HostInfo::parse(&changed(VIRT_4, |tree| tree.root.add_child(node)))
    };
    assert_eq!(reserved(MAX_RESERVED).unwrap().reserved.len(), MAX_RESERVED);
    assert_eq!(reserved(MAX_RESERVED + 1).unwrap_err(), HostError::TooManyReserved);
}

#[test]
fn what_is_missing_is_named() {
    let without = |path: &str, property: &str| {
        HostInfo::parse(&changed(VIRT_1, |tree| {
            tree.find_node_mut(path).unwrap().remove_property(property);
        }))
        .unwrap_err()
    };
    assert_eq!(without("/memory@80000000", "device_type"), HostError::NoMemory);
    assert_eq!(without("/cpus/cpu@0", "mmu-type"), HostError::NoHart);
    assert_eq!(without("/cpus/cpu@0", "riscv,isa"), HostError::NoHart);
    assert_eq!(without("/cpus", "timebase-frequency"), HostError::NoTimebase);
    assert_eq!(HostInfo::parse(&[]).unwrap_err(), HostError::Truncated);
    assert_eq!(HostInfo::parse(&[0; 4096]).unwrap_err(), HostError::NotADeviceTree);
}

#[test]
fn nodes_nested_without_end_are_refused() {
    let dtb = changed(VIRT_1, |tree| {
        let nest = |inner, _| {
            let mut outer = DeviceTreeNode::new("deeper").unwrap();
            outer.add_child(inner);
            outer
        };
        tree.root.add_child((0..100).fold(DeviceTreeNode::new("deepest").unwrap(), nest));
    });
    assert_eq!(HostInfo::parse(&dtb).unwrap_err(), HostError::TooDeep);
}

#[test]
fn the_board_s_blob_is_its_source_compiled() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/board.dts");
    match std::process::Command::new("dtc").args(["-q", "-I", "dts", "-O", "dtb", source]).output() {
        Ok(output) => assert_eq!(output.stdout, BOARD, "compile board.dts again"),
        Err(error) => eprintln!("not checked, dtc does not run: {error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Whatever is found in a corrupted tree keeps what `HostInfo` promises.
    #[test]
    fn a_corrupted_tree_is_refused_or_read_without_a_panic(
        base in prop::sample::select(vec![VIRT_1, VIRT_4, SIFIVE_U, BOARD]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        length in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.1),
    ) {
        let mut dtb = base.to_vec();
        for (at, value) in &changes {
            dtb[at.index(base.len())] = *value;
        }
        if cut {
            dtb.truncate(length.index(base.len()));
        }
        if let Ok(host) = HostInfo::parse(&dtb) {
            prop_assert!(!host.memory.is_empty() && !host.harts.is_empty() && host.timebase_frequency > 0);
            for extent in host.memory.iter().chain(&host.reserved).chain(&host.initrd) {
                prop_assert!(extent.size > 0 && extent.end() > extent.start);
            }
        }
    }
}
