use super::*;
use crate::hardware::{host_words, native_words};
use crate::manifest::{Net, Switch};
use hypo_common::qemu::as_shell;
use std::fs;
use tempfile::TempDir;

/// A folder with the disk images `a` and `b`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), [0; 4096]).unwrap();
    fs::write(folder.path().join("b"), [0; 8192]).unwrap();
    folder
}

fn file(folder: &TempDir, name: &str) -> Disk {
    Disk::file(folder.path().join(name))
}

fn readonly(disk: Disk) -> Disk {
    Disk { readonly: true, ..disk }
}

fn snapshot(disk: Disk) -> Disk {
    Disk { snapshot: true, ..disk }
}

fn vm(name: &str, disks: Vec<Disk>, nets: Vec<Net>) -> Vm {
    Vm { disks, nets, ..Vm::new(name, "k".into()) }
}

fn on(switch: &str) -> Net {
    Net { to: To::Switch(switch.into()), mac: None, rate: None }
}

fn user() -> Net {
    Net { to: To::User(Vec::new()), mac: None, rate: None }
}

fn manifest(vms: Vec<Vm>) -> Manifest {
    let mut manifest = Manifest::of(vms[0].clone());
    manifest.vms = vms;
    let switch = |name: &str, uplink| Switch { name: name.into(), uplink };
    manifest.switches = vec![switch("lan", Some(Uplink::User(Vec::new()))), switch("back", None)];
    manifest
}

fn message(vms: Vec<Vm>) -> String {
    Attachments::of(&manifest(vms)).unwrap_err().to_string()
}

#[test]
fn a_file_is_one_host_disk_however_many_read_it() {
    let folder = folder();
    std::os::unix::fs::symlink("a", folder.path().join("c")).unwrap();
    let vms = vec![
        vm("one", vec![readonly(file(&folder, "a")), file(&folder, "b")], vec![]),
        vm("two", vec![snapshot(file(&folder, "c"))], vec![]),
    ];
    let found = Attachments::of(&manifest(vms)).unwrap();
    let drives: Vec<_> = found.drives.iter().map(|drive| (drive.serial.as_str(), drive.readonly)).collect();
    assert_eq!(drives, [("d0-one", true), ("d1-one", false)]);
    let disk = &found.guests[1].disks[0];
    assert!(matches!(&disk.sectors, Sectors::Host { serial, partition: None } if serial == "d0-one"));
    assert_eq!((disk.serial.as_str(), disk.capacity()), ("two-1", Some(4096)));
}

#[test]
fn a_disk_that_is_written_has_one_user() {
    let folder = folder();
    fs::hard_link(folder.path().join("a"), folder.path().join("linked")).unwrap();
    let host = |partition| Disk { source: Source::Host("S".into()), partition, ..file(&folder, "a") };
    let number = |number| Some(Partition::Number(number));
    for (first, second) in [
        (file(&folder, "a"), file(&folder, "a")),
        (file(&folder, "a"), readonly(file(&folder, "linked"))),
        (snapshot(file(&folder, "a")), file(&folder, "a")),
        (host(None), host(number(1))),
        (host(number(1)), readonly(host(number(1)))),
    ] {
        let two =
            |first: Disk, second: Disk| vec![vm("one", vec![first], vec![]), vm("two", vec![second], vec![])];
        let said = message(two(first.clone(), second.clone()));
        assert!(
            said.starts_with("guest `two`, disk 1: `") && said.contains("that of guest `one`, disk 1"),
            "{said}"
        );
        // A guest can get in its own way.
        assert!(message(vec![vm("one", vec![first.clone(), second.clone()], vec![])]).contains("disk 2"));
        let both = two(readonly(first), snapshot(second));
        assert!(Attachments::of(&manifest(both)).is_ok());
    }
    let apart = vec![vm("one", vec![host(number(1)), host(number(2))], vec![])];
    assert!(Attachments::of(&manifest(apart)).is_ok());
    // Each guest has its own copy of an image.
    let image = || Disk { source: Source::Image(folder.path().join("a")), ..file(&folder, "a") };
    let copies = vec![vm("one", vec![image(), image()], vec![]), vm("two", vec![image()], vec![])];
    assert!(Attachments::of(&manifest(copies)).is_ok());
}

