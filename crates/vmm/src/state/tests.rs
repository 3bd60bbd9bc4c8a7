use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;

use isa::csr::CsrAddr;
use isa::paging::Mode;
use isa::{Interrupt, Privilege, Reg};
use memory::{BLOCK_SIZE, HartAuthority, HostPhysAddr};
use mmu::shadow::MIN_TABLES;
use mmu::{AsidSpace, ShadowMmu};
use proptest::prelude::*;
use trace::ExitKind;
use vhart::{CsrFeatures, HostTables, SharedTable, Units, Window};

use super::*;
use crate::pmu::{CYCLE, Event, FirmwareEvent, HartCounters};
use crate::steal::{SIZE, Shared};
use crate::vcpu::Start;

const RAM: u64 = 0x8000_0000;

const FEATURES: CsrFeatures = CsrFeatures {
    widest_mode: Mode::Sv48,
    float: true,
    vector: true,
    cache_blocks: true,
    cache_zero: true,
    svinval: true,
};

/// What there is beside a vCPU; made once, for it is large.
struct Rig {
    vcpu: Vcpu,
    link: Link,
    ram: GuestRam,
}

impl Rig {
    fn new() -> Self {
        let tables: Vec<_> = (0..2 * MIN_TABLES).map(|_| SharedTable::filled_with(0)).collect();
        let base = HostPhysAddr(0x1_0000_0000);
        let authority = HartAuthority::simulated();
        let tables =
            HostTables::new(Box::leak(tables.into()), base, Mode::Sv57, Window::default(), authority);
        let words: Vec<_> = (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
        let words = Box::leak(words.into_boxed_slice());
        let mut rig = Self {
            vcpu: Vcpu::new(0, FEATURES, ShadowMmu::new(tables, AsidSpace::new(16, 1).deal())),
            link: Link::new(),
            ram: GuestRam::new(words, GuestPhysAddr(RAM), HostPhysAddr(RAM), Vec::new()),
        };
        rig.vcpu.frame.units = Units::new(0, 16);
        rig
    }

    fn state(&self) -> VcpuState {
        VcpuState::of(&self.vcpu, &self.link)
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), StateError> {
        state.restore(&mut self.vcpu, &self.link, &self.ram)
    }

    /// Makes something of everything of these words, so that nothing is as it was at first.
    fn scramble(&mut self, words: &[u64; 12]) {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = words.map(|word| word | 1);
        let Self { vcpu, link, .. } = self;
        vcpu.start(Start { address: a << 1, opaque: 0 });
        for (number, word) in (1..32).zip(words.iter().cycle()) {
            vcpu.frame.set(Reg::new(number), word.wrapping_mul(u64::from(number)) | 1);
        }
        vcpu.frame.privilege = Privilege::User;
        for (csr, value) in [
            (CsrAddr::SSTATUS, b | 2),
            (CsrAddr::SIE, 0x222),
            (CsrAddr::STVEC, c << 2),
            (CsrAddr::SCOUNTEREN, d),
            (CsrAddr::SENVCFG, e),
            (CsrAddr::SSCRATCH, f),
            (CsrAddr::SEPC, g << 1),
            (CsrAddr::SCAUSE, h),
            (CsrAddr::STVAL, i),
            (CsrAddr::SATP, 8 << 60 | j >> 4),
        ] {
            vcpu.frame.csr.write(csr, value, Privilege::Supervisor).unwrap();
        }
        vcpu.set_line(Interrupt::External, true);
        vcpu.frame.units.float = core::array::from_fn(|nth| a.wrapping_add(nth as u64));
        vcpu.frame.units.fcsr = b & 0xff;
        vcpu.frame.units.vector.fill(c);
        vcpu.frame.units.vector_csrs.vl = d;
        vcpu.timer.set(e);
        vcpu.timer.hold(f);
        let start = Start { address: RAM + g % BLOCK_SIZE / 2, opaque: h };
        let states = [RunState::Running, RunState::Waiting, RunState::Suspended(start), RunState::Held(i)];
        vcpu.state = states[(a / 2 % 4) as usize];
        link.set_state(HartState::Started);
        link.send_software_interrupt();
        for _ in 0..1 + j % 7 {
            vcpu.exits.count(ExitKind::ALL[(k % 14) as usize + 2]);
            vcpu.exits.charge(l);
        }
        let page = GuestPhysAddr(RAM + k % (BLOCK_SIZE / PAGE_SIZE) * PAGE_SIZE);
        vcpu.steal.waited = l;
        let sequence = a as u32 & !1;
        vcpu.steal.shared = Some(Shared { address: page.wrapping_add(SIZE), before: b, sequence });
        vcpu.pmu_snapshot = Some(page);
        vcpu.console_sent = c;
        vcpu.pmu.configure(CYCLE, Event::Cycles);
        vcpu.pmu.set(CYCLE, d);
        vcpu.pmu.start(CYCLE, &vcpu.exits);
        vcpu.pmu.configure(5, Event::Exits(ExitKind::Mmio));
        vcpu.pmu.count(FirmwareEvent::IpiSent);
        vcpu.pmu.ran(HartCounters::default(), HartCounters { cycle: e, instret: f });
        vcpu.virtualise_counters();
    }
}

fn words() -> impl Strategy<Value = [u64; 12]> {
    any::<[u64; 12]>()
}

/// Asserts that no field of the one is as in the other.
fn assert_all_differ(one: &VcpuState, other: &VcpuState) {
    // Without `..`: a new field, too.
    let VcpuState {
        hart: _,
        frame,
        run,
        timer,
        exits,
        steal,
        pmu,
        pmu_snapshot,
        console_sent,
        power,
        software_interrupt,
    } = one;
    assert_ne!(*frame, other.frame);
    assert_ne!(*run, other.run);
    assert_ne!(*timer, other.timer);
    assert_ne!(*exits, other.exits);
    assert_ne!(*steal, other.steal);
    assert_ne!(*pmu, other.pmu);
    assert_ne!(*pmu_snapshot, other.pmu_snapshot);
    assert_ne!(*console_sent, other.console_sent);
    assert_ne!(*power, other.power);
    assert_ne!(*software_interrupt, other.software_interrupt);
}

#[test]
fn a_fresh_vcpu_takes_up_all_of_a_state_and_another_one_after_it() {
    let (mut from, mut to) = (Rig::new(), Rig::new());
    let fresh = from.state();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let from = core::cell::RefCell::new((&mut from, &mut to));
    let checked = runner.run(&words(), |words| {
        let (from, to) = &mut *from.borrow_mut();
        from.scramble(&words);
        let state = from.state();
        assert_all_differ(&state, &fresh);
        let bytes = state.to_bytes().unwrap();
        let read = VcpuState::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read, &state);
        to.restore(&read).unwrap();
        prop_assert_eq!(&to.state(), &state);
        prop_assert_eq!(to.vcpu.frame.csr.native_counters(), from.vcpu.frame.csr.native_counters());
        prop_assert!(to.link.take_mail());
        prop_assert_eq!(
            to.vcpu.pmu.value(CYCLE, &to.vcpu.exits),
            from.vcpu.pmu.value(CYCLE, &from.vcpu.exits)
        );
        to.restore(&fresh).unwrap();
        prop_assert_eq!(&to.state(), &fresh);
        from.restore(&fresh).unwrap();
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

#[test]
fn what_no_vcpu_could_be_in_is_refused_and_changes_nothing() {
    let mut rig = Rig::new();
    rig.scramble(&[0x1234_5678_9abc; 12]);
    let before = rig.state();
    let mut refused = |spoil: fn(&mut VcpuState)| {
        let mut state = before.clone();
        spoil(&mut state);
        let error = rig.restore(&state).unwrap_err();
        assert_eq!(rig.state(), before, "{error}");
        error.to_string()
    };
    let impossible = |what: &str| format!("no hart could be in this state: {what}");
    assert_eq!(refused(|state| state.hart = 1), "the state is another hart's");
    assert_eq!(refused(|state| state.power = HartState::Stopped), impossible("it runs and is stopped"));
    assert_eq!(
        refused(|state| state.run = RunState::Suspended(Start { address: RAM - 2, opaque: 0 })),
        impossible("it resumes outside RAM")
    );
    let steal = impossible("the memory for its steal time");
    assert_eq!(refused(|state| state.steal = Some(steal::Told::new(RAM + 8, 0, 0))), steal);
    assert_eq!(refused(|state| state.steal = Some(steal::Told::new(RAM - SIZE, 0, 0))), steal);
    assert_eq!(refused(|state| state.steal = Some(steal::Told::new(RAM, 0, 1))), steal);
    let page = impossible("the page for its counters");
    assert_eq!(refused(|state| state.pmu_snapshot = Some(RAM + 8)), page);
    assert_eq!(refused(|state| state.pmu_snapshot = Some(RAM + BLOCK_SIZE)), page);
    let counters = impossible("its counters");
    assert_eq!(refused(|state| state.pmu.configure(1, Event::Cycles)), counters);
    assert_eq!(refused(|state| state.pmu.configure(4, Event::Exits(ExitKind::HostTimer))), counters);
    assert_eq!(refused(|state| state.pmu.set(7, 1)), counters);
}

#[test]
fn bytes_that_are_no_state_of_this_version_are_told_apart() {
    let rig = Rig::new();
    let bytes = rig.state().to_bytes().unwrap();
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = bytes.clone();
        change(&mut bytes);
        VcpuState::from_bytes(&bytes).unwrap_err()
    };
    assert_eq!(with(|bytes| bytes.clear()), StateError::NotAState);
    assert_eq!(with(|bytes| bytes[0] ^= 1), StateError::NotAState);
    assert_eq!(with(|bytes| bytes.truncate(15)), StateError::Damaged);
    assert_eq!(with(|bytes| bytes[8] = 7), StateError::Version(7));
    assert_eq!(with(|bytes| bytes.push(0)), StateError::Damaged);
    for len in 16..bytes.len() {
        assert_eq!(VcpuState::from_bytes(&bytes[..len]), Err(StateError::Damaged), "{len} bytes");
    }
}

#[test]
fn whatever_bytes_come_a_vcpu_goes_on_as_it_was_or_as_they_say() {
    let mut rig = Rig::new();
    rig.scramble(&[0xfedc_ba98_7654; 12]);
    let bytes = rig.state().to_bytes().unwrap();
    let rig = core::cell::RefCell::new(rig);
    let changes = prop::collection::vec((16..bytes.len(), any::<u8>()), 1..4);
    let any_bytes = prop_oneof![
        3 => changes.prop_map(move |changes| {
            let mut bytes = bytes.clone();
            changes.into_iter().for_each(|(place, byte)| bytes[place] = byte);
            bytes
        }),
        1 => prop::collection::vec(any::<u8>(), 0..600).prop_map(|bytes| {
            let head = [MAGIC, VERSION].into_iter().flat_map(u64::to_le_bytes);
            head.chain(bytes).collect()
        }),
    ];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(4000));
    let checked = runner.run(&any_bytes, |bytes| {
        let mut rig = rig.borrow_mut();
        let before = rig.state();
        let Ok(state) = VcpuState::from_bytes(&bytes) else { return Ok(()) };
        let expected = if rig.restore(&state).is_ok() { state } else { before };
        prop_assert_eq!(rig.state(), expected);
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
