use super::*;
use crate::manifest::{Source, To, Uplink};
use bundle::{Mac, Partition};
use hypo_common::size::Address;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Manifest> {
    super::parse(Text::new(Path::new("m.toml"), text.to_owned()), |named| {
        Ok(Ready {
            append: "usual".into(),
            memory: Some(Size(1 << 30)),
            loads: vec![("usual".into(), Address(8))],
            hint: Some("hint".into()),
            ..Ready::new("usual", format!("{named:?}").into())
        })
    })
}

fn message(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn everything_can_be_said() {
    let manifest = parse(
        r#"
        [host]
        log-level = 3
        window = "0xffffffc000000000"
        [[switch]]
        name = "lan"
        uplink = "user"
        forward = ["tcp:2222:22"]
        [[switch]]
        name = "back"
        uplink = "02:00:00:00:00:01"
        [[switch]]
        name = "alone"
        [[vm]]
        name = "a"
        kernel = "Image"
        initrd = "rd"
        append = "quiet"
        memory = "64M"
        vcpus = 2
        weight = 300
        cap = 50
        console = "virtio"
        virtio = "legacy"
        on-reset = "exit"
        on-stop = "restart"
        max-restart-delay = "500ms"
        autostart = false
        rewrite = false
        fast = false
        exact = true
        [[vm.disk]]
        host = "SERIAL"
        partition = 2
        [[vm.disk]]
        host = "SERIAL"
        partition = "home"
        readonly = true
        serial = "home"
        [[vm.net]]
        switch = "lan"
        mac = "02:00:00:00:00:02"
        rate = "1M"
        [[vm.net]]
        host = "user"
        forward = ["udp:53:10.0.2.15:53"]
        [[vm.net]]
        host = "02:00:00:00:00:03"
        [[vm.load]]
        file = "x"
        address = 0x84000000
        [[vm]]
        name = "b"
        kernel = "b.elf"
        "#,
    )
    .unwrap();
    assert_eq!(manifest.host.window, Some(Address(0xffff_ffc0_0000_0000)));
    let lan: Uplink = Uplink::User(vec!["tcp:2222:22".parse().unwrap()]);
    let back = Uplink::Nic(Mac([2, 0, 0, 0, 0, 1]));
    let uplinks: Vec<_> = manifest.switches.iter().map(|switch| switch.uplink.clone()).collect();
    assert_eq!(uplinks, [Some(lan), Some(back), None]);
    let a = &manifest.vms[0];
    assert_eq!((a.memory, a.vcpus, a.weight, a.cap), (Size(64 << 20), 2, 300, Some(50)));
    assert_eq!((a.on_reset, a.on_stop, a.console), (OnReset::Exit, OnStop::Restart, ConsoleConfig::Virtio));
    assert_eq!(a.max_restart_delay, Delay(500));
    assert_eq!((a.virtio, manifest.vms[1].virtio), (VirtioTransport::Legacy, VirtioTransport::Modern));
    assert_eq!((a.autostart, a.rewrite, a.fast, a.exact), (false, false, false, true));
    assert_eq!(a.disks[0].source, Source::Host("SERIAL".into()));
    assert_eq!(a.disks[0].partition, Some(Partition::Number(2)));
    assert_eq!(a.disks[1].partition, Some(Partition::Name("home".into())));
    assert_eq!((a.disks[1].readonly, a.disks[1].serial.as_deref()), (true, Some("home")));
    assert_eq!((a.nets[0].mac, a.nets[0].rate), (Some(Mac([2, 0, 0, 0, 0, 2])), Some(Size(1 << 20))));
    assert_eq!(a.nets[0].to, To::Switch("lan".into()));
    assert!(matches!(&a.nets[1].to, To::User(forward) if forward.len() == 1));
    assert_eq!(a.nets[2].to, To::Nic(Mac([2, 0, 0, 0, 0, 3])));
    assert_eq!(a.load, [Load { file: "x".into(), address: Address(0x8400_0000) }]);
    assert_eq!(manifest.vms[1], Vm::new("b", "b.elf".into()));
}

#[test]
fn a_guest_with_a_name_has_what_the_manifest_leaves_out() {
    let manifest = parse(
        "[[vm]]\nname = 'a'\nguest = 'linux'\n\
         [[vm]]\nname = 'b'\nguest = 'linux'\nkernel = 'mine'\nappend = ''\nmemory = '64M'\ninitrd = 'rd'\n",
    )
    .unwrap();
    let (a, b) = (&manifest.vms[0], &manifest.vms[1]);
    assert_eq!(
        (a.kernel.as_path(), a.append.as_str(), a.memory),
        (Path::new("Linux"), "usual", Size(1 << 30))
    );
    assert_eq!((b.kernel.as_path(), b.append.as_str(), b.memory), (Path::new("mine"), "", Size(64 << 20)));
    assert_eq!((a.load.len(), b.initrd.as_deref()), (1, Some(Path::new("rd"))));
    assert_eq!((a.name.as_str(), manifest.hints.len()), ("a", 1));
}

#[test]
fn no_guest_is_prepared_for_a_manifest_with_mistakes() {
    let text = "[[vm]]\nname = 'a'\nguest = 'linux'\n[[vm.net]]\nswitch = 'lan'\n";
    let parsed = super::parse(Text::new(Path::new("m"), text.into()), |_| unreachable!());
    assert!(parsed.unwrap_err().to_string().contains("there is no switch `lan`"));
}

#[test]
fn a_mistake_is_shown_with_its_place_and_a_remedy() {
    let vm = "[[vm]]\nname = \"a\"\nkernel = \"x\"\n";
    let with = |rest: &str| format!("{vm}{rest}\n");
    for (text, place, what, remedy) in [
        ("[[vm]]\nname = \"a\"\nkernal = \"x\"\n", "line 3, column 1", "no key `kernal`", "write `kernel`"),
        (&with("colour = 1"), "line 4, column 1", "no key `colour`", "the keys here are `name`, "),
        (&with("memory = \"12Q\""), "line 4, column 10", "`12Q` is not a size", "write for example 512M"),
        (&with("memory = 512"), "line 4, column 10", "integer `512`", "write a size in quotes"),
        (&with("vcpus = -1"), "line 4, column 9", "integer `-1`", "a whole number"),
        (&with("autostart = \"no\""), "line 4, column 13", "string \"no\"", "write true or false"),
        (&with("on-reset = \"exti\""), "line 4, column 12", "`exti`", "write \"exit\""),
        (&with("guest = \"linus\""), "line 4, column 9", "no guest named `linus`", "write \"linux\""),
        (&with("guest = \"bsd\""), "line 4, column 9", "no guest named `bsd`", "`minikernel`, "),
        ("[[vm]]\nkernel = \"a\"\n", "line 1, column 1", "`name` is missing", "add `name = ...`"),
        ("[[vm]]\nname = \"a\"\n", "line 1, column 1", "guest `a` has no kernel", "`guest = \"linux\"`"),
        ("[host]\nlog = 1\n", "line 2, column 1", "no key `log`", "write `log-level`"),
        ("[[vms]]\n", "line 1, column 3", "no key `vms`", "write `vm`"),
        ("[[vm]\n", "line 1, column", "unclosed", "docs/manifest.md"),
        (&with("vcpus = 1\nvcpus = 2"), "line 5, column 1", "duplicate key", "docs/manifest.md"),
        ("", "line 1, column 1", "no [[vm]]", "add `[[vm]]`"),
        (&with("[[vm.disk]]\nreadonly = true"), "line 4, column 1", "no source", "add `file"),
        (&with("[[vm.disk]]\nfile = 'x'\nimage = 'y'"), "line 4, column 1", "several sources", "keep one"),
        (&with("[[vm.disk]]\nimage = 'x'\npartition = 1"), "line 4, column 1", "no partitions", "use `file`"),
        (&with("[[vm.disk]]\nhost = 'x'\npartition = 0"), "line 6, column 13", "from 1", "Linux"),
        (
            &with("[[vm.disk]]\nhost = 'x'\nread-only = true"),
            "line 6, column 1",
            "no key",
            "write `readonly`",
        ),
        (&with("[[vm.net]]\nmac = '1'"), "line 5, column 7", "no Ethernet address", "52:54:00"),
        (&with("[[vm.net]]\nrate = '1M'"), "line 4, column 1", "connected to nothing", "add `switch"),
        (&with("[[vm.net]]\nhost = 'eth0'"), "line 5, column 8", "`eth0` is no NIC", "write \"user\""),
        (&with("[[vm.net]]\nhost = 'user'\nforward = ['22']"), "line 6, column 11", "`22`", "tcp:2222:22"),
        (&with("[[vm.net]]\nswitch = 'lan'"), "line 5, column 10", "no switch `lan`", "add `[[switch]]`"),
    ] {
        let message = message(text);
        let shown = message.starts_with(&format!("m.toml: {place}"));
        let (said, remedied) = message.split_once("\n  remedy: ").unwrap_or((&message, ""));
        assert!(shown && said.contains(what) && remedied.contains(remedy), "{message}");
    }
}

#[test]
fn paths_are_relative_to_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.toml");
    std::fs::write(folder.path().join("d"), [0; 512]).unwrap();
    std::fs::write(
        &path,
        "[[vm]]\nname = \"a\"\nkernel = \"k\"\ninitrd = \"/abs\"\n[[vm.disk]]\nfile = \"d\"\n",
    )
    .unwrap();
    let vm = load(&path, |_| unreachable!()).unwrap().vms.remove(0);
    assert_eq!(vm.kernel, folder.path().join("k"));
    assert_eq!(vm.initrd, Some("/abs".into()));
    assert_eq!(vm.disks[0].source, Source::File(folder.path().join("d")));
}