#[test]
fn partitions_of_a_file_are_told_apart_whatever_they_are_called() {
    let folder = folder();
    let mut table = include_bytes!("../../../crates/block/src/gpt/fixtures/sfdisk.bin").to_vec();
    table.resize(8 << 20, 0);
    fs::write(folder.path().join("table"), table).unwrap();
    let part = |partition| Disk { partition: Some(partition), ..file(&folder, "table") };
    let named = |name: &str| part(Partition::Name(name.into()));
    let (first, second) = (part(Partition::Number(1)), part(Partition::Number(2)));
    let apart = vec![vm("one", vec![first.clone()], vec![]), vm("two", vec![second], vec![])];
    let found = Attachments::of(&manifest(apart)).unwrap();
    assert_eq!((found.drives.len(), found.guests[1].disks[0].capacity()), (1, Some(1 << 20)));
    assert!(
        Attachments::of(&manifest(vec![vm("one", vec![first.clone(), named("second")], vec![])])).is_ok()
    );
    assert!(
        message(vec![vm("one", vec![first.clone(), named("first")], vec![])]).contains("that of guest `one`")
    );
    assert!(
        message(vec![vm("one", vec![first, file(&folder, "table")], vec![])]).contains("that of guest `one`")
    );
}

#[test]
fn an_image_that_is_too_large_for_memory_is_refused() {
    let folder = folder();
    let large = fs::File::create(folder.path().join("large")).unwrap();
    large.set_len((1 << 30) + 512).unwrap();
    let image = Disk { source: Source::Image(folder.path().join("large")), ..file(&folder, "a") };
    let said = message(vec![vm("one", vec![image], vec![])]);
    assert!(said.contains("an `image` has 1G at most") && said.contains("use `file`"), "{said}");
}

#[test]
fn a_missing_disk_with_a_size_is_made_once() {
    let folder = folder();
    let new = || Disk { size: Some(Size(1 << 20)), ..file(&folder, "new") };
    assert!(
        message(vec![vm("one", vec![new()], vec![]), vm("two", vec![new()], vec![])])
            .contains("that of guest `one`")
    );
    let mut found = Attachments::of(&manifest(vec![vm("one", vec![new()], vec![])])).unwrap();
    assert!(!folder.path().join("new").exists());
    found.create_files().unwrap();
    found.create_files().unwrap();
    assert_eq!(fs::metadata(folder.path().join("new")).unwrap().len(), 1 << 20);
}

#[test]
fn addresses_stay_the_same_and_never_meet() {
    let taken = Mac([0x52, 0x54, 0, 0, 2, 1]);
    let given = Net { mac: Some(taken), ..on("back") };
    let vms = vec![vm("one", vec![], vec![on("lan"), given]), vm("two", vec![], vec![user(), on("back")])];
    let found = Attachments::of(&manifest(vms)).unwrap();
    let macs =
        |guest: usize| found.guests[guest].nets.iter().map(|net| net.mac.to_string()).collect::<Vec<_>>();
    assert_eq!(macs(0), ["52:54:00:00:01:01", "52:54:00:00:02:01"]);
    assert_eq!(macs(1), ["52:54:00:01:02:01", "52:54:00:00:02:02"]);
    assert_eq!(found.switches[0].uplink, Some(Mac([0x52, 0x54, 0, 0xff, 0, 1])));
    assert_eq!(found.guests[1].nets[0].attach, Attach::HostNic(found.guests[1].nets[0].mac));
    assert_eq!(
        (found.guests[0].nets[0].attach, found.guests[0].nets[1].attach),
        (Attach::Switch(0), Attach::Switch(1))
    );
    assert_eq!(found.nics.len(), 2);
}

#[test]
fn an_address_is_given_once() {
    let with = |mac| Net { mac: Some(mac), ..on("lan") };
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let said = message(vec![vm("one", vec![], vec![with(mac)]), vm("two", vec![], vec![with(mac)])]);
    assert!(
        said.starts_with("guest `two`, net 1: the address 02:00:00:00:00:01 is that of guest `one`, net 1"),
        "{said}"
    );
    assert!(message(vec![vm("one", vec![], vec![with(Mac([0xff; 6]))])]).contains("a group's address"));
    let nic = Net { to: To::Nic(mac), mac: Some(mac), rate: None };
    let found = Attachments::of(&manifest(vec![vm("one", vec![], vec![nic.clone()])])).unwrap();
    assert_eq!(
        (found.guests[0].nets[0].attach, found.nics.len()),
        (Attach::HostNic(mac), 1),
        "the uplink alone"
    );
    assert!(message(vec![vm("one", vec![], vec![nic.clone(), nic])]).contains("is that of"));
}

