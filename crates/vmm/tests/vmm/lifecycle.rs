//! Power-on and reset of a whole virtual machine.

use entropy::{Collector, Purpose, Source};
use isa::csr::{CsrAddr, sstatus};
use isa::{Exception, Interrupt, Privilege, Reg, TrapInfo, Width};
use memory::GuestPhysAddr;
use trace::ExitKind;
use vhart::csr::Read;
use vhart::units::SINGLE_ZERO;
use vmm::link::HartState;
use vmm::vcpu::RunState;
use vmm::vm::{self, Boot, Next};
use vmm::{Vcpu, Vm};

use crate::support::paging::Tables;
use crate::support::{ENTRY, FEATURES, Guest, HOLE, RAM, RAM_END, UART, new_machine, new_shadow, spare_ram};

const TREE: u64 = RAM + 0x10_0000;
const PLIC: u64 = 0x0c00_0000;

fn vm(tree_address: u64) -> Vm {
    vm_with(tree_address, vec![0xd0, 0x0d, 0xfe])
}

fn vm_with(tree_address: u64, tree: Vec<u8>) -> Vm {
    let mut random = Collector::new();
    random.add(Source::Firmware, &[1; 32]);
    let seeds = random.finish().stream(Purpose::DeviceTree, 0);
    let boot = Boot { entry: ENTRY, tree_address: GuestPhysAddr(tree_address), tree, seeds };
    let vcpus = (0..2).map(|id| Vcpu::new(id, FEATURES, new_shadow())).collect();
    Vm::new("test".into(), new_machine(spare_ram(), 2), vcpus, boot)
}

#[test]
fn the_first_hart_starts_at_the_kernel_with_its_id_and_the_device_tree() {
    let mut vm = vm(TREE);
    vm.start().unwrap();
    let [boot, other] = &vm.vcpus[..] else { panic!("two harts") };
    assert_eq!((boot.state, boot.frame.privilege), (RunState::Running, Privilege::Supervisor));
    assert_eq!((boot.frame.pc, boot.frame.get(Reg::A0), boot.frame.get(Reg::A1)), (ENTRY, 0, TREE));
    assert_eq!(boot.frame.csr.satp().bits(), 0);
    assert_eq!(other.state, RunState::Stopped);
    assert_eq!([0, 1].map(|hart| vm.machine.links[hart].state()), [HartState::Started, HartState::Stopped]);
    assert_eq!(vm.machine.ram.read_word(GuestPhysAddr(TREE)), Some(0xfe_0dd0));
    assert_eq!(vm.machine.ram.read_word(GuestPhysAddr(RAM)), Some(0), "nobody else's memory shows");
}

#[test]
fn the_kernel_finds_the_hart_and_the_board_as_firmware_leaves_them() {
    let mut vm = vm(TREE);
    vm.start().unwrap();
    let mut guest = Guest::new();
    let (machine, frame) = (&vm.machine, &vm.vcpus[0].frame);
    let csr = |csr| frame.csr.read(csr, Privilege::Supervisor);
    let units = sstatus::SD | sstatus::FS_DIRTY | sstatus::VS_DIRTY;
    assert_eq!(csr(CsrAddr::SSTATUS), Ok(Read::Value(sstatus::UXL_64 | units)));
    assert_eq!(csr(CsrAddr::SCOUNTEREN), Ok(Read::Value(7)));
    assert_eq!(csr(CsrAddr::STVEC), Ok(Read::Value(ENTRY)));
    assert_eq!((frame.units.float, frame.units.fcsr), ([SINGLE_ZERO; 32], 0));
    let mut read = |address, width| machine.read_device(GuestPhysAddr(address), width, &mut guest.host);
    let uart = [1, 2, 3, 4, 5].map(|register| read(UART + register, Width::Byte));
    assert_eq!(uart, [Ok(0), Ok(0xc1), Ok(3), Ok(0), Ok(0x60)]);
    // Two harts, two contexts each.
    let thresholds = [0, 1, 2, 3].map(|context| read(PLIC + 0x20_0000 + 0x1000 * context, Width::Word));
    assert_eq!(thresholds, [Ok(7); 4]);
}

#[test]
fn a_device_tree_that_does_not_fit_in_ram_is_refused() {
    for address in [HOLE, RAM_END - 2, u64::MAX] {
        assert!(vm(address).start().is_err());
    }
    assert!(vm(RAM_END - 3).start().is_ok());
}

