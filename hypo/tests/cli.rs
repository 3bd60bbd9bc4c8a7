//! The `hypo` program from outside: what wrong input gets, and what `pack` writes. Needs no QEMU: every case ends
//! before one would start.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The first 64 bytes of an ELF file of this class and machine, and one loadable segment at `address`.
fn elf(class: u8, machine: u16, address: u64) -> Vec<u8> {
    let mut file = vec![0; 128];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', class, 1, 1]);
    put(16, &2u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &1u16.to_le_bytes());
    put(64, &1u32.to_le_bytes());
    put(72, &120u64.to_le_bytes());
    put(88, &address.to_le_bytes());
    put(96, &8u64.to_le_bytes());
    put(104, &8u64.to_le_bytes());
    file
}

const RISCV: u16 = 243;
const X86_64: u16 = 62;

struct Hypo {
    folder: TempDir,
}

impl Hypo {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> &Self {
        fs::write(self.folder.path().join(name), contents).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hypo"));
        command.args(arguments).current_dir(self.path()).env("HYPO_CACHE", self.path().join("cache"));
        command.stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Fails unless the program ends with `status` and one message that has all of `texts`.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], status: i32, texts: &[&str]) {
        let output = self.output(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{message}");
        texts.iter().for_each(|text| assert!(message.contains(text), "no `{text}` in: {message}"));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn kernel_files_that_are_none_are_named_with_a_remedy() {
    let hypo = Hypo::new();
    let whole = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0; 40]].concat();
    hypo.file("empty", "").file("cut.gz", whole).file("k.bz2", "BZh91AY&SY");
    let uimage = |kind| {
        [&[0x27, 5, 0x19, 0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0][..], &[0; 14], &[kind], &[0; 99]].concat()
    };
    hypo.file("rd.uimage", uimage(3)).file("cut.uimage", uimage(2));
    hypo.file("rv32", elf(1, RISCV, 0x8020_0000)).file("x86", elf(2, X86_64, 0x8020_0000));
    hypo.file("low", elf(2, RISCV, 0x1000)).file("far", elf(2, RISCV, 0x1_0000_0000));
    for (name, text) in [
        ("missing", "No such file"),
        (".", "it is a directory"),
        ("/dev/zero", "not a regular file"),
        ("empty", "the file is empty"),
        ("cut.gz", "the gzip data is damaged"),
        ("k.bz2", "this is bzip2 data, which hypo cannot unpack\n  remedy: give the Linux Image"),
        (
            "rd.uimage",
            "holds no kernel (its type is 3, not 2)\n  remedy: give one made with `mkimage -T kernel`",
        ),
        ("cut.uimage", "the U-Boot image data is damaged or cut off"),
        ("rv32", "RISC-V, 32 bits\n  remedy: build it for 64-bit"),
        ("x86", "an x86 machine\n  remedy: build it for 64-bit"),
        ("low", "lies below RAM"),
        ("far", "give the guest 4G or more"),
    ] {
        hypo.refuses(&["run", "--kernel", name], 1, &[text]);
    }
}

#[test]
fn a_guest_that_does_not_fit_says_how_much_memory_would_do() {
    let hypo = Hypo::new();
    hypo.file("k", vec![0x13; 3 << 20]).file("rd", vec![1; 20 << 20]);
    hypo.refuses(&["run", "--kernel", "k", "--memory", "4M"], 1, &["does not fit in 4M", "8M or more"]);
    let arguments = ["run", "--kernel", "k", "--initrd", "rd", "--memory", "16M"];
    hypo.refuses(&arguments, 1, &["initial RAM disk", "64M or more"]);
    hypo.refuses(&["run", "--kernel", "k", "--memory", "5M"], 1, &["use a multiple of 2M"]);
    hypo.refuses(&["run", "--kernel", "k", "--vcpus", "9"], 1, &["use 1 to 8"]);
}

