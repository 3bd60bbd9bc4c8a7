//! What a manifest may not say of disks and networks, rule by rule.

use super::*;
use crate::ConsoleConfig;
use crate::format::tests::{PAYLOAD, linux_like};
use alloc::vec;

fn check_after(change: impl FnOnce(&mut Manifest)) -> Result<(), ManifestError> {
    let mut manifest = linux_like();
    change(&mut manifest);
    manifest.check(PAYLOAD)
}

fn vm_error(change: impl FnOnce(&mut VmConfig)) -> VmError {
    match check_after(|manifest| change(&mut manifest.vms[0])) {
        Err(ManifestError::Vm { error, .. }) => error,
        other => panic!("expected an error in the guest, got {other:?}"),
    }
}

fn host(serial: &str, partition: Option<Partition>) -> DiskConfig {
    let source = DiskSource::Host { serial: serial.into(), partition };
    DiskConfig { source, readonly: false, snapshot: false, serial: "s".into() }
}

fn image(offset: u64, len: u64) -> DiskConfig {
    DiskConfig {
        source: DiskSource::Image { offset, len },
        readonly: false,
        snapshot: false,
        serial: "s".into(),
    }
}

/// Two guests with one disk each.
fn sharing(first: DiskConfig, second: DiskConfig) -> Result<(), ManifestError> {
    check_after(|manifest| {
        let (mut a, mut b) = (manifest.vms[0].clone(), manifest.vms[0].clone());
        (a.nets, b.nets) = (vec![], vec![]);
        b.name = "other".into();
        (a.disks, b.disks) = (vec![first], vec![second]);
        manifest.vms = vec![a, b];
    })
}

#[test]
fn devices_leave_a_slot_for_entropy() {
    let with = |disks: usize, console| {
        move |vm: &mut VmConfig| {
            vm.nets.truncate(1);
            vm.disks = (0..disks).map(|n| host(&format!("d{n}"), None)).collect();
            vm.console = console;
        }
    };
    assert_eq!(check_after(|manifest| with(6, ConsoleConfig::Uart)(&mut manifest.vms[0])), Ok(()));
    assert_eq!(vm_error(with(6, ConsoleConfig::Virtio)), VmError::Devices(8));
    assert_eq!(vm_error(with(7, ConsoleConfig::Uart)), VmError::Devices(8));
}

#[test]
fn a_disk_has_printable_serials_and_a_possible_partition() {
    let wrong = |disk: DiskConfig| match vm_error(|vm| vm.disks = vec![disk]) {
        VmError::Disk { number: 1, error } => error,
        other => panic!("{other:?}"),
    };
    for serial in ["", "123456789012345678901", "new\nline", "ä"] {
        assert_eq!(wrong(host(serial, None)), DiskError::Serial(serial.into()));
        let disk = DiskConfig { serial: serial.into(), ..host("a", None) };
        assert_eq!(wrong(disk), DiskError::Serial(serial.into()));
    }
    let long = "x".repeat(37);
    for partition in [Partition::Number(0), Partition::Name("".into()), Partition::Name(long)] {
        assert_eq!(wrong(host("a", Some(partition.clone()))), DiskError::Partition(partition));
    }
}

#[test]
fn an_image_is_whole_sectors_in_the_payload() {
    let wrong = |offset, len| match vm_error(|vm| vm.disks = vec![image(offset, len)]) {
        VmError::Disk { error, .. } => error,
        other => panic!("{other:?}"),
    };
    for len in [0, 1, 511, 513, u64::MAX] {
        assert_eq!(wrong(4096, len), DiskError::Length(len));
    }
    for (offset, len) in [(512, 512), (PAYLOAD, 512), (4096, PAYLOAD), (!4095, 8192)] {
        assert_eq!(wrong(offset, len), DiskError::Place(offset));
    }
}