#[test]
fn a_reset_brings_memory_registers_devices_and_letter_boxes_back() {
    let mut vm = vm(TREE);
    vm.start().unwrap();
    let mut guest = Guest::new();
    let (machine, vcpu) = (&vm.machine, &mut vm.vcpus[0]);
    machine.ram.write(GuestPhysAddr(RAM), &[1; 64]).unwrap();
    machine.ram.write(GuestPhysAddr(TREE), &[1; 64]).unwrap();
    let port = GuestPhysAddr(UART + 7);
    machine.write_device(port, Width::Byte, 0x5a, &mut guest.host).unwrap();
    machine.links[0].send_software_interrupt();
    machine.links[1].request_fence();
    let fault = TrapInfo { cause: Exception::LoadPageFault.code(), value: RAM };
    vm::serve(machine, vcpu, fault, &mut guest.host).unwrap();
    let breakpoint = TrapInfo { cause: Exception::Breakpoint.code(), value: 0 };
    vm::serve(machine, vcpu, breakpoint, &mut guest.host).unwrap();
    vcpu.frame.csr.write(CsrAddr::SATP, Tables::satp(), Privilege::Supervisor).unwrap();
    vcpu.frame.csr.write(CsrAddr::SIE, !0, Privilege::Supervisor).unwrap();
    vcpu.set_line(Interrupt::Timer, true);
    vcpu.timer.set(1);
    vcpu.frame.set(Reg::new(31), 31);
    vcpu.frame.privilege = Privilege::User;

    vm.start().unwrap();

    let (machine, vcpu) = (&vm.machine, &mut vm.vcpus[0]);
    assert_eq!(machine.ram.read_word(GuestPhysAddr(RAM)), Some(0));
    assert_eq!(machine.ram.read_word(GuestPhysAddr(TREE)), Some(0xfe_0dd0));
    assert_eq!(machine.read_device(port, Width::Byte, &mut guest.host), Ok(0));
    assert_eq!((vcpu.frame.pc, vcpu.frame.get(Reg::new(31))), (ENTRY, 0));
    assert_eq!((vcpu.state, vcpu.frame.privilege), (RunState::Running, Privilege::Supervisor));
    for csr in [
        CsrAddr::SIE,
        CsrAddr::SIP,
        CsrAddr::SENVCFG,
        CsrAddr::SSCRATCH,
        CsrAddr::SEPC,
        CsrAddr::SCAUSE,
        CsrAddr::STVAL,
        CsrAddr::SATP,
    ] {
        assert_eq!(vcpu.frame.csr.read(csr, Privilege::Supervisor), Ok(Read::Value(0)), "{csr:?}");
    }
    assert_eq!(vcpu.frame.csr.read(CsrAddr::STVEC, Privilege::Supervisor), Ok(Read::Value(ENTRY)));
    assert_eq!(mmu::check::check(&vcpu.caches.shadow, &machine.ram), Ok(0));
    assert_eq!(vm::deadline(machine, vcpu), u64::MAX);
    assert!(matches!(vm::prepare(machine, vcpu), Next::Run(_)));
    assert_eq!(vcpu.frame.pc, ENTRY, "no interrupt is left over");
    assert!(!machine.links[1].take_fence());
    assert_eq!(vcpu.exits.get(ExitKind::Fill), 1, "counters go on");
}

#[test]
fn each_start_has_a_seed_of_its_own() {
    let config = bundle::VmConfig { memory: RAM_END - RAM, vcpus: 1, ..Default::default() };
    let blob = vmm::tree::build(&config, Default::default(), isa::paging::Mode::Sv39, 10_000_000, &[0; 64]);
    let mut vm = vm_with(TREE, blob.clone());
    let mut starts = Vec::new();
    for _ in 0..3 {
        vm.start().unwrap();
        let mut tree = vec![0; blob.len()];
        vm.machine.ram.read(GuestPhysAddr(TREE), &mut tree).unwrap();
        let seed = devicetree::rng_seed_mut(&mut tree).unwrap();
        assert_eq!(seed.len(), 64);
        starts.push(seed.to_vec());
        seed.fill(0);
        assert_eq!(tree, blob, "all else stays");
    }
    assert!(starts[0] != starts[1] && starts[1] != starts[2] && starts[0] != starts[2]);
    assert!(starts.iter().all(|seed| *seed != [0; 64]));
}

#[test]
fn what_the_guest_said_before_a_reset_still_reaches_the_console() {
    let mut vm = vm(TREE);
    vm.start().unwrap();
    let mut guest = Guest::new();
    guest.host.room = 0;
    let port = GuestPhysAddr(UART);
    vm.machine.write_device(port, Width::Byte, u64::from(b'!'), &mut guest.host).unwrap();
    vm.start().unwrap();
    guest.host.room = 1;
    assert!(vm.machine.drain_console(&mut guest.host));
    assert_eq!(guest.host.output, b"!");
}
