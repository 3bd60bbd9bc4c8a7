//! Between exits: timers, interrupt lines, waiting, and the hardware state that a vCPU runs with.

use std::num::NonZeroU64;

use isa::csr::{CsrAddr, senvcfg, sstatus};
use isa::paging::{Mode, Satp};
use isa::{Exception, Interrupt, Privilege};
use memory::{GuestPhysAddr, HartAuthority};
use mmu::TlbFlush;
use vhart::{RootSatp, Roots, Space};
use vmm::CsrFeatures;
use vmm::vcpu::RunState;
use vmm::vm::{self, Entry, Next};

use crate::support::paging::{RWX, Tables};
use crate::support::{ENTRY, FEATURES, Guest, HANDLER, UART, asm};

/// Asserts that the guest runs and gives the hardware state.
#[track_caller]
fn entry(guest: &mut Guest) -> Entry {
    match guest.prepare() {
        Next::Run(entry) => entry,
        Next::Idle => panic!("the guest waits"),
    }
}

/// Lets the UART interrupt through the PLIC, and types a byte.
fn raise_external(guest: &mut Guest) {
    let write = |guest: &mut Guest, address: u64, width, value| {
        let written = guest.machine.write_device(GuestPhysAddr(address), width, value, &mut guest.host);
        assert_eq!(written, Ok(vmm::machine::Written::Done));
    };
    let uart_source = u64::from(devices::board::UART_IRQ);
    write(guest, 0x0c00_0000 + 4 * uart_source, isa::Width::Word, 1);
    // Hart 0's S-mode is context 1.
    write(guest, 0x0c00_2080, isa::Width::Word, 1 << uart_source);
    write(guest, UART + 1, isa::Width::Byte, 1);
    guest.host.input.push_back(b'x');
    guest.machine.feed_console(&mut guest.host);
}

fn enable(guest: &mut Guest, interrupts: &[Interrupt]) {
    guest.set_csr(CsrAddr::SIE, interrupts.iter().fold(0, |sie, interrupt| sie | interrupt.mask()));
    guest.set_csr(CsrAddr::SSTATUS, sstatus::SIE);
}

#[test]
fn wfi_waits_for_an_enabled_interrupt_whatever_sie_in_sstatus_says() {
    for global in [0, sstatus::SIE] {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SSTATUS, global);
        guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
        guest.execute(asm::WFI);
        assert_eq!(guest.prepare(), Next::Idle);
        guest.vcpu.set_line(Interrupt::Software, true);
        assert_eq!(guest.prepare(), Next::Idle, "not enabled in sie");
        guest.vcpu.set_line(Interrupt::Timer, true);
        entry(&mut guest);
        if global == 0 {
            assert_eq!((guest.pc(), guest.csr(CsrAddr::SCAUSE)), (ENTRY + 4, 0));
        } else {
            let taken = (guest.pc(), guest.csr(CsrAddr::SEPC), guest.csr(CsrAddr::SCAUSE));
            assert_eq!(taken, (HANDLER, ENTRY + 4, Interrupt::Timer.cause()));
        }
    }
}

#[test]
fn wfi_with_an_interrupt_pending_does_not_wait() {
    let mut guest = Guest::new();
    guest.set_csr(CsrAddr::SIE, Interrupt::Software.mask());
    guest.vcpu.set_line(Interrupt::Software, true);
    guest.execute(asm::WFI);
    entry(&mut guest);
    assert_eq!(guest.pc(), ENTRY + 4);
}

#[test]
fn wfi_with_nothing_enabled_waits_for_ever() {
    let mut guest = Guest::new();
    for interrupt in Interrupt::BY_PRIORITY {
        guest.vcpu.set_line(interrupt, true);
    }
    guest.execute(asm::WFI);
    assert_eq!(guest.prepare(), Next::Idle);
}