#[test]
fn a_disk_that_is_written_has_one_user() {
    let read = |disk| DiskConfig { readonly: true, ..disk };
    let kept = |disk| DiskConfig { snapshot: true, ..disk };
    let part = |n| Some(Partition::Number(n));
    let named = |name: &str| Some(Partition::Name(name.into()));
    for (first, second) in [
        (host("a", None), host("a", None)),
        (host("a", None), read(host("a", None))),
        (kept(host("a", None)), host("a", None)),
        (host("a", part(1)), host("a", None)),
        (host("a", part(1)), host("a", part(1))),
        (host("a", named("x")), host("a", named("x"))),
        (image(4096, 4096), image(4096, 4096)),
        (image(4096, 8192), read(image(8192, 512))),
    ] {
        let error = sharing(first.clone(), second.clone());
        assert!(matches!(error, Err(ManifestError::SharedDisk { .. })), "{first:?} {second:?}");
    }
    for (first, second) in [
        (host("a", None), host("b", None)),
        (read(host("a", None)), kept(host("a", None))),
        (host("a", part(1)), host("a", part(2))),
        (kept(image(4096, 4096)), read(image(4096, 4096))),
        (image(4096, 4096), image(8192, 4096)),
        (image(4096, 4096), host("a", None)),
    ] {
        assert_eq!(sharing(first.clone(), second.clone()), Ok(()), "{first:?} {second:?}");
    }
}

#[test]
fn a_written_image_is_no_part_of_a_guests_memory() {
    assert!(matches!(sharing(image(0, 4096), host("a", None)), Err(ManifestError::SharedDisk { .. })));
    let read = DiskConfig { readonly: true, ..image(0, 4096) };
    assert_eq!(sharing(read, host("a", None)), Ok(()));
}

#[test]
fn switches_have_names_of_their_own() {
    let switches = |names: &[&str]| {
        let named = |name: &&str| SwitchConfig { name: (*name).into(), uplink: None };
        let switches = names.iter().map(named).collect();
        check_after(|manifest| manifest.switches = switches)
    };
    assert_eq!(switches(&["lan", "lan"]), Err(ManifestError::DuplicateSwitch("lan".into())));
    assert_eq!(switches(&["a b"]), Err(ManifestError::SwitchName("a b".into())));
    // The guest is at switch 0.
    let error = VmError::Net { number: 1, error: NetError::Switch(0) };
    assert_eq!(switches(&[]), Err(ManifestError::Vm { name: "linux".into(), error }));
}

#[test]
fn an_address_belongs_to_one_interface() {
    let (a, b) = (Mac([2, 0, 0, 0, 0, 0xa]), Mac([2, 0, 0, 0, 0, 0xb]));
    let nets = |nets: Vec<(Attach, Mac)>| {
        check_after(|manifest| {
            manifest.switches[0].uplink = Some(Mac([2, 0, 0, 0, 0, 0]));
            let net = |(attach, mac)| NetConfig { attach, mac, rate: None };
            manifest.vms[0].nets = nets.into_iter().map(net).collect();
        })
    };
    let lan = Attach::Switch(0);
    assert_eq!(nets(vec![(lan, a), (lan, b)]), Ok(()));
    assert_eq!(nets(vec![(Attach::HostNic(a), a)]), Ok(()));
    for twice in [
        vec![(lan, a), (lan, a)],
        vec![(lan, Mac([2, 0, 0, 0, 0, 0]))],
        vec![(Attach::HostNic(a), a), (lan, a)],
        vec![(Attach::HostNic(a), b), (Attach::HostNic(a), Mac([2, 0, 0, 0, 0, 0xc]))],
        vec![(Attach::HostNic(Mac([2, 0, 0, 0, 0, 0])), a)],
    ] {
        assert!(matches!(nets(twice.clone()), Err(ManifestError::DuplicateMac { .. })), "{twice:?}");
    }
}

#[test]
fn an_interface_has_a_unicast_address_and_a_rate_that_lets_frames_pass() {
    let wrong = |change: &dyn Fn(&mut NetConfig)| match vm_error(|vm| change(&mut vm.nets[0])) {
        VmError::Net { number: 1, error } => error,
        other => panic!("{other:?}"),
    };
    let group = Mac([0xff; 6]);
    assert_eq!(wrong(&|net| net.mac = group), NetError::Mac(group));
    assert_eq!(wrong(&|net| net.attach = Attach::HostNic(Mac([0; 6]))), NetError::Mac(Mac([0; 6])));
    assert_eq!(wrong(&|net| net.rate = Some(1023)), NetError::Rate(1023));
    let uplink = check_after(|manifest| manifest.switches[0].uplink = Some(group));
    assert_eq!(uplink, Err(ManifestError::Uplink { name: "lan".into(), uplink: group }));
}
