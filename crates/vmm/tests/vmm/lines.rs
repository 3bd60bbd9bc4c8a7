//! The board pushes its interrupt lines and its deadline: what vCPUs see without asking is what asking would say.

use isa::{Interrupt, Width};
use memory::GuestPhysAddr;
use proptest::prelude::*;
use vmm::Machine;
use vmm::machine::Clock;
use vmm::vcpu::Vcpu;
use vmm::vm;

use crate::support::{FEATURES, FREQUENCY, Guest, UART, new_shadow};

const PLIC: u64 = 0x0c00_0000;
const RTC: u64 = 0x0010_1000;
/// Of harts 0 and 1.
const SUPERVISORS: [u64; 2] = [1, 3];

/// Something that is done to a board, or around it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read(u64, Width),
    Write(u64, Width, u32),
    Typed(u8),
    Break,
    Pass(u64),
    Firmware,
    Initialize,
    Reset,
}

/// A write of a PLIC register that matters: to a priority, enable bits, a threshold, or a completion.
fn plic_write() -> impl Strategy<Value = Step> {
    // The UART, the clock, and a virtio slot.
    let source = prop::sample::select(vec![10_u32, 11, 1]);
    let context = prop::sample::select(SUPERVISORS.to_vec());
    let word = |address, value| Step::Write(PLIC + address, Width::Word, value);
    prop_oneof![
        (source.clone(), 0..8_u32).prop_map(move |(source, priority)| word(4 * u64::from(source), priority)),
        (context.clone(), any::<u32>()).prop_map(move |(context, bits)| word(0x2000 + 0x80 * context, bits)),
        (context.clone(), Just(!0_u32)).prop_map(move |(context, bits)| word(0x2000 + 0x80 * context, bits)),
        (context.clone(), 0..4_u32)
            .prop_map(move |(context, value)| word(0x20_0000 + 0x1000 * context, value)),
        (context, source).prop_map(move |(context, source)| word(0x20_0004 + 0x1000 * context, source)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let claim = |context| Step::Read(PLIC + 0x20_0004 + 0x1000 * context, Width::Word);
    prop_oneof![
        8 => plic_write(),
        2 => prop::sample::select(SUPERVISORS.to_vec()).prop_map(claim),
        2 => (0..8_u64).prop_map(|register| Step::Read(UART + register, Width::Byte)),
        3 => (0..8_u64, any::<u8>()).prop_map(|(register, value)| Step::Write(UART + register, Width::Byte, value.into())),
        // Reads that latch, alarms soon, enabling them, clearing them.
        3 => (prop::sample::select(vec![0_u64, 8, 0x0c, 0x10, 0x14, 0x1c]), 0..0x40_0000_u32)
            .prop_map(|(register, value)| Step::Write(RTC + register, Width::Word, value)),
        2 => Just(Step::Write(UART + 1, Width::Byte, 1)),
        2 => Just(Step::Write(RTC + 0x10, Width::Word, 1)),
        2 => any::<u8>().prop_map(Step::Typed),
        1 => Just(Step::Break),
        2 => (0..20_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Firmware),
        1 => Just(Step::Initialize),
        1 => Just(Step::Reset),
    ]
}

/// Whether the vCPU has its external interrupt pending once it has looked at what reached it.
fn sees(machine: &Machine, vcpu: &mut Vcpu) -> bool {
    vm::notice(machine, vcpu);
    vcpu.frame.csr.is_pending(Interrupt::External)
}

fn carry_out(guest: &mut Guest, other: &mut Vcpu, step: Step) {
    let Guest { machine, vcpu, host, .. } = guest;
    match step {
        Step::Read(address, width) => {
            let _ = machine.read_device(GuestPhysAddr(address), width, host);
        }
        Step::Write(address, width, value) => {
            let _ = machine.write_device(GuestPhysAddr(address), width, value.into(), host);
        }
        Step::Typed(byte) => {
            host.input.push_back(byte);
            machine.feed_console(host);
        }
        Step::Break => {
            machine.with_board(|board| board.uart_receive_break(devices::BoardTime(host.now * 100)))
        }
        Step::Pass(ticks) => {
            host.now += ticks;
            vm::tick(machine, vcpu, host.now);
        }
        Step::Firmware => {
            let _ = machine.console_read(host);
        }
        Step::Initialize => machine.with_board(|board| board.initialize()),
        Step::Reset => {
            machine.reset();
            vcpu.reset();
            other.reset();
        }
    }
}

proptest! {
    #[test]
    fn what_vcpus_see_of_their_lines_is_what_asking_the_board_says(
        steps in prop::collection::vec((step(), any::<bool>()), 1..200),
    ) {
        let mut guest = Guest::with_harts(2);
        let mut other = Vcpu::new(1, FEATURES, new_shadow());
        let clock = Clock::new(FREQUENCY);
        for (step, does_look) in steps {
            carry_out(&mut guest, &mut other, step);
            // What changes back before it was seen must not be seen, and what stays must be.
            if !does_look {
                continue;
            }
            let seen = [sees(&guest.machine, &mut guest.vcpu), sees(&guest.machine, &mut other)];
            let deadline = guest.machine.deadline();
            // Asking pushes, too, so it comes last.
            let (asked, due) = guest.machine.with_board(|board| {
                ([0, 1].map(|hart| board.external_interrupt(hart)), board.next_deadline())
            });
            prop_assert_eq!(seen, asked, "{:?}", step);
            prop_assert_eq!(deadline, due.map_or(u64::MAX, |time| clock.ticks(time)), "{:?}", step);
        }
    }
}

#[test]
fn a_line_reaches_the_hart_that_it_is_for_alone() {
    let mut guest = Guest::with_harts(2);
    let mut other = Vcpu::new(1, FEATURES, new_shadow());
    let enable = 0x2000 + 0x80 * SUPERVISORS[1];
    for (address, value) in [(PLIC + 40, 1), (PLIC + enable, 1 << 10)] {
        carry_out(&mut guest, &mut other, Step::Write(address, Width::Word, value));
    }
    carry_out(&mut guest, &mut other, Step::Write(UART + 1, Width::Byte, 1));
    carry_out(&mut guest, &mut other, Step::Typed(b'x'));
    assert!(!guest.machine.links[0].take_mail(), "nothing is for hart 0");
    assert!(sees(&guest.machine, &mut other));
    let claim = PLIC + 0x20_0004 + 0x1000 * SUPERVISORS[1];
    carry_out(&mut guest, &mut other, Step::Read(claim, Width::Word));
    assert!(!sees(&guest.machine, &mut other));
}