#[test]
fn bad_usage_has_a_status_of_its_own() {
    let hypo = Hypo::new();
    hypo.file("k", "x").file("two.toml", "[[vm]]\nname='a'\nkernel='k'\n[[vm]]\nname='b'\nkernel='k'\n");
    hypo.refuses(&["run", "freebsd"], 2, &["neither a guest's name nor a file"]);
    hypo.refuses(&["run", "k"], 2, &["--kernel k"]);
    hypo.refuses(&["run", "--kernel", "k", "--memory", "12Q"], 2, &["`12Q` is not a size"]);
    hypo.refuses(&["run", "--nonsense"], 2, &["unexpected argument"]);
    hypo.refuses(&["run", "two.toml", "--append", "x"], 2, &["several guests"]);
    hypo.refuses(&["pack", "two.toml"], 2, &["--output"]);
    hypo.refuses(&["run", "--kernel", "k", "--disk", "k,readonly,snapshot"], 2, &["leave one out"]);
    hypo.refuses(&["run", "--kernel", "k", "--net", "tap"], 2, &["write user"]);
    hypo.refuses(&["run", "linux", "--fresh"], 2, &["`hypo run debian`", "--snapshot"]);
    hypo.refuses(&["fetch", "windows"], 2, &["possible values: linux, debian, u-boot"]);
}

#[test]
fn a_manifests_mistakes_are_shown_with_their_place() {
    let hypo = Hypo::new();
    hypo.file("key.toml", "[[vm]]\nname = 'a'\nkernal = 'k'\n");
    hypo.file("size.toml", "[[vm]]\nname = 'a'\nkernel = 'k'\nmemory = '1X'\n");
    hypo.file("kernel.toml", "[[vm]]\nname = 'a'\nkernel = 'missing'\n");
    hypo.file("name.toml", "[[vm]]\nname = 'a b'\nkernel = 'k'\n").file("k", "x");
    hypo.refuses(
        &["run", "key.toml"],
        1,
        &["key.toml: line 3, column 1: there is no key `kernal`", "write `kernel`"],
    );
    hypo.refuses(&["run", "size.toml"], 1, &["line 4, column 10", "`1X` is not a size"]);
    hypo.refuses(&["run", "kernel.toml"], 1, &["line 3, column 10", "guest `a`", "`missing`"]);
    hypo.refuses(&["run", "name.toml"], 1, &["line 2, column 8", "the name must be"]);
    hypo.refuses(&["pack", ".", "-o", "b"], 1, &["cannot read the manifest"]);
    hypo.refuses(&["pack", "missing.toml", "-o", "b"], 1, &["missing.toml", "No such file"]);
}