#[test]
fn a_load_is_a_file_at_an_address() {
    let load: Load = "some@where.bin@0x84000000".parse().unwrap();
    assert_eq!(load, Load { file: "some@where.bin".into(), address: Address(0x8400_0000) });
    assert!("file".parse::<Load>().unwrap_err().contains("has no address"));
}

proptest! {
    #[test]
    fn a_damaged_manifest_has_a_place_and_a_remedy_or_is_another_one(
        at in any::<prop::sample::Index>(),
        len in 0usize..12,
        text in "[ -~\\n]{0,6}|ä",
    ) {
        let example = "[[switch]]\nname = 'lan'\nuplink = 'user'\n\n[[vm]]\nname = 'a'\nkernel = 'k'\nmemory = \"64M\"\n\
            [[vm.net]]\nswitch = 'lan'\nmac = '02:00:00:00:00:02'\n[[vm.disk]]\nhost = 'S'\npartition = 1\n";
        let at = at.index(example.len());
        let damaged = format!("{}{text}{}", &example[..at], &example[(at + len).min(example.len())..]);
        if let Err(error) = parse(&damaged) {
            let message = error.to_string();
            prop_assert!(message.starts_with("m.toml: line ") && message.contains("\n  remedy: "), "{}", message);
        }
    }
}
