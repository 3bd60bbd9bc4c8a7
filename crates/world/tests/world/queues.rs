//! Who pays for work: the guest that it is for, whichever hart does it, and not the one that runs there.

use scheduler::{Decision, EntityId, Scheduler, Share, Tuning};
use world::{HartId, Queues};

const FREQUENCY: u64 = 10_000_000;
/// Guests, by their places. `RUNS` is on the first hart, `ELSEWHERE` on the second.
const RUNS: EntityId = 0;
const ELSEWHERE: EntityId = 1;

/// Two harts; the first runs a guest from 0 on.
fn queues() -> Queues {
    let scheduler = || {
        let mut scheduler = Scheduler::new(Tuning::for_frequency(FREQUENCY));
        for _ in [RUNS, ELSEWHERE] {
            scheduler.add(Share { weight: 100, cap: None });
        }
        scheduler
    };
    let mut queues = Queues::new([scheduler(), scheduler()]);
    let first = &mut queues.get_mut(HartId(0)).unwrap().scheduler;
    first.wake(RUNS, 0);
    assert!(matches!(first.choose(0), Decision::Run(RUNS, _)));
    queues
}

/// How long an entity has run on a hart when it is `now`.
fn ran(queues: &mut Queues, hart: usize, entity: EntityId, now: u64) -> u64 {
    let scheduler = &mut queues.get_mut(HartId(hart)).unwrap().scheduler;
    scheduler.sleep(entity, now);
    scheduler.accounts(entity).ran
}

#[test]
fn work_for_a_guest_of_another_hart_is_charged_there_and_not_to_who_runs_here() {
    let mut queues = queues();
    queues.charge(HartId(0), HartId(1), ELSEWHERE, 100, 130);
    assert_eq!(ran(&mut queues, 0, RUNS, 200), 170);
    assert_eq!(ran(&mut queues, 1, ELSEWHERE, 200), 30);
    assert_eq!(ran(&mut queues, 0, ELSEWHERE, 200), 0);
}

#[test]
fn work_for_a_guest_of_this_hart_is_charged_to_it_and_not_to_who_runs() {
    let mut queues = queues();
    queues.charge(HartId(0), HartId(0), ELSEWHERE, 100, 130);
    assert_eq!(ran(&mut queues, 0, RUNS, 200), 170);
    assert_eq!(ran(&mut queues, 0, ELSEWHERE, 200), 30);
    let mut queues = self::queues();
    queues.charge(HartId(0), HartId(0), RUNS, 100, 130);
    assert_eq!(ran(&mut queues, 0, RUNS, 200), 200);
}
