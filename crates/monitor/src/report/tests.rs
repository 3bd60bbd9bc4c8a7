use super::*;
use crate::control::{KindOfExit, Port, State};

#[test]
fn guests_in_a_table() {
    let guest = |name: &str, state, exits| Guest {
        name: name.into(),
        state,
        vcpus: 1,
        vcpu_time: 12_345_678_901,
        memory: 256 << 20,
        restarts: 2 * exits,
        exits,
    };
    let guests = [guest("web", State::Running, 1), guest("database", State::Crashed, 2)];
    assert_eq!(
        vms(&guests, 1, &[Some(1234), None]),
        " #  NAME      STATE    VCPUS  VCPU TIME   MEMORY  RESTARTS  EXITS/S\n \
          1  web       running      1    12.34 s  256 MiB         2    1,234\n\
         *2  database  crashed      1    12.34 s  256 MiB         4        -\n"
    );
}

#[test]
fn exits_are_ordered_by_what_they_cost() {
    let kind = |name, count, cost| KindOfExit { name, count, cost };
    let exits = Exits {
        kinds: [kind("mmio", 20, 10_000), kind("sbi", 60, 30_000), kind("wfi", 0, 0)].into(),
        fast: 1_000_000,
        unit: "cycles",
        others: [("shadow-fills", 12), ("code-copies", 3)].into(),
    };
    assert_eq!(
        stat("web", &exits, &[("sbi", 40)], 2_000_000_000),
        "web: 80 exits in 40,000 cycles, and 1,000,000 served in assembly\n\
         EXIT  COUNT   SHARE  PER SECOND  COST EACH  OF ALL COST\n\
         sbi      60  75.0 %          10        500       75.0 %\n\
         mmio     20  25.0 %          10        500       25.0 %\n\
         Beside them: shadow-fills 12, code-copies 3\n"
    );
    let uncounted = Exits { unit: "", ..exits };
    let text = stat("web", &uncounted, &[], 1_000_000_000);
    assert!(text.starts_with("web: 80 exits, and 1,000,000 served in assembly\n"), "{text}");
    assert!(text.contains("sbi      60  75.0 %          60          -            -\n"), "{text}");
}

#[test]
fn causes_have_words() {
    let event = |cause| Event { pc: 0x8020_0000, cause, value: 0x1000_0005 };
    let text = trace("web", &[event(13), event(Interrupt::Timer.cause()), event(24)]);
    assert_eq!(
        text,
        "web: the last exits that Rust has served, the latest last\n\
         PC                  STVAL               CAUSE\n\
         0x0000000080200000  0x0000000010000005  load page fault\n\
         0x0000000080200000  0x0000000010000005  timer interrupt\n\
         0x0000000080200000  0x0000000010000005  exception 24\n"
    );
    assert_eq!(trace("web", &[]), "web has not left yet\n");
    for code in 0..16 {
        assert!(!cause(code).is_empty() && !cause(code | Interrupt::CAUSE_BIT).is_empty());
    }
}

#[test]
fn memory_is_shown_in_lines_of_sixteen_bytes() {
    assert_eq!(
        memory(GuestPhysAddr(0x8020_0000), b"MZ\x00\xffRISCV\x00\x00\x00RSC\x05 more"),
        "0x0080200000  4d 5a 00 ff 52 49 53 43  56 00 00 00 52 53 43 05  MZ..RISCV...RSC.\n\
         0x0080200010  20 6d 6f 72 65                                     more\n"
    );
    assert_eq!(memory(GuestPhysAddr(0), &[]), "");
}

#[test]
fn switches_and_disks_in_tables() {
    let port = Port {
        owner: "web".into(),
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        sent: 1000,
        sent_bytes: 64_000,
        received: 2,
        received_bytes: 128,
        dropped: 1,
    };
    assert_eq!(
        net(&[Switch { name: "lan".into(), ports: [port].into() }]),
        "SWITCH  PORT  MAC                 SENT   BYTES  RECEIVED  BYTES  DROPPED\n\
         lan     web   52:54:00:12:34:56  1,000  64,000         2    128        1\n"
    );
    let one = Disk {
        guest: "web".into(),
        source: "root.img".into(),
        size: 2 << 30,
        mode: "snapshot",
        read: 4096,
        ..Disk::default()
    };
    assert_eq!(
        disk(&[one]),
        "GUEST  DISK       SIZE  MODE       READ  WRITTEN  FLUSHES  ERRORS\n\
         web    root.img  2 GiB  snapshot  4,096        0        0       0\n"
    );
    assert!(net(&[]).contains("[[switch]]"));
    assert!(disk(&[]).contains("[[vm.disk]]"));
}

#[test]
fn the_host_in_lines() {
    let facts = HostFacts {
        facts: [("version", "0.1.0".into()), ("memory", "1 GiB".into())].into(),
        guest_time: 250_000_000,
        idle_time: 500_000_000,
    };
    assert_eq!(
        host(&facts, 1_000_000_000),
        "version  0.1.0\nmemory   1 GiB\ntime     1.00 s: guests 25.0 %, idle 50.0 %, hypervisor 25.0 %\n"
    );
}

#[test]
fn help_names_every_command() {
    let text = help(None);
    for entry in COMMANDS {
        assert!(text.contains(entry.help), "{}", entry.name);
        assert!(entry.help.is_ascii());
        assert_eq!(help(Some(entry)), format!("{}: {}\n", entry.usage(), entry.help));
    }
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
}