#[test]
fn external_comes_before_software_comes_before_timer() {
    let mut guest = Guest::new();
    raise_external(&mut guest);
    guest.machine.links[0].send_software_interrupt();
    guest.vcpu.timer.set(0);
    guest.tick(1);
    let mut sie = Interrupt::External.mask() | Interrupt::Software.mask() | Interrupt::Timer.mask();
    for interrupt in Interrupt::BY_PRIORITY {
        guest.set_csr(CsrAddr::SSTATUS, sstatus::SIE);
        guest.set_csr(CsrAddr::SIE, sie);
        entry(&mut guest);
        assert_eq!(guest.csr(CsrAddr::SCAUSE), interrupt.cause());
        sie &= !interrupt.mask();
    }
}

#[test]
fn an_interrupt_waits_until_sret_enables_it() {
    let mut guest = Guest::new();
    guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
    guest.vcpu.set_line(Interrupt::Timer, true);
    guest.set_csr(CsrAddr::SSTATUS, sstatus::SPP | sstatus::SPIE);
    guest.set_csr(CsrAddr::SEPC, ENTRY + 0x100);
    entry(&mut guest);
    assert_eq!(guest.pc(), ENTRY);
    guest.execute(asm::SRET);
    entry(&mut guest);
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SEPC)), (HANDLER, ENTRY + 0x100));
}

#[test]
fn user_mode_takes_interrupts_though_sie_in_sstatus_is_clear() {
    let mut guest = Guest::new();
    guest.vcpu.frame.privilege = Privilege::User;
    guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
    guest.vcpu.set_line(Interrupt::Timer, true);
    entry(&mut guest);
    assert_eq!(guest.csr(CsrAddr::SCAUSE), Interrupt::Timer.cause());
    assert_eq!(guest.vcpu.frame.privilege, Privilege::Supervisor);
}

#[test]
fn a_vectored_stvec_sends_each_interrupt_to_its_own_entry() {
    for interrupt in Interrupt::BY_PRIORITY {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::STVEC, HANDLER | 1);
        enable(&mut guest, &[interrupt]);
        if interrupt == Interrupt::External {
            raise_external(&mut guest);
        } else {
            guest.vcpu.set_line(interrupt, true);
        }
        entry(&mut guest);
        assert_eq!(guest.pc(), HANDLER + 4 * interrupt.code());
    }
}

#[test]
fn seip_follows_the_plic_up_and_down() {
    let mut guest = Guest::new();
    entry(&mut guest);
    assert_eq!(guest.csr(CsrAddr::SIP), 0);
    raise_external(&mut guest);
    entry(&mut guest);
    assert_eq!(guest.csr(CsrAddr::SIP), Interrupt::External.mask());
    guest.set_csr(CsrAddr::SIP, 0);
    assert_eq!(guest.csr(CsrAddr::SIP), Interrupt::External.mask(), "SEIP is read-only");
    // A claim takes the request out of the PLIC.
    let claimed = guest.machine.read_device(GuestPhysAddr(0x0c20_1004), isa::Width::Word, &mut guest.host);
    assert_eq!(claimed, Ok(u64::from(devices::board::UART_IRQ)));
    entry(&mut guest);
    assert_eq!(guest.csr(CsrAddr::SIP), 0);
}

#[test]
fn a_software_interrupt_from_outside_survives_the_guests_write_of_sip() {
    let mut guest = Guest::new();
    entry(&mut guest);
    guest.machine.links[0].send_software_interrupt();
    guest.execute(asm::csrrw(0, CsrAddr::SIP.as_u16(), 0));
    entry(&mut guest);
    assert_eq!(guest.csr(CsrAddr::SIP), Interrupt::Software.mask());
    guest.execute(asm::csrrw(0, CsrAddr::SIP.as_u16(), 0));
    entry(&mut guest);
    assert_eq!(guest.csr(CsrAddr::SIP), 0, "it comes once");
}

