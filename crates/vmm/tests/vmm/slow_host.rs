//! A guest on a host that takes longer for an exit than the guest's timer is away, as a hypervisor in a hypervisor does: its
//! program goes on all the same.

use isa::csr::{CsrAddr, sstatus};
use isa::{Exception, Interrupt, Privilege};
use vmm::timer::Alarm;
use vmm::vm::{self, Next};

use crate::support::{ENTRY, FREQUENCY, Guest, HANDLER, asm};

/// Ticks from one timer interrupt of the guest's to the next: a millisecond.
const PERIOD: u64 = FREQUENCY / 1000;

/// Such a host, with a guest that counts, and whose timer handler sets the timer again, does a few things that only the
/// hypervisor can carry out, and returns.
struct SlowHost {
    guest: Guest,
    alarm: Alarm,
    /// What the real timer is set to.
    timer: u64,
    /// Ticks that the way into the guest takes, and the way out of it.
    way: u64,
    /// Instructions of the handler that exit.
    exits: u64,
    /// Bytes of the circle that the program goes round in.
    circle: u64,
    /// Instructions of the program that were executed; each takes a tick.
    counted: u64,
    /// Timer interrupts taken.
    interrupts: u64,
    /// The greatest number of instructions for which a timer interrupt waited that could have been taken.
    waited: u64,
}

impl SlowHost {
    fn new(way: u64, exits: u64, circle: u64) -> Self {
        let mut guest = Guest::new();
        guest.set_csr(CsrAddr::SIE, Interrupt::Timer.mask());
        guest.set_csr(CsrAddr::SSTATUS, sstatus::SIE);
        guest.vcpu.timer.set(guest.host.now);
        Self {
            guest,
            alarm: Alarm::new(true, FREQUENCY, way),
            timer: u64::MAX,
            way,
            exits,
            circle,
            counted: 0,
            interrupts: 0,
            waited: 0,
        }
    }

    /// What `run_guest` does for one run, and what the guest does meanwhile.
    fn run_once(&mut self) {
        assert!(matches!(self.guest.prepare(), Next::Run(_)));
        let now = self.guest.host.now;
        if let Some(deadline) = set_alarm(&mut self.guest, &mut self.alarm, now) {
            self.timer = deadline;
        }
        self.guest.host.now += self.way;
        let pc = self.guest.pc();
        if self.timer <= self.guest.host.now {
            return self.time_is_up(pc);
        }
        if pc < HANDLER {
            // The program, up to the next interrupt.
            let instructions = (self.timer - self.guest.host.now).min(1 << 20);
            if self.guest.vcpu.frame.csr.is_pending(Interrupt::Timer) {
                self.waited = self.waited.max(instructions);
            }
            self.counted += instructions;
            self.guest.vcpu.frame.pc = ENTRY + (pc - ENTRY + 4 * instructions) % self.circle;
            self.guest.host.now = self.timer;
            return self.time_is_up(pc);
        }
        self.guest.host.now += self.way;
        let done = (pc - HANDLER) / 4;
        if done == 0 {
            self.interrupts += 1;
            self.guest.set_reg(17, 0x5449_4d45);
            self.guest.set_reg(16, 0);
            self.guest.set_reg(10, self.guest.host.now + PERIOD);
            self.guest.raise(Exception::EcallFromUser, 0);
        } else if done < self.exits {
            self.guest.execute(asm::csrrs(10, CsrAddr::SCAUSE.as_u16(), 0));
        } else {
            self.guest.execute(asm::SRET);
        }
    }

    fn time_is_up(&mut self, pc: u64) {
        self.guest.host.now += self.way;
        self.timer = u64::MAX;
        let Guest { machine, vcpu, host, .. } = &mut self.guest;
        vm::time_is_up(machine, vcpu, &mut self.alarm, host.now, pc);
    }
}

#[test]
fn a_program_goes_on_between_two_timer_interrupts_however_slow_the_host_is() {
    for way in [1, 100, 1_000, PERIOD / 2, PERIOD, 3 * PERIOD, 50 * PERIOD] {
        for (exits, circle) in [(1, 0x800), (3, 0x7fc), (20, 4)] {
            let mut slow = SlowHost::new(way, exits, circle);
            let mut last = 0;
            for round in 0..20 {
                let before = slow.interrupts;
                for _ in 0..200 {
                    slow.run_once();
                }
                let what = format!("way {way}, {exits} exits, round {round}");
                assert!(slow.counted > last, "{what}: the program stands still");
                assert!(slow.interrupts > before, "{what}: its timer has stopped");
                last = slow.counted;
            }
        }
    }
}

#[test]
fn a_fast_host_holds_nothing_back() {
    let mut slow = SlowHost::new(5, 3, 0x800);
    for _ in 0..2_000 {
        slow.run_once();
    }
    assert_eq!(slow.waited, 0);
    let expected = slow.guest.host.now / PERIOD;
    assert!(slow.interrupts.abs_diff(expected) < 20, "{} of {expected}", slow.interrupts);
}

