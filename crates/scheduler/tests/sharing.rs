//! What entities get of a simulated hart.

use proptest::prelude::*;
use scheduler::{Decision, EntityId, Scheduler, Share, Tuning};

const TUNING: Tuning = Tuning { slice: 40_000, protected: 2_500, period: 1_000_000 };

/// A hart on which entities run for as long as they are let, or less.
struct Hart {
    scheduler: Scheduler,
    now: u64,
}

impl Hart {
    fn new(shares: &[Share]) -> Self {
        let mut scheduler = Scheduler::new(TUNING);
        for share in shares {
            let id = scheduler.add(*share);
            scheduler.wake(id, 0);
        }
        Self { scheduler, now: 0 }
    }

    /// Lets what is chosen run for at most `ticks`, at least one.
    fn step(&mut self, ticks: u64) -> Option<EntityId> {
        let (chosen, until) = match self.scheduler.choose(self.now) {
            Decision::Run(id, until) => (Some(id), until),
            Decision::Idle(until) => (None, until),
        };
        assert!(until > self.now, "time to run");
        self.now += ticks.clamp(1, until - self.now);
        chosen
    }

    fn run_until(&mut self, end: u64, ticks: impl Fn() -> u64) {
        while self.now < end {
            self.step(ticks().min(end - self.now));
        }
        self.scheduler.choose(self.now);
    }

    fn ran(&self, id: EntityId) -> u64 {
        self.scheduler.accounts(id).ran
    }
}

fn weighing(weight: u32) -> Share {
    Share { weight, cap: None }
}

fn capped(cap: u32) -> Share {
    Share { weight: 100, cap: Some(cap) }
}

#[test]
fn an_entity_that_is_alone_runs_for_ever() {
    let mut hart = Hart::new(&[weighing(100)]);
    assert_eq!(hart.scheduler.choose(0), Decision::Run(0, u64::MAX));
    hart.scheduler.sleep(0, 10);
    assert_eq!(hart.scheduler.choose(10), Decision::Idle(u64::MAX));
    assert_eq!(hart.ran(0), 10);
}