#[test]
fn the_timer_is_pending_from_its_deadline_on_and_wanted_only_until_then() {
    let mut guest = Guest::new();
    assert_eq!(vm::deadline(&guest.machine, &guest.vcpu), u64::MAX);
    guest.vcpu.timer.set(5000);
    assert_eq!(vm::deadline(&guest.machine, &guest.vcpu), 5000);
    guest.tick(4999);
    assert_eq!(guest.csr(CsrAddr::SIP), 0);
    guest.tick(5000);
    assert_eq!(guest.csr(CsrAddr::SIP), Interrupt::Timer.mask());
    assert_eq!(vm::deadline(&guest.machine, &guest.vcpu), u64::MAX, "it has fired");
}

#[test]
fn a_devices_deadline_comes_before_a_later_timer_and_ticking_at_it_is_enough() {
    let mut guest = Guest::new();
    raise_external(&mut guest);
    // A byte below the receive trigger: the port's time-out is to come.
    let write = |guest: &mut Guest, offset, value| {
        let port = GuestPhysAddr(UART + offset);
        let written = guest.machine.write_device(port, isa::Width::Byte, value, &mut guest.host);
        assert_eq!(written, Ok(vmm::machine::Written::Done));
    };
    write(&mut guest, 2, 0xc1);
    guest.host.input.push_back(b'y');
    guest.machine.feed_console(&mut guest.host);
    let due = vm::deadline(&guest.machine, &guest.vcpu);
    assert!(due > guest.host.now && due < u64::MAX, "{due}");
    guest.vcpu.timer.set(due + 1);
    assert_eq!(vm::deadline(&guest.machine, &guest.vcpu), due);
    guest.tick(due);
    assert_eq!(vm::deadline(&guest.machine, &guest.vcpu), due + 1, "the device has had its turn");
}

#[test]
fn a_vcpu_runs_with_the_root_of_its_context_and_a_clean_tlb() {
    let mut guest = Guest::new();
    let first = entry(&mut guest);
    assert_eq!(first.flush, TlbFlush::All, "a new vCPU");
    let again = entry(&mut guest);
    assert_eq!((again.root, again.flush), (first.root, TlbFlush::Nothing));
    Tables::new().enable(&mut guest);
    let translated = entry(&mut guest);
    assert_ne!(translated.root, first.root);
    guest.vcpu.frame.privilege = Privilege::User;
    let user = entry(&mut guest);
    assert!(user.root != translated.root && user.root != first.root);
    guest.vcpu.frame.privilege = Privilege::Supervisor;
    assert_eq!(entry(&mut guest).root, translated.root, "contexts are kept");
}

#[test]
fn a_remote_fence_is_done_before_the_vcpu_runs() {
    let mut guest = Guest::new();
    entry(&mut guest);
    guest.machine.links[0].request_fence();
    assert_eq!(entry(&mut guest).flush, TlbFlush::All);
    assert_eq!(entry(&mut guest).flush, TlbFlush::Nothing);
}

#[test]
fn what_the_guest_did_to_its_units_is_taken_over_as_the_hardware_has_it() {
    let mut guest = Guest::new();
    let units = |guest: &Guest| guest.vcpu.frame.csr.unit_states();
    assert_eq!(units(&guest), sstatus::FS_DIRTY | sstatus::VS_DIRTY, "as firmware leaves them");
    guest.set_csr(CsrAddr::SSTATUS, sstatus::FS_INITIAL | sstatus::VS_DIRTY | sstatus::SUM);
    assert_eq!(units(&guest), sstatus::FS_INITIAL | sstatus::VS_DIRTY);
    guest.vcpu.frame.csr.take_unit_states(sstatus::FS_DIRTY | sstatus::VS_DIRTY | sstatus::SPIE);
    assert_eq!(guest.csr(CsrAddr::SSTATUS) & !sstatus::UXL_64, SD_AND_BOTH_DIRTY | sstatus::SUM);
    guest.vcpu.frame.csr.take_unit_states(0);
    assert_eq!(units(&guest), 0);
}

