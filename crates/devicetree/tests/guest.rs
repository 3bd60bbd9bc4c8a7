//! The guest's device tree, against its snapshot, QEMU's own tree, `dtc`, and our own reader.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use devicetree::{Extensions, GuestDevice, GuestDeviceKind, GuestTree, HartIsa, HostInfo, to_dts};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use isa::paging::Mode;
use memory::{Extent, GuestPhysAddr, HostPhysAddr};

const VIRT_4: &[u8] = include_bytes!("fixtures/virt-4.dtb");
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots/two-harts.dts");

/// QEMU's map of its `virt` machine.
fn devices() -> Vec<GuestDevice> {
    let device = |kind, base, size, irq| GuestDevice { kind, base: GuestPhysAddr(base), size, irq };
    let mut devices = vec![
        device(GuestDeviceKind::Finisher, 0x10_0000, 0x1000, 0),
        device(GuestDeviceKind::Rtc, 0x10_1000, 0x1000, 11),
        device(GuestDeviceKind::Plic { sources: 96 }, 0xc00_0000, 0x60_0000, 0),
        device(GuestDeviceKind::Uart, 0x1000_0000, 0x100, 10),
    ];
    devices.extend(
        (1..=8).map(|n| device(GuestDeviceKind::VirtioMmio, 0x1000_0000 + 0x1000 * u64::from(n), 0x1000, n)),
    );
    devices
}

fn isa() -> HartIsa {
    let extensions = Extensions::parse_isa("rv64imafdch_zicbom_zicboz_zicsr_zifencei_zba_zbb_sstc").unwrap();
    let host =
        HartIsa { extensions, cbom_block_size: Some(64), cboz_block_size: Some(64), cbop_block_size: None };
    host.guest_view()
}

fn tree(vcpus: u32, devices: &[GuestDevice]) -> GuestTree<'_> {
    GuestTree {
        vcpus,
        memory: GuestPhysAddr(0x8000_0000)..GuestPhysAddr(0x9000_0000),
        bootargs: "",
        initrd: None,
        isa: isa(),
        mmu_type: Mode::Sv48,
        timebase_frequency: 10_000_000,
        rng_seed: &[0xa5; 32],
        devices,
    }
}

/// A tree that has everything.
fn full() -> Vec<u8> {
    GuestTree {
        bootargs: "console=ttyS0 quiet",
        initrd: Some(GuestPhysAddr(0x8800_0000)..GuestPhysAddr(0x8812_3456)),
        ..tree(2, &devices())
    }
    .build()
}

#[test]
fn the_tree_is_that_of_the_snapshot() {
    let text = to_dts(&full()).unwrap();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(SNAPSHOT, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(SNAPSHOT).unwrap(), "UPDATE_SNAPSHOTS=1 takes the new one");
}

/// Every property of `ours` is in `theirs` and the other way round, with the same value, but for those named in `differs`.
fn assert_part_of(ours: FdtNode<'_>, theirs: FdtNode<'_>, path: &str, differs: &[&str]) {
    let names = |node: FdtNode<'_>| -> BTreeSet<String> {
        let names = node.properties().map(|property| property.name().to_string());
        names.filter(|name| !differs.contains(&name.as_str())).collect()
    };
    assert_eq!(names(ours), names(theirs), "properties of {path}");
    for property in ours.properties().filter(|property| !differs.contains(&property.name())) {
        let their = theirs.property(property.name()).unwrap();
        assert_eq!(property.value(), their.value(), "{path}/{}", property.name());
    }
    let order = |node: FdtNode<'_>| node.children().map(|child| child.name().to_string()).collect::<Vec<_>>();
    let (ours_order, mut theirs_order) = (order(ours), order(theirs));
    theirs_order.retain(|name| ours_order.contains(name));
    assert_eq!(ours_order, theirs_order, "children of {path}");
    for child in ours.children() {
        let their = theirs.child(child.name()).unwrap();
        assert_part_of(child, their, &format!("{path}/{}", child.name()), differs);
    }
}