#[test]
fn equals_take_turns_of_a_slice() {
    let mut hart = Hart::new(&[weighing(7), weighing(7), weighing(7)]);
    let order: Vec<_> = (0..6).map(|_| hart.step(u64::MAX).unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    assert_eq!(hart.now, 6 * TUNING.slice);
}

#[test]
fn asking_again_within_a_slice_changes_nothing() {
    let mut hart = Hart::new(&[weighing(1), weighing(1)]);
    // Both have run since they woke up.
    hart.run_until(2 * TUNING.slice, || u64::MAX);
    for _ in 0..40 {
        assert_eq!(hart.step(TUNING.slice / 40), Some(0));
    }
    assert_eq!(hart.step(1), Some(1));
}

#[test]
fn one_that_wakes_up_runs_soon_but_not_at_once() {
    let mut hart = Hart::new(&[weighing(100), weighing(100)]);
    hart.scheduler.sleep(1, 0);
    hart.step(1_000_000);
    hart.scheduler.sleep(0, hart.now);
    hart.scheduler.wake(0, hart.now);
    assert_eq!(hart.step(10), Some(0));
    hart.scheduler.wake(1, hart.now);
    // What has just begun is protected.
    let until = hart.now - 10 + TUNING.protected;
    assert_eq!(hart.scheduler.choose(hart.now), Decision::Run(0, until));
    hart.now = until;
    assert_eq!(hart.scheduler.choose(until), Decision::Run(1, until + TUNING.slice));
}

#[test]
fn one_that_slept_long_gets_a_slice_ahead_and_no_more() {
    let mut hart = Hart::new(&[weighing(100), weighing(100)]);
    hart.scheduler.sleep(1, 0);
    hart.run_until(100 * TUNING.slice, || TUNING.slice);
    hart.scheduler.wake(1, hart.now);
    let before = hart.ran(0);
    hart.run_until(hart.now + 10 * TUNING.slice, || TUNING.slice);
    let others = hart.ran(0) - before;
    assert!(hart.ran(1) <= others + 2 * TUNING.slice, "{} beside {others}", hart.ran(1));
}

#[test]
fn a_cap_holds_an_entity_that_is_alone() {
    let mut hart = Hart::new(&[capped(25)]);
    hart.run_until(10 * TUNING.period, || u64::MAX);
    assert_eq!(hart.ran(0), 10 * TUNING.period / 4);
    let accounts = hart.scheduler.accounts(0);
    assert_eq!(accounts.ran + accounts.waited, hart.now, "being held up is waiting");
}

#[test]
fn what_is_run_across_the_end_of_a_period_counts_where_it_was_run() {
    // The second runs when the first period ends, which leaves the whole of its cap for the next one but what it runs there.
    let mut hart = Hart::new(&[capped(45), capped(55)]);
    hart.run_until(2 * TUNING.period, || u64::MAX);
    assert_eq!((hart.ran(0), hart.ran(1)), (900_000, 1_100_000));
    let mut hart = Hart::new(&[capped(60)]);
    hart.scheduler.choose(0);
    hart.scheduler.sleep(0, 0);
    hart.scheduler.wake(0, 900_000);
    hart.now = 900_000;
    hart.run_until(2 * TUNING.period, || u64::MAX);
    assert_eq!(hart.ran(0), 100_000 + 600_000);
}

#[test]
fn what_a_cap_leaves_goes_to_others() {
    let mut hart = Hart::new(&[capped(10), weighing(1)]);
    hart.run_until(20 * TUNING.period, || u64::MAX);
    assert_eq!(hart.ran(0) + hart.ran(1), hart.now);
    assert!(hart.ran(0).abs_diff(hart.now / 10) <= TUNING.period / 10, "{}", hart.ran(0));
}

#[test]
fn more_than_a_cap_allows_is_paid_back() {
    let mut hart = Hart::new(&[capped(10), weighing(100)]);
    assert_eq!(hart.step(1), Some(0));
    // Work for it that could not be stopped: three periods' worth.
    let from = hart.now;
    hart.now += 300_000;
    hart.scheduler.charge_for(0, from, hart.now);
    let paid_back = 3 * TUNING.period;
    while hart.now < paid_back {
        assert_eq!(hart.step(paid_back - hart.now), Some(1));
    }
}

#[test]
fn work_for_another_is_paid_by_the_other() {
    let mut hart = Hart::new(&[weighing(100), weighing(100)]);
    hart.scheduler.sleep(1, 0);
    assert_eq!(hart.scheduler.choose(0), Decision::Run(0, u64::MAX));
    hart.scheduler.charge_for(1, 100, 130);
    hart.scheduler.sleep(0, 200);
    assert_eq!((hart.ran(0), hart.ran(1)), (170, 30));
}

#[test]
fn work_for_nobody_is_paid_by_nobody() {
    let mut hart = Hart::new(&[weighing(100), weighing(100)]);
    hart.scheduler.sleep(1, 0);
    assert_eq!(hart.scheduler.choose(0), Decision::Run(0, u64::MAX));
    hart.scheduler.charge_nobody(100, 130);
    hart.scheduler.sleep(0, 200);
    assert_eq!((hart.ran(0), hart.ran(1)), (170, 0));
}

/// What an entity of the random tests does.
#[derive(Clone, Debug)]
struct Behaviour {
    weight: u32,
    /// Ticks that it runs for, then sleeps for, over and over.
    habits: Vec<(u64, u64)>,
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let habit = (1..60_000_u64, prop_oneof![1..100_u64, 1..200_000_u64]);
    (1..10_001_u32, prop::collection::vec(habit, 1..8))
        .prop_map(|(weight, habits)| Behaviour { weight, habits })
}

/// Runs a steady entity of `weight`, number 0, beside entities with habits.
fn live_together(weight: u32, others: &[Behaviour], end: u64) -> Hart {
    let shares: Vec<_> =
        [weight].into_iter().chain(others.iter().map(|other| other.weight)).map(weighing).collect();
    let mut hart = Hart::new(&shares);
    // For each: the habit it is in, ticks left to run, and when it wakes up.
    let mut lives: Vec<_> = others.iter().map(|other| (0, other.habits[0].0, None)).collect();
    while hart.now < end {
        for (n, (_, _, wakes)) in lives.iter_mut().enumerate() {
            if wakes.is_some_and(|wakes| wakes <= hart.now) {
                *wakes = None;
                hart.scheduler.wake(n + 1, hart.now);
            }
        }
        let next = lives.iter().filter_map(|life| life.2).min().unwrap_or(u64::MAX).min(end);
        let Decision::Run(id, until) = hart.scheduler.choose(hart.now) else { panic!("one is always awake") };
        let now = hart.now;
        hart.now = until.min(next);
        if let Some(n) = id.checked_sub(1) {
            let (habit, left, wakes) = &mut lives[n];
            hart.now = hart.now.min(now + *left);
            *left -= hart.now - now;
            if *left == 0 {
                let habits = &others[n].habits;
                *wakes = Some(hart.now + habits[*habit].1);
                *habit = (*habit + 1) % habits.len();
                *left = habits[*habit].0;
                hart.scheduler.sleep(id, hart.now);
            }
        }
    }
    hart.scheduler.choose(hart.now);
    hart
}

proptest! {
    #[test]
    fn all_that_are_always_awake_get_their_shares(
        weights in prop::collection::vec(1..10_001_u32, 1..12),
        pieces in prop::collection::vec(1..80_000_u64, 1..20),
    ) {
        let shares: Vec<_> = weights.iter().copied().map(weighing).collect();
        let mut hart = Hart::new(&shares);
        for piece in pieces.iter().cycle().take(2_000) {
            hart.step(*piece);
        }
        hart.scheduler.choose(hart.now);
        let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let slice = TUNING.slice as f64;
        let mut sum = 0;
        for (id, weight) in weights.iter().enumerate() {
            let (ran, part) = (hart.ran(id), f64::from(*weight) / all as f64);
            let fair = hart.now as f64 * part;
            sum += ran;
            // One slice ahead at most; behind by what the others may be ahead. Being chosen costs a tick.
            let slack = 2_000.0 * (1.0 + part);
            prop_assert!(ran as f64 <= fair + slice + slack, "{id} got {ran} of {fair}");
            let behind = weights.len() as f64 * slice * part;
            prop_assert!(ran as f64 >= fair - behind - slack, "{id} got {ran} of {fair}");
            let accounts = hart.scheduler.accounts(id);
            prop_assert_eq!(accounts.ran + accounts.waited + waiting(&hart, id), hart.now);
        }
        prop_assert_eq!(sum, hart.now, "all time is somebody's");
    }

    #[test]
    fn nobody_gains_by_sleeping(weight in 1..10_001_u32, others in prop::collection::vec(behaviour(), 1..6)) {
        let hart = live_together(weight, &others, 4_000_000);
        let steady = hart.ran(0) as f64 / f64::from(weight);
        let ahead = |weight: u32| 2.0 * TUNING.slice as f64 / f64::from(weight);
        for (n, other) in others.iter().enumerate() {
            let got = hart.ran(n + 1) as f64 / f64::from(other.weight);
            let bound = steady + ahead(weight) + ahead(other.weight) + steady / 100.0;
            prop_assert!(got <= bound, "{n} got {got} beside {steady}: {bound}");
        }
    }

    #[test]
    fn no_cap_is_passed(caps in prop::collection::vec(1..101_u32, 1..6), periods in 1..30_u64) {
        let shares: Vec<_> = caps.iter().copied().map(capped).collect();
        let mut hart = Hart::new(&shares);
        hart.run_until(periods * TUNING.period, || u64::MAX);
        for (id, cap) in caps.iter().enumerate() {
            let most = hart.now / 100 * u64::from(*cap);
            prop_assert!(hart.ran(id) <= most, "{} of {most}", hart.ran(id));
        }
        let all: u32 = caps.iter().sum();
        if all <= 100 {
            for (id, cap) in caps.iter().enumerate() {
                prop_assert_eq!(hart.ran(id), hart.now / 100 * u64::from(*cap), "there is time enough");
            }
        }
    }

    #[test]
    fn any_numbers_are_survived(
        shares in prop::collection::vec((any::<u32>(), prop::option::of(any::<u32>())), 0..5),
        calls in prop::collection::vec((0..6_u8, 0..6_usize, any::<u64>()), 0..200),
        tuning in (1..u64::MAX, 1..u64::MAX, 1..u64::MAX),
    ) {
        let tuning = Tuning { slice: tuning.0, protected: tuning.1, period: tuning.2 };
        let mut scheduler = Scheduler::new(tuning);
        for (weight, cap) in shares {
            scheduler.add(Share { weight, cap });
        }
        for (call, id, time) in calls {
            match call {
                0 => scheduler.wake(id, time),
                1 => scheduler.sleep(id, time),
                2 => scheduler.charge_for(id, time, time.wrapping_mul(3)),
                3 => scheduler.set_share(id, weighing(time as u32)),
                4 => scheduler.charge_nobody(time, time.wrapping_mul(3)),
                _ => drop(scheduler.choose(time)),
            }
        }
    }
}

/// How long an entity has been waiting for now.
fn waiting(hart: &Hart, id: EntityId) -> u64 {
    let mut scheduler = hart.scheduler.clone();
    let before = scheduler.accounts(id).waited;
    scheduler.sleep(id, hart.now);
    scheduler.accounts(id).waited - before
}