const SD_AND_BOTH_DIRTY: u64 = sstatus::SD | sstatus::FS_DIRTY | sstatus::VS_DIRTY;

#[test]
fn each_virtual_mode_runs_with_its_own_environment() {
    let mut guest = Guest::new();
    guest.set_csr(CsrAddr::SENVCFG, senvcfg::FIOM | senvcfg::CBIE | senvcfg::CBZE);
    entry(&mut guest);
    let all = senvcfg::CBIE_FLUSH | senvcfg::CBCFE | senvcfg::CBZE;
    let flushes = senvcfg::FIOM | senvcfg::CBIE_FLUSH | senvcfg::CBZE;
    assert_eq!(environment(&guest), ([flushes, all], true), "an invalidation becomes a flush");
    guest.set_csr(CsrAddr::SENVCFG, 0);
    entry(&mut guest);
    assert_eq!(environment(&guest), ([0, all], true));
    let bare = CsrFeatures { cache_blocks: false, cache_zero: false, widest_mode: Mode::Sv39, ..FEATURES };
    let mut guest = Guest::with_features(bare);
    entry(&mut guest);
    assert_eq!(environment(&guest), ([0, 0], false));
}

/// The real senvcfg in virtual user and supervisor mode, and whether the assembly is to switch between them.
fn environment(guest: &Guest) -> ([u64; 2], bool) {
    let fast = &guest.vcpu.frame.fast;
    ([Privilege::User, Privilege::Supervisor].map(|mode| fast.senvcfg(mode)), fast.switches_senvcfg())
}

#[test]
fn a_stopped_vcpu_is_woken_by_nothing() {
    let mut guest = Guest::new();
    guest.vcpu.state = RunState::Stopped;
    enable(&mut guest, &Interrupt::BY_PRIORITY);
    guest.machine.links[0].send_software_interrupt();
    raise_external(&mut guest);
    assert_eq!(guest.prepare(), Next::Idle);
}

/// The assembly enters spaces whose roots are at hand, and tells nobody.
#[test]
fn a_space_that_rust_enters_after_the_assembly_has_left_it_has_its_own_roots() {
    let satp = |asid| Satp::from_bits(Tables::satp()).map(|satp| Satp { asid, ..satp }.bits()).expect("Sv39");
    let (one, other) = (satp(1), satp(2));
    let mut guest = Guest::new();
    for satp in [other, one] {
        guest.set_csr(CsrAddr::SATP, satp);
        entry(&mut guest);
    }
    let own = guest.vcpu.frame.fast.roots;
    let others = guest.vcpu.frame.fast.spaces.get(other).expect("it was entered").roots;
    assert_ne!(own.supervisor_sum, others.supervisor_sum);
    assert_eq!(own.supervisor, others.supervisor, "kernels share theirs");
    // A third space takes the place of the first one, and the assembly goes to the second.
    guest.vcpu.frame.fast.spaces.forget_asid(1);
    guest.set_csr(CsrAddr::SATP, other);
    guest.vcpu.frame.fast.roots = others;
    guest.set_csr(CsrAddr::SATP, one);
    entry(&mut guest);
    assert_eq!(guest.vcpu.frame.fast.roots, own);
}

/// *own-root*
#[test]
fn a_root_that_is_not_the_vcpus_own_is_found_at_hand() {
    let mut tables = Tables::new();
    let mut guest = Guest::new();
    tables.map(&mut guest, ENTRY, ENTRY, RWX);
    tables.enable(&mut guest);
    guest.prepare();
    assert!(guest.vcpu.frame.fast.roots.user.is_some());
    assert!(guest.vcpu.frame.fast.spaces.get(Tables::satp()).is_some());
    assert_eq!(vm::foreign_root(&guest.vcpu), None);
    let own = guest.vcpu.frame.fast.roots;
    // Another root's ASID, another table, and no root's: in the present space, and in one that is remembered.
    for change in [1 << 44, 1, 1 << 12] {
        let changed = |root: Option<RootSatp>| {
            let bits = NonZeroU64::new(root.expect("it is at hand").bits() ^ change);
            bits.map(|bits| RootSatp::new(bits, HartAuthority::simulated()))
        };
        guest.vcpu.frame.fast.roots.user = changed(own.user);
        assert_eq!(vm::foreign_root(&guest.vcpu), changed(own.user));
        guest.vcpu.frame.fast.roots = own;
        let roots = Roots { supervisor_sum: changed(own.supervisor_sum), ..own };
        guest.vcpu.frame.fast.spaces.insert(Space { satp: Tables::satp(), roots });
        assert_eq!(vm::foreign_root(&guest.vcpu), changed(own.supervisor_sum));
        guest.vcpu.frame.fast.spaces.insert(Space { satp: Tables::satp(), roots: own });
    }
}