#[test]
fn slots_are_counted_in_the_guest_and_in_the_host() {
    let folder = folder();
    let disks = |count| vec![readonly(file(&folder, "a")); count];
    assert!(Attachments::of(&manifest(vec![vm("one", disks(5), vec![user(), user()])])).is_ok());
    let said = message(vec![vm("one", disks(6), vec![user(), user()])]);
    assert!(said.contains("6 disks and 2 nets; a guest has 7 slots"), "{said}");
    let consoled = Vm { console: ConsoleConfig::Virtio, ..vm("one", disks(7), vec![]) };
    assert!(message(vec![consoled]).contains("and a virtio console"));
    // One file, eight NICs and the uplink.
    let said = message(vec![vm("one", disks(1), vec![user(); 4]), vm("two", vec![], vec![user(); 4])]);
    assert!(said.contains("guest `two`") && said.contains("10, not 8"), "{said}");
}

/// What QEMU does about errors of this machine's disks.
const ERRORS: &str = "werror=report,rerror=report";

#[test]
fn qemu_makes_the_hosts_disks_and_nics() {
    let folder = folder();
    let (path, errors) = (folder.path().display().to_string(), ERRORS);
    let vms = vec![vm("one", vec![snapshot(file(&folder, "a")), file(&folder, "b")], vec![on("lan")])];
    let found = Attachments::of(&manifest(vms)).unwrap();
    assert_eq!(
        as_shell(&host_words(&found.drives, &found.nics).words),
        format!(
            "-drive if=none,id=disk0,format=raw,discard=unmap,{errors},readonly=on,file={path}/a \
             -device virtio-blk-device,drive=disk0,serial=d0-one \
             -drive if=none,id=disk1,format=raw,discard=unmap,{errors},file={path}/b \
             -device virtio-blk-device,drive=disk1,serial=d1-one \
             -netdev user,id=net0 -device virtio-net-device,netdev=net0,mac=52:54:00:ff:00:01"
        )
    );
}

#[test]
fn without_the_hypervisor_a_guest_has_the_same_devices_in_the_same_slots() {
    let folder = folder();
    let (path, errors) = (folder.path().display().to_string(), ERRORS);
    let forwarded = Net { to: To::User(vec!["tcp:2222:22".parse().unwrap()]), ..user() };
    let disks = vec![snapshot(file(&folder, "a")), file(&folder, "b")];
    let one = vm("one", disks, vec![forwarded, on("back")]);
    let manifest = manifest(vec![one]);
    let found = Attachments::of(&manifest).unwrap();
    assert_eq!(
        as_shell(&native_words(&manifest, &found.guests[0], &found.drives).unwrap().words),
        format!(
            "-global virtio-mmio.force-legacy=false \
             -drive if=none,id=disk0,format=raw,discard=unmap,{errors},snapshot=on,file={path}/a \
             -device virtio-blk-device,drive=disk0,serial=one-1,bus=virtio-mmio-bus.1 \
             -drive if=none,id=disk1,format=raw,discard=unmap,{errors},file={path}/b \
             -device virtio-blk-device,drive=disk1,serial=one-2,bus=virtio-mmio-bus.0 \
             -netdev user,hostfwd=tcp:127.0.0.1:2222-:22,id=net0 \
             -device virtio-net-device,netdev=net0,mac=52:54:00:00:01:01,bus=virtio-mmio-bus.3 \
             -netdev hubport,hubid=1,id=net1 \
             -device virtio-net-device,netdev=net1,mac=52:54:00:00:01:02,bus=virtio-mmio-bus.2 \
             -device virtio-rng-device,bus=virtio-mmio-bus.4"
        )
    );
}

#[test]
fn without_the_hypervisor_a_guest_has_the_transport_that_it_has_with_it() {
    for (virtio, words) in
        [(bundle::VirtioTransport::Modern, "false"), (bundle::VirtioTransport::Legacy, "true")]
    {
        let manifest = manifest(vec![Vm { virtio, ..vm("one", Vec::new(), Vec::new()) }]);
        let found = Attachments::of(&manifest).unwrap();
        let words = format!("-global virtio-mmio.force-legacy={words} ");
        let all = as_shell(&native_words(&manifest, &found.guests[0], &found.drives).unwrap().words);
        assert!(all.starts_with(&words), "{all}");
    }
}

#[test]
fn what_qemu_alone_cannot_attach_is_refused() {
    let folder = folder();
    let host = Disk { source: Source::Host("S".into()), ..file(&folder, "a") };
    let nic = Net { to: To::Nic(Mac([2, 0, 0, 0, 0, 1])), mac: None, rate: None };
    for (disks, nets, what) in
        [(vec![host], vec![], "disk of the host's"), (vec![], vec![nic], "NIC of the host's")]
    {
        let manifest = manifest(vec![vm("one", disks, nets)]);
        let found = Attachments::of(&manifest).unwrap();
        let error = native_words(&manifest, &found.guests[0], &found.drives).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}