#[test]
fn the_tree_is_part_of_qemu_s() {
    let qemu = HostInfo::parse(VIRT_4).unwrap();
    let devices = devices();
    let guest = GuestTree { rng_seed: &qemu.rng_seed, ..tree(4, &devices) }.build();
    let differs = [
        "riscv,isa",
        "riscv,isa-base",
        "riscv,isa-extensions",
        "riscv,cbom-block-size",
        "riscv,cboz-block-size",
    ];
    let (guest, qemu) = (Fdt::new(&guest).unwrap().root(), Fdt::new(VIRT_4).unwrap().root());
    // Ours alone is #address-cells in the harts' own interrupt controllers.
    for cpu in guest.child("cpus").unwrap().children().filter(|node| node.name().starts_with("cpu@")) {
        let intc = cpu.child("interrupt-controller").unwrap();
        assert_eq!(intc.property("#address-cells").unwrap().value(), [0; 4]);
    }
    let differs: Vec<_> = differs.into_iter().chain(["#address-cells"]).collect();
    assert_part_of(guest, qemu, "", &differs);

    let dropped: Vec<_> =
        qemu.children().map(|node| node.name()).filter(|name| guest.child(name).is_none()).collect();
    assert_eq!(dropped, ["pmu", "fw-cfg@10100000", "flash@20000000", "platform-bus@4000000"]);
    let (guest, qemu) = (guest.child("soc").unwrap(), qemu.child("soc").unwrap());
    let dropped: Vec<_> =
        qemu.children().map(|node| node.name()).filter(|name| guest.child(name).is_none()).collect();
    assert_eq!(dropped, ["pci@30000000", "clint@2000000"]);
}

#[test]
fn a_hypervisor_in_the_guest_finds_what_was_put_in() {
    let host = HostInfo::parse(&full()).unwrap();
    assert_eq!(host.memory[..], [Extent::new(HostPhysAddr(0x8000_0000), 0x1000_0000)]);
    assert_eq!(host.initrd, Some(Extent::new(HostPhysAddr(0x8800_0000), 0x12_3456)));
    assert_eq!(host.bootargs.as_str(), "console=ttyS0 quiet");
    assert_eq!(host.rng_seed[..], [0xa5; 32]);
    assert_eq!(host.timebase_frequency, 10_000_000);
    assert_eq!(host.console.and_then(|console| console.irq), Some(10));
    let harts: Vec<_> = host.harts.iter().map(|hart| (hart.id, hart.plic_context, hart.isa)).collect();
    assert_eq!(harts, [(0, Some(1), isa()), (1, Some(3), isa())]);
}

#[test]
fn each_property_alone_tells_the_isa() {
    let dtb = full();
    let cpu = Fdt::new(&dtb).unwrap().find_node("/cpus/cpu@1").unwrap();
    let isa_string = cpu.property("riscv,isa").unwrap().value_as::<&str>().unwrap();
    assert_eq!(Extensions::parse_isa(isa_string), Some(isa().extensions));
    let names: Vec<&str> = cpu.property("riscv,isa-extensions").unwrap().value_as().unwrap();
    assert_eq!(Extensions::from_names(names.into_iter()), isa().extensions);
    assert!(isa_string.ends_with("_svvptc"));
}

#[test]
fn an_empty_command_line_and_no_initrd_leave_no_trace() {
    let dtb = tree(1, &devices()).build();
    let chosen = Fdt::new(&dtb).unwrap().find_node("/chosen").unwrap();
    let names: Vec<_> = chosen.properties().map(|property| property.name().to_string()).collect();
    assert_eq!(names, ["rng-seed", "stdout-path"]);
}

#[test]
fn a_timebase_beyond_one_cell_takes_two() {
    let dtb = GuestTree { timebase_frequency: 5_000_000_000, ..tree(1, &devices()) }.build();
    assert_eq!(HostInfo::parse(&dtb).unwrap().timebase_frequency, 5_000_000_000);
}

#[test]
fn dtc_has_nothing_to_say_about_the_tree() {
    let dtc = |options: &[&str], input: &[u8]| {
        let mut dtc = Command::new("dtc")
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        dtc.stdin.take().unwrap().write_all(input)?;
        dtc.wait_with_output()
    };
    let tree = full();
    let decompiled = match dtc(&["-I", "dtb", "-O", "dts"], &tree) {
        Ok(output) => output,
        Err(error) => return eprintln!("not checked, dtc does not run: {error}"),
    };
    assert_eq!(String::from_utf8_lossy(&decompiled.stderr), "");
    // Our text, compiled, is the tree again. Text has numbers for phandles, which dtc warns of.
    let compiled = dtc(&["-q", "-I", "dts", "-O", "dtb"], to_dts(&tree).unwrap().as_bytes()).unwrap();
    assert!(compiled.status.success());
    assert_eq!(to_dts(&compiled.stdout), to_dts(&tree));
}

#[test]
fn a_boot_loader_can_add_to_the_tree_in_place() {
    let dtb = tree(1, &devices()).build();
    let field = |at: usize| u32::from_be_bytes(dtb[at..at + 4].try_into().unwrap()) as usize;
    // The header's totalsize, and offset and size of the strings, the last block.
    let (total, strings, strings_size) = (field(4), field(12), field(32));
    assert_eq!(total, dtb.len());
    assert!(total - (strings + strings_size) >= 1024);
}