#[test]
fn what_cannot_be_is_said_before_anything_starts() {
    let hypo = Hypo::new();
    let vm = |name: &str, rest: &str| format!("[[vm]]\nname = '{name}'\nkernel = 'k'\n{rest}\n");
    let disk = |name: &str, disk: &str| vm(name, &format!("[[vm.disk]]\n{disk}"));
    let net = |name: &str, net: &str| vm(name, &format!("[[vm.net]]\n{net}"));
    hypo.file("k", "x").file("odd.img", [0; 700]).file("empty.img", "").file("a.img", [0; 4096]);
    hypo.file("q.qcow2", [&b"QFI\xfb"[..], &[0; 508]].concat());
    for (text, texts) in [
        (
            vm("a", "memory = '2T'"),
            &["line 4, column 10", "memory of 2 TiB is not possible", "at most 1 TiB"][..],
        ),
        (vm("a", "memory = '3M'"), &["line 4, column 10", "3M of memory", "use a multiple of 2M"]),
        (vm("a", "weight = 0"), &["line 4, column 10", "a weight of 0", "use 1 to 10000"]),
        (vm("a", "cap = 101"), &["line 4, column 7", "a cap of 101 percent", "use 1 to 100"]),
        (vm("a", "") + &vm("a", ""), &["line 6, column 8", "two guests are named `a`", "rename one"]),
        (disk("a", "file = 'no.img'"), &["line 5, column 8", "there is no disk image", "truncate -s 1G"]),
        (disk("a", "image = 'no.img'"), &["line 5, column 9", "there is no disk image", "no.img"]),
        (disk("a", "file = 'empty.img'"), &["line 5, column 8", "is empty", "truncate"]),
        (disk("a", "file = 'odd.img'"), &["700 bytes, no multiple of 512", "truncate -s %512"]),
        (disk("a", "file = 'q.qcow2'"), &["a qcow2 image", "qemu-img convert -O raw"]),
        (disk("a", "file = 'a.img'\nsize = '1M'"), &["too small: 4K, not 1M", "make it larger"]),
        (
            disk("a", "file = 'a.img'\npartition = 1"),
            &["no partition 1: it has no GPT", "leave `partition` out"],
        ),
        (
            disk("a", "file = 'a.img'\nserial = ''"),
            &["line 4", "disk 1: the serial number ``", "use 1 to 20"],
        ),
        (
            disk("a", "file = 'a.img'") + &disk("b", "file = './a.img'\nreadonly = true"),
            &[
                "line 10, column 8",
                "guest `b`, disk 1: ",
                "that of guest `a`, disk 1",
                "make both `readonly`",
            ],
        ),
        (
            disk("a", "host = 'S'\npartition = 1") + &disk("b", "host = 'S'"),
            &["line 11, column 8", "`S` is also that of guest `a`, disk 1"],
        ),
        (net("a", "switch = 'lan'"), &["line 5, column 10", "there is no switch `lan`", "add `[[switch]]`"]),
        (
            net("a", "host = 'user'\nmac = '02:00:00:00:00:01'")
                + &net("b", "host = 'user'\nmac = '02:00:00:00:00:01'"),
            &["line 12, column 7", "the address 02:00:00:00:00:01 is that of guest `a`, net 1"],
        ),
        (vm("a", &"[[vm.net]]\nhost = 'user'\n".repeat(8)), &["line 1, column 1", "a guest has 7 slots"]),
        ("[host]\nlog-level = 9\n".to_owned() + &vm("a", ""), &["line 2, column 13", "log level 9", "use 0"]),
        ("[[switch]]\nname = 'a b'\n".to_owned() + &vm("a", ""), &["line 2, column 8", "switch", "letters"]),
    ] {
        hypo.file("m.toml", &text);
        let all = [texts, &["m.toml: line ", "\n  remedy: "]].concat();
        hypo.refuses(&["run", "m.toml"], 1, &all);
        hypo.refuses(&["pack", "m.toml", "-o", "b"], 1, &all);
    }
    assert!(!hypo.path().join("no.img").exists());
    hypo.refuses(&["run", "--kernel", "k", "--disk", "no.img"], 1, &["there is no disk image", "remedy: "]);
}

