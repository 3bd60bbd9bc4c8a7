//! Nobody is delayed by more than a slice by what another guest does: each flood, beside a guest that sleeps until its timer.

use bundle::VmConfig;
use monitor::Change;
use vmm::StopReason;

use crate::sim::build::{Setup, make};
use crate::sim::devices::Answers;
use crate::sim::driver::Driver;
use crate::sim::program::{Op, Program};
use crate::sim::random::Random;
use crate::sim::{FREQUENCY, MS};

/// A slice, in ticks.
const SLICE: u64 = 4 * MS;
/// The longest turn here: while one hart takes a turn, the others, which should run at the same time, stand still.
const TURN: u64 = 500;

/// Wakes up every two milliseconds.
fn sleeper(program: &mut Program, _: &mut Random) {
    program.forever = vec![Op::SetTimer(2 * MS), Op::Wait, Op::NoteWake];
}

fn hog(program: &mut Program, _: &mut Random) {
    program.forever = vec![Op::Compute(MS)];
}

fn writer(program: &mut Program, _: &mut Random) {
    program.forever = b"all work and no play\n".iter().copied().map(Op::Put).collect();
}

fn illegal(program: &mut Program, _: &mut Random) {
    program.forever = vec![Op::Illegal];
}

fn caller(program: &mut Program, _: &mut Random) {
    program.forever = vec![Op::NoSuchCall, Op::Ipi];
}

fn timers(program: &mut Program, _: &mut Random) {
    program.forever = vec![Op::SetTimer(0), Op::Wait];
}

fn disk(program: &mut Program, _: &mut Random) {
    program.open_disk();
    program.forever = (0..4).map(|n| Op::Request { write: n % 2 == 0, sector: 8 * n }).collect();
}

fn frames(program: &mut Program, _: &mut Random) {
    program.open_net();
    program.forever = vec![Op::Send(0), Op::Send(2), Op::Send(200), Op::TakeFrames];
}

fn resets(program: &mut Program, _: &mut Random) {
    program.say();
    program.ops.push_back(Op::End(StopReason::Reset));
}

type Plan = fn(&mut Program, &mut Random);

/// The latest that the sleeper wakes up beside two guests of this kind on its hart, and one on another.
fn latest(plan: Plan, byte_time: u64, answers: Answers, seed: u64) -> u64 {
    let setup = |number: usize, plan| {
        let name = format!("g{number}");
        let config = VmConfig { name, device_tree: 0x10_0000, max_restart_delay: 0, ..VmConfig::default() };
        Setup { config, has_disk: true, has_net: true, plan }
    };
    // The sleeper and the last two belong to the first hart.
    let setups: Vec<_> =
        [sleeper, plan, plan, plan, plan].into_iter().enumerate().map(|(n, it)| setup(n, it)).collect();
    let mut driver = Driver::new(make(&setups, 2, seed));
    driver.longest = TURN;
    driver.made.state.borrow_mut().line.byte_time = byte_time;
    driver.made.state.borrow_mut().disk.answers = answers;
    for guest in 0..setups.len() {
        driver.change(0, guest, Change::Start).unwrap();
    }
    driver.run_until(FREQUENCY / 8);
    let state = driver.made.state.borrow();
    assert_eq!(state.faults, [""; 0]);
    let program = &state.programs[0];
    assert!(program.wakes > 15, "it woke up {} times", program.wakes);
    // The floods are fed, too.
    for program in &state.programs[1..] {
        assert!(program.executed > 0 && program.lives > 0, "guest {} has not run", program.guest);
    }
    program.latest
}

#[test]
fn no_flood_delays_another_guest_by_more_than_a_slice() {
    let floods: [(&str, Plan); 9] = [
        ("hog", hog),
        ("writer", writer),
        ("illegal", illegal),
        ("caller", caller),
        ("timers", timers),
        ("disk", disk),
        ("frames", frames),
        ("resets", resets),
        ("sleeper", sleeper),
    ];
    for (name, plan) in floods {
        for (byte_time, answers) in [
            (10, Answers::Soon),
            (1000, Answers::Late),
            (u64::MAX, Answers::Wrongly),
            (u64::MAX, Answers::Never),
        ] {
            let latest = latest(plan, byte_time, answers, 23);
            assert!(
                latest <= SLICE + 4 * TURN,
                "{name}: {latest} ticks late, a byte takes {byte_time}, {answers:?}"
            );
        }
    }
}

#[test]
fn hogs_share_their_hart_by_weight() {
    let setup = |number: usize, weight: u32| {
        let config =
            VmConfig { name: format!("g{number}"), device_tree: 0x10_0000, weight, ..VmConfig::default() };
        Setup { config, has_disk: false, has_net: false, plan: hog }
    };
    let setups: Vec<_> =
        [(0, 100), (1, 100), (2, 300), (3, 100)].map(|(number, weight)| setup(number, weight)).into();
    let mut driver = Driver::new(make(&setups, 2, 29));
    for guest in 0..4 {
        driver.change(0, guest, Change::Start).unwrap();
    }
    driver.run_until(2 * FREQUENCY);
    let world = &driver.made.world;
    let ran = |guest: usize| {
        let guest = &world.guests[guest];
        world.queues.get(guest.hart).unwrap().scheduler.accounts(guest.entity).ran
    };
    // Guests 0 and 2 on the first hart, 1 and 3 on the second.
    let share = |one: usize, other: usize| ran(one) as f64 / (ran(one) + ran(other)) as f64;
    assert!((share(2, 0) - 0.75).abs() < 0.02, "{}", share(2, 0));
    assert!((share(1, 3) - 0.5).abs() < 0.02, "{}", share(1, 3));
}

/// On one hart each tick is somebody's, or nobody's for want of work.
#[test]
fn no_tick_is_lost() {
    let setup = |number: usize, plan: Plan| {
        let config = VmConfig { name: format!("g{number}"), device_tree: 0x10_0000, ..VmConfig::default() };
        Setup { config, has_disk: true, has_net: true, plan }
    };
    let setups: Vec<_> = [sleeper as Plan, illegal, disk, sleeper]
        .into_iter()
        .enumerate()
        .map(|(n, it)| setup(n, it))
        .collect();
    for count in 1..=setups.len() {
        let mut driver = Driver::new(make(&setups[..count], 1, 31));
        for guest in 0..count {
            driver.change(0, guest, Change::Start).unwrap();
        }
        driver.run_until(FREQUENCY / 2);
        let world = &driver.made.world;
        let queue = world.queues.iter().next().unwrap();
        let ran: u64 = (0..count).map(|guest| queue.scheduler.accounts(guest).ran).sum();
        let elapsed = driver.now() - world.started;
        let counted = ran + queue.idle;
        assert!(
            counted <= elapsed && counted + driver.longest >= elapsed,
            "{ran} + {} of {elapsed}",
            queue.idle
        );
    }
}