/// A guest that lets all interrupts in, on a host that was seen to be slow, whose first timer interrupt was taken and whose
/// handler returns with the next one pending.
fn interrupted_again(host_is_slow: bool) -> (Guest, Alarm) {
    let mut guest = Guest::new();
    let mut alarm = Alarm::new(true, FREQUENCY, if host_is_slow { PERIOD } else { 10 });
    guest.set_csr(CsrAddr::SIE, !0);
    alarm.want(0);
    let (now, pc) = (guest.host.now + PERIOD, guest.pc());
    vm::time_is_up(&guest.machine, &mut guest.vcpu, &mut alarm, now, pc);
    guest.set_csr(CsrAddr::SSTATUS, sstatus::SIE);
    guest.vcpu.set_line(Interrupt::Timer, true);
    guest.prepare();
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SCAUSE)), (HANDLER, Interrupt::Timer.cause()));
    guest.execute(asm::SRET);
    guest.prepare();
    (guest, alarm)
}

/// Sets the real timer for a run that begins at `now`, as the run loop does; gives what it is set to, if it has to be.
fn set_alarm(guest: &mut Guest, alarm: &mut Alarm, now: u64) -> Option<u64> {
    let deadline = alarm.want(vm::deadline(&guest.machine, &guest.vcpu))?;
    Some(vm::set_alarm(&mut guest.vcpu, alarm, deadline, now))
}

#[test]
fn a_timer_interrupt_is_held_back_on_a_slow_host_only_and_for_a_short_run() {
    assert_eq!(interrupted_again(false).0.pc(), HANDLER);
    let (mut guest, mut alarm) = interrupted_again(true);
    assert_eq!(guest.pc(), ENTRY, "the program first");
    let now = guest.host.now;
    let until = set_alarm(&mut guest, &mut alarm, now).unwrap();
    assert!((now + 2 * PERIOD..now + 10 * PERIOD).contains(&until));
    // A page that is filled in is no instruction yet, and does not make the run longer.
    guest.raise(Exception::InstructionPageFault, ENTRY);
    guest.prepare();
    assert_eq!(guest.pc(), ENTRY);
    assert_eq!(set_alarm(&mut guest, &mut alarm, now + PERIOD), None);
    // The timer ends the run.
    guest.vcpu.frame.pc += 8;
    vm::time_is_up(&guest.machine, &mut guest.vcpu, &mut alarm, until + 5, ENTRY);
    guest.prepare();
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SEPC)), (HANDLER, ENTRY + 8));
}

#[test]
fn a_run_that_is_held_ends_where_exits_take_all_of_its_time() {
    let (mut guest, mut alarm) = interrupted_again(true);
    let until = set_alarm(&mut guest, &mut alarm, 0).unwrap();
    guest.execute(asm::csrrs(10, CsrAddr::SCAUSE.as_u16(), 0));
    guest.prepare();
    assert_eq!(guest.pc(), ENTRY + 4);
    vm::time_is_up(&guest.machine, &mut guest.vcpu, &mut alarm, until, ENTRY + 4);
    guest.prepare();
    assert_eq!((guest.pc(), guest.csr(CsrAddr::SEPC)), (HANDLER, ENTRY + 4));
}

#[test]
fn other_interrupts_are_never_held_back() {
    let (mut guest, _) = interrupted_again(true);
    for _ in 0..3 {
        assert_eq!(guest.pc(), ENTRY);
        guest.vcpu.set_line(Interrupt::Software, true);
        guest.prepare();
        assert_eq!(guest.csr(CsrAddr::SCAUSE), Interrupt::Software.cause());
        guest.vcpu.set_line(Interrupt::Software, false);
        guest.execute(asm::SRET);
        guest.prepare();
    }
    assert_eq!(guest.vcpu.frame.privilege, Privilege::Supervisor);
}

#[test]
fn a_guest_that_waits_or_has_shut_interrupts_out_again_takes_the_next_timer_interrupt_at_once() {
    for waits in [true, false] {
        let (mut guest, mut alarm) = interrupted_again(true);
        let until = set_alarm(&mut guest, &mut alarm, 0).unwrap();
        // The assembly shuts them out, and tells nobody.
        guest.set_csr(CsrAddr::SSTATUS, 0);
        if waits {
            guest.execute(asm::WFI);
        }
        guest.prepare();
        if !waits {
            let pc = guest.pc();
            vm::time_is_up(&guest.machine, &mut guest.vcpu, &mut alarm, until + PERIOD, pc);
        }
        guest.set_csr(CsrAddr::SSTATUS, sstatus::SIE);
        guest.prepare();
        assert_eq!(guest.csr(CsrAddr::SCAUSE), Interrupt::Timer.cause());
        assert_eq!(guest.pc(), HANDLER);
    }
}
