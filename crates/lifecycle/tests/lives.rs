//! Lives of a guest: each event in each phase, and random histories.

use lifecycle::{Backoff, End, Life, Phase, Refused, Step, Times, Unfinished};
use proptest::prelude::*;

const PATIENCE: u64 = 300;
const TIMES: Times = Times { first: 10, longest: 600, long_life: 1000 };
const NOTHING: Unfinished = Unfinished { output: false, requests: false };
const OUTPUT: Unfinished = Unfinished { output: true, requests: false };
const REQUESTS: Unfinished = Unfinished { output: false, requests: true };

fn life() -> Life {
    Life::new(Backoff::new(TIMES), PATIENCE)
}

/// One that runs since time 0.
fn running() -> Life {
    let mut life = life();
    life.start(0).unwrap();
    assert_eq!(steps(&mut life, NOTHING, 0), [Step::Tell { is_cut: false, restarts: true }, Step::Start]);
    life
}

fn steps(life: &mut Life, unfinished: Unfinished, now: u64) -> Vec<Step> {
    core::iter::from_fn(|| life.advance(unfinished, now)).collect()
}

fn stopped(end: End) -> Step {
    Step::Stop { end, is_busy: false }
}

const fn tell(restarts: bool) -> Step {
    Step::Tell { is_cut: false, restarts }
}

#[test]
fn a_guest_that_resets_starts_again_once_its_requests_are_done() {
    let mut life = running();
    assert!(life.end(true, 100));
    assert_eq!(steps(&mut life, REQUESTS, 100), [tell(true)], "its end is told at once");
    assert_eq!(steps(&mut life, REQUESTS, 399), [], "and nobody else waits");
    assert_eq!(life.deadline(), 100 + PATIENCE);
    assert_eq!(steps(&mut life, NOTHING, 399), [Step::Start]);
    assert_eq!((life.phase(), life.restarts()), (Phase::Running, 1));
}

#[test]
fn a_guest_whose_requests_are_never_done_is_stopped() {
    let mut life = running();
    assert!(life.end(true, 100));
    assert_eq!(steps(&mut life, REQUESTS, 400), [tell(true), Step::Stop { end: End::Stuck, is_busy: true }]);
    // The operator may try again, and the disk may have answered meanwhile, or not.
    let mut again = life;
    again.start(1000).unwrap();
    assert_eq!(steps(&mut again, REQUESTS, 1299), [tell(true)]);
    assert_eq!(steps(&mut again, REQUESTS, 1300), [Step::Stop { end: End::Stuck, is_busy: true }]);
    life.start(1000).unwrap();
    assert_eq!(steps(&mut life, NOTHING, 1000), [tell(true), Step::Start]);
}

#[test]
fn output_is_awaited_before_the_end_is_told() {
    let mut life = running();
    assert!(life.end(false, 100));
    assert_eq!(steps(&mut life, OUTPUT, 399), []);
    let mut late = life;
    assert_eq!(
        steps(&mut late, OUTPUT, 400),
        [Step::Tell { is_cut: true, restarts: false }, stopped(End::ByItself)]
    );
    assert_eq!(steps(&mut life, NOTHING, 399), [tell(false), stopped(End::ByItself)]);
}

#[test]
fn a_guest_that_ends_again_and_again_waits_longer_and_longer() {
    let mut life = running();
    let mut now = 0;
    for delay in [0, 10, 20, 40, 80, 160, 320, 600, 600] {
        now += 5;
        assert!(life.end(true, now));
        if delay > 0 {
            assert_eq!(steps(&mut life, NOTHING, now + delay - 1), [tell(true)]);
            assert_eq!(life.phase(), Phase::Waiting { until: now + delay });
            assert_eq!(life.deadline(), now + delay);
        }
        now += delay;
        assert_eq!(steps(&mut life, NOTHING, now).last(), Some(&Step::Start));
    }
    assert_eq!(life.restarts(), 9);
    now += TIMES.long_life;
    assert!(life.end(true, now));
    assert_eq!(steps(&mut life, NOTHING, now), [tell(true), Step::Start], "a long life is forgiven");
}

#[test]
fn time_spent_on_requests_counts_as_delay() {
    let mut life = running();
    assert!(life.end(true, 0));
    assert_eq!(steps(&mut life, NOTHING, 0), [tell(true), Step::Start]);
    assert!(life.end(true, 1));
    assert_eq!(steps(&mut life, REQUESTS, 50), [tell(true)]);
    assert_eq!(steps(&mut life, NOTHING, 50), [Step::Start]);
}