/// SFENCE.VMA x0, x0.
const SFENCE_VMA: u32 = 0x1200_0073;

/// MRET, of which firmware that complains of SRET, WFI and fences complains, too.
const MRET: u32 = 0x3020_0073;

/// The guest executes MRET, in this mode, `at` its `ENTRY`.
fn complain(guest: &mut Guest, privilege: Privilege) {
    guest.vcpu.frame.privilege = privilege;
    guest.vcpu.frame.pc = ENTRY;
    guest.execute(MRET);
    guest.assert_took(Exception::IllegalInstruction, ENTRY, MRET.into());
}

#[test]
fn a_guest_that_makes_the_firmware_print_is_held_back_and_an_interrupt_does_not_change_that() {
    for privilege in [Privilege::User, Privilege::Supervisor] {
        let mut guest = Guest::new();
        guest.machine.ram.overlay().require_scan();
        guest.tick(1000);
        let allowed = (0..2000).find(|_| {
            complain(&mut guest, privilege);
            guest.vcpu.state != RunState::Running
        });
        assert_eq!(allowed, Some(64));
        assert!(guest.machine.complaints.take_news());
        enable(&mut guest, &Interrupt::BY_PRIORITY);
        guest.machine.links[0].send_software_interrupt();
        assert_eq!(guest.prepare(), Next::Idle);
        let due = vm::deadline_of_sleeper(&guest.machine, &guest.vcpu);
        assert!(due > 1000 && due < u64::MAX, "{due}");
        guest.tick(due - 1);
        assert_eq!(guest.prepare(), Next::Idle);
        guest.tick(due);
        assert!(matches!(guest.prepare(), Next::Run(_)));
    }
}

#[test]
fn a_kernel_is_held_back_where_what_is_carried_out_makes_the_firmware_print_without_end() {
    for site in [SFENCE_VMA, asm::WFI] {
        // There is no room for copies.
        let mut guest = Guest::new();
        guest.machine.ram.overlay().require_scan();
        guest.set_csr(CsrAddr::SIE, Interrupt::Software.mask());
        guest.vcpu.set_line(Interrupt::Software, true);
        let allowed = (0..2000).find(|_| {
            guest.vcpu.frame.pc = ENTRY;
            guest.execute(site);
            assert_eq!(guest.pc(), ENTRY + 4);
            matches!(guest.vcpu.state, RunState::Held(_)) || guest.prepare() == Next::Idle
        });
        assert_eq!(allowed, Some(1024));
        assert_eq!(guest.prepare(), Next::Idle, "an interrupt does not end the pause");
        let due = vm::deadline_of_sleeper(&guest.machine, &guest.vcpu);
        guest.tick(due);
        assert!(matches!(guest.prepare(), Next::Run(_)));
    }
}

#[test]
fn where_the_firmware_does_not_complain_nobody_is_held_back() {
    let mut guest = Guest::new();
    (0..2000).for_each(|_| complain(&mut guest, Privilege::User));
    for _ in 0..2000 {
        guest.vcpu.frame.pc = ENTRY;
        guest.execute(SFENCE_VMA);
    }
    assert_eq!(guest.vcpu.state, RunState::Running);
}