#[test]
fn disks_and_networks_are_packed() {
    let hypo = Hypo::new();
    hypo.file("k", "x").file("a.img", [7; 4096]).file("i.img", [9; 1024]);
    let disks = "[[vm.disk]]\nfile = 'a.img'\nsnapshot = true\n[[vm.disk]]\nimage = 'i.img'\n";
    let vm = |name| {
        format!("[[vm]]\nname = '{name}'\nkernel = 'k'\nweight = 7\n{disks}[[vm.net]]\nswitch = 'lan'\n")
    };
    hypo.file("m.toml", format!("[[switch]]\nname = 'lan'\nuplink = 'user'\n{}{}", vm("a"), vm("b")));
    let output = hypo.output(&["pack", "m.toml", "-o", "bundle"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("serial number d0-a") && told.contains("52:54:00:ff:00:01"), "{told}");
    let bytes = fs::read(hypo.path().join("bundle")).unwrap();
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let (manifest, payload) = bundle::format::read(&words).unwrap();
    assert_eq!(manifest.switches[0].uplink, Some(bundle::Mac([0x52, 0x54, 0, 0xff, 0, 1])));
    let mut places = Vec::new();
    for vm in &manifest.vms {
        assert_eq!((vm.weight, vm.nets[0].attach), (7, bundle::Attach::Switch(0)));
        let host = bundle::DiskSource::Host { serial: "d0-a".into(), partition: None };
        assert!(vm.disks[0].source == host && vm.disks[0].snapshot);
        let bundle::DiskSource::Image { offset, len } = vm.disks[1].source else { panic!("no image") };
        assert_eq!((payload[(offset / 8) as usize].to_ne_bytes(), len), ([9; 8], 1024));
        places.push((offset, vm.segments[0].offset));
    }
    assert!(places[0].0 != places[1].0, "each writes to its own copy");
    assert_eq!(places[0].1, places[1].1, "what both start with is there once");
}

#[test]
fn what_is_packed_can_be_read_by_the_hypervisor() {
    let hypo = Hypo::new();
    hypo.file("k", b"kernel!!").file("rd", b"disk");
    hypo.file(
        "m.toml",
        "[[vm]]\nname = 'a'\nkernel = 'k'\ninitrd = 'rd'\nappend = 'quiet'\non-reset = 'exit'\nfast = false\n",
    );
    let output = hypo.output(&["pack", "m.toml", "-o", "bundle"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = fs::read(hypo.path().join("bundle")).unwrap();
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let (manifest, payload) = bundle::format::read(&words).unwrap();
    let vm = &manifest.vms[0];
    assert_eq!((vm.name.as_str(), vm.entry, vm.bootargs.as_str()), ("a", 0x8020_0000, "quiet"));
    assert_eq!(vm.on_reset, bundle::OnReset::Exit);
    assert_eq!(vm.switches, bundle::Switches { fast: false, ..bundle::Switches::default() });
    assert_eq!(vm.initrd.map(|initrd| (initrd.address, initrd.len)), Some((0x8820_0000, 4)));
    assert_eq!(payload[(vm.segments[0].offset / 8) as usize].to_ne_bytes(), *b"kernel!!");
}

#[test]
fn a_bundle_that_cannot_be_written_is_an_error() {
    let hypo = Hypo::new();
    hypo.file("k", "x").file("m.toml", "[[vm]]\nname = 'a'\nkernel = 'k'\n");
    hypo.refuses(
        &["pack", "m.toml", "-o", "no/such/folder/b"],
        1,
        &["cannot write the bundle", "no/such/folder/b"],
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_mistake() {
    let hypo = Hypo::new();
    hypo.file("k", "x").file("a.img", [7; 4096]);
    hypo.file("m.toml", "[[vm]]\nname = 'a'\nkernel = 'k'\n[[vm.disk]]\nfile = 'a.img'\n");
    for arguments in [&["doctor"][..], &["--help"], &["run", "--help"], &["pack", "m.toml", "-o", "b"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = hypo.command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, "", "{arguments:?}");
        // The doctor may miss something on this machine.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", output.status);
    }
}

#[test]
fn a_full_disk_behind_an_output_is_said_where_it_can_be() {
    let hypo = Hypo::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for arguments in [&["doctor"][..], &["--help"], &["run", "--help"], &["--version"]] {
        let output = hypo.command(arguments).stdout(full()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("cannot write to standard output: No space left"), "{arguments:?}: {said}");
        assert_eq!(said.matches("hypo: ").count(), 1, "one message: {said}");
    }
    let output = hypo.command(&["run", "missing"]).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "what cannot be said is still the status");
}

#[test]
fn help_has_the_exit_statuses() {
    let output = Hypo::new().output(&["run", "--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for row in ["    0  the guest powered off", "   33  the guest was stopped", "  124  time-out"] {
        assert!(text.contains(row), "{text}");
    }
}