/// A guest in each phase at time 100.
fn in_each_phase() -> [(&'static str, Life); 8] {
    let with = |change: fn(&mut Life)| {
        let mut life = running();
        change(&mut life);
        life
    };
    [
        ("running", running()),
        ("paused", with(|life| life.pause().unwrap())),
        ("resetting", with(|life| assert!(life.end(true, 100)))),
        ("waiting", {
            let mut life = running();
            assert!(life.end(true, 1));
            assert_eq!(steps(&mut life, NOTHING, 1), [tell(true), Step::Start]);
            assert!(life.end(true, 95));
            assert_eq!(steps(&mut life, NOTHING, 100), [tell(true)]);
            assert_eq!(life.phase(), Phase::Waiting { until: 105 });
            life
        }),
        ("ending", with(|life| assert!(life.end(false, 100)))),
        ("stopping", with(|life| life.stop(100).unwrap())),
        ("stopped", {
            let mut life = running();
            life.stop(100).unwrap();
            assert_eq!(steps(&mut life, NOTHING, 100), [tell(false), stopped(End::ByOperator)]);
            life
        }),
        ("new", life()),
    ]
}

#[test]
fn each_event_in_each_phase_is_carried_out_or_refused() {
    type Event = fn(&mut Life) -> Result<(), Refused>;
    let events: [Event; 5] = [
        |life| life.start(100),
        |life| life.stop(100),
        |life| life.pause(),
        |life| life.resume(),
        |life| life.reset(100),
    ];
    let refused = |why| (Err(why), None);
    let [starts, stops, pauses, resumes] =
        [Phase::Running, Phase::Stopped(End::ByOperator), Phase::Paused, Phase::Running]
            .map(|phase| (Ok(()), Some(phase)));
    let [is_started, is_stopped, is_paused, is_running, is_ending] =
        [Refused::IsStarted, Refused::IsStopped, Refused::IsPaused, Refused::IsRunning, Refused::IsEnding]
            .map(refused);
    // start, stop, pause, resume, reset; and what it is doing when all is finished, at the same time.
    let expected = [
        ("running", [is_started, stops, pauses, is_running, starts]),
        ("paused", [is_started, stops, is_paused, resumes, starts]),
        ("resetting", [starts, stops, is_ending, is_ending, starts]),
        ("waiting", [starts, stops, is_ending, is_ending, starts]),
        ("ending", [starts, is_stopped, is_ending, is_ending, is_stopped]),
        ("stopping", [starts, is_stopped, is_ending, is_ending, is_stopped]),
        ("stopped", [starts, is_stopped, is_stopped, is_stopped, is_stopped]),
        ("new", [starts, is_stopped, is_stopped, is_stopped, is_stopped]),
    ];
    for ((name, before), (expected_name, expected)) in in_each_phase().into_iter().zip(expected) {
        assert_eq!(name, expected_name);
        for (number, (event, (result, phase))) in events.iter().zip(expected).enumerate() {
            let mut life = before;
            assert_eq!(event(&mut life), result, "{name}, event {number}");
            if result.is_err() {
                assert_eq!(
                    life.phase(),
                    before.phase(),
                    "{name}, event {number}: what is refused changes nothing"
                );
            }
            steps(&mut life, NOTHING, 100);
            let phase = phase.unwrap_or_else(|| {
                let mut before = before;
                steps(&mut before, NOTHING, 100);
                before.phase()
            });
            assert_eq!(life.phase(), phase, "{name}, event {number}");
        }
        let mut life = before;
        assert_eq!(life.end(false, 100), name == "running", "only a guest that runs can end: {name}");
    }
}

#[test]
fn a_start_that_fails_leaves_the_guest_stopped() {
    let mut life = running();
    life.fail();
    assert_eq!(life.phase(), Phase::Stopped(End::ByItself));
}

#[derive(Clone, Debug)]
enum Event {
    Start,
    Stop,
    Pause,
    Resume,
    Reset,
    End(bool),
    /// Time passes, with the guest's work as it is then.
    Pass(u64, bool, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Start),
        Just(Event::Stop),
        Just(Event::Pause),
        Just(Event::Resume),
        Just(Event::Reset),
        any::<bool>().prop_map(Event::End),
        (0..400_u64, any::<bool>(), any::<bool>())
            .prop_map(|(ticks, output, requests)| Event::Pass(ticks, output, requests)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// *drained-reset*
    #[test]
    fn no_history_starts_a_guest_whose_requests_are_under_way(events in prop::collection::vec(event(), 0..60)) {
        let mut life = life();
        let (mut now, mut lives) = (0, 0_u64);
        // Since when it has been between two lives.
        let mut since = None;
        for event in events {
            let was_running = life.is_running();
            let mut work = NOTHING;
            match event {
                Event::Start => { let _ = life.start(now); }
                Event::Stop => { let _ = life.stop(now); }
                Event::Pause => { let _ = life.pause(); }
                Event::Resume => { let _ = life.resume(); }
                Event::Reset => { let _ = life.reset(now); }
                Event::End(restarts) => prop_assert_eq!(life.end(restarts, now), was_running),
                Event::Pass(ticks, output, requests) => {
                    now += ticks;
                    work = Unfinished { output, requests };
                    let waits = matches!(life.phase(), Phase::Waiting { .. });
                    let found = steps(&mut life, work, now);
                    prop_assert!(found.len() <= 2, "{:?}", found);
                    if found.contains(&Step::Start) {
                        lives += 1;
                        prop_assert!(!requests || waits, "what waits has nothing under way");
                    }
                    if let Some(Step::Stop { is_busy, .. }) = found.last() {
                        prop_assert!(!is_busy || requests);
                    }
                }
            }
            prop_assert_eq!(life.restarts(), lives.saturating_sub(1));
            let is_between = matches!(life.phase(), Phase::Ending(_));
            since = if is_between { since.or(Some(now)) } else { None };
            if let Some(since) = since {
                prop_assert!(now - since <= 2 * PATIENCE + 400, "an end is no more than so long");
                prop_assert!(work.output || work.requests || !matches!(event, Event::Pass(..)));
            }
            prop_assert!(life.deadline() > now || matches!(event, Event::Start | Event::Reset), "{:?}", life);
        }
    }
}
