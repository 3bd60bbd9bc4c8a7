//! Each change of a guest's life from each state that it may be in, against a table; and how it ends by itself.

use bundle::{OnReset, OnStop, VmConfig};
use lifecycle::Refused;
use monitor::Change::{self, Pause, Reset, Resume, Start, Stop};
use monitor::State::{self, Crashed, Failed, Off, Paused, Resetting, Running, Stopped, Stopping, Waiting};
use vmm::StopReason;
use vmm::outcome::Fatal;
use world::{NotChanged, Status};

use crate::sim::FREQUENCY;
use crate::sim::MS;
use crate::sim::build::{Setup, make};
use crate::sim::devices::Answers;
use crate::sim::driver::Driver;
use crate::sim::program::{Op, Program};
use crate::sim::random::Random;

/// The guest that all this is done to; it belongs to the second hart of two.
const GUEST: usize = 1;

/// Sleeps for ever, so that the run does not end with the other one.
fn sleep(program: &mut Program, _: &mut Random) {
    program.forever = vec![Op::Wait];
}

fn busy(program: &mut Program, _: &mut Random) {
    program.say();
    program.open_disk();
    program.forever = vec![Op::Compute(1000)];
}

/// Has a request under way for as long as the disk does not answer.
fn request(program: &mut Program, _: &mut Random) {
    program.say();
    program.open_disk();
    program.ops.push_back(Op::Request { write: true, sector: 8 });
    program.forever = vec![Op::Compute(1000)];
}

fn power_off(program: &mut Program, _: &mut Random) {
    program.ops.push_back(Op::End(StopReason::PowerOff));
}

fn reset(program: &mut Program, _: &mut Random) {
    program.ops.push_back(Op::End(StopReason::Reset));
}

fn fail(program: &mut Program, _: &mut Random) {
    program.ops.push_back(Op::End(StopReason::Failed(7)));
}

fn crash(program: &mut Program, _: &mut Random) {
    program.ops.push_back(Op::End(StopReason::Fatal(Fatal::NoHartLeft)));
}

fn setup(name: &str, plan: fn(&mut Program, &mut Random), change: impl FnOnce(&mut VmConfig)) -> Setup {
    let mut config = VmConfig { name: name.into(), device_tree: 0x10_0000, ..VmConfig::default() };
    change(&mut config);
    Setup { config, has_disk: true, has_net: false, plan }
}

fn play(plan: fn(&mut Program, &mut Random), change: impl FnOnce(&mut VmConfig), seed: u64) -> Driver {
    let setups = [setup("keeper", sleep, |_| {}), setup("guest", plan, change)];
    let mut driver = Driver::new(make(&setups, 2, seed));
    driver.made.state.borrow_mut().programs.iter_mut().for_each(|program| program.may_run = true);
    driver.change(0, 0, Start).unwrap();
    driver
}

impl Driver {
    fn state(&self) -> State {
        self.made.world.guests[GUEST].state()
    }

    fn lives(&self) -> u64 {
        self.made.state.borrow().programs[GUEST].lives
    }

    fn go_on(&mut self, ticks: u64) {
        // The program may be started anew at any time: what is asked here is the state alone.
        self.made.state.borrow_mut().programs[GUEST].may_run = true;
        let until = self.now() + ticks;
        self.run_until(until);
    }
}

/// The ways into each state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum In {
    NotStarted,
    Runs,
    IsPaused,
    Resets,
    Stops,
    Waits,
    WasStopped,
    PoweredOff,
    HasFailed,
    HasCrashed,
    IsStuck,
}

/// Brings the guest into a state.
fn bring(into: In, seed: u64) -> Driver {
    let plan = match into {
        In::NotStarted | In::Runs | In::IsPaused | In::WasStopped => busy,
        In::Resets | In::Stops | In::IsStuck => request,
        In::Waits => reset,
        In::PoweredOff => power_off,
        In::HasFailed => fail,
        In::HasCrashed => crash,
    };
    let mut driver = play(plan, |_| {}, seed);
    driver.made.state.borrow_mut().disk.answers = Answers::Never;
    if into != In::NotStarted {
        driver.change(0, GUEST, Start).unwrap();
        // Four restarts without a minute of life between them: the fifth waits for 80 ms.
        driver.go_on(100 * MS);
    }
    match into {
        In::IsPaused => driver.change(0, GUEST, Pause).unwrap(),
        In::Resets | In::IsStuck => driver.change(0, GUEST, Reset).unwrap(),
        In::Stops | In::WasStopped => driver.change(0, GUEST, Stop).unwrap(),
        _ => {}
    }
    driver.go_on(if into == In::IsStuck { 31 * FREQUENCY } else { MS });
    driver
}

/// What each change leads to: what is answered, and the state then.
type Row = [(Answer, State); 5];
/// What is answered.
type Answer = Result<(), NotChanged>;
/// How a life goes.
type Plan = fn(&mut Program, &mut Random);

const fn refused(why: Refused) -> Answer {
    Err(NotChanged::Refused(why))
}

/// What each change makes of each state: what is answered, and the state 5 ms later.
#[test]
fn each_change_from_each_state_does_what_the_table_says() {
    use Refused::{IsEnding, IsPaused, IsRunning, IsStarted, IsStopped};
    let changes = [Start, Stop, Pause, Resume, Reset];
    let no = refused;
    let table: [(In, State, Row); 11] = [
        (
            In::NotStarted,
            Stopped,
            [
                (Ok(()), Running),
                (no(IsStopped), Stopped),
                (no(IsStopped), Stopped),
                (no(IsStopped), Stopped),
                (no(IsStopped), Stopped),
            ],
        ),
        (
            In::Runs,
            Running,
            [
                (no(IsStarted), Running),
                (Ok(()), Stopped),
                (Ok(()), Paused),
                (no(IsRunning), Running),
                (Ok(()), Running),
            ],
        ),
        (
            In::IsPaused,
            Paused,
            [
                (no(IsStarted), Paused),
                (Ok(()), Stopped),
                (no(IsPaused), Paused),
                (Ok(()), Running),
                (Ok(()), Running),
            ],
        ),
        (
            In::Resets,
            Resetting,
            [
                (Ok(()), Resetting),
                (Ok(()), Stopping),
                (no(IsEnding), Resetting),
                (no(IsEnding), Resetting),
                (Ok(()), Resetting),
            ],
        ),
        (
            In::Stops,
            Stopping,
            [
                (Ok(()), Resetting),
                (no(IsStopped), Stopping),
                (no(IsEnding), Stopping),
                (no(IsEnding), Stopping),
                (no(IsStopped), Stopping),
            ],
        ),
        // It ends again at once, and waits for longer.
        (
            In::Waits,
            Waiting,
            [
                (Ok(()), Waiting),
                (Ok(()), Stopped),
                (no(IsEnding), Waiting),
                (no(IsEnding), Waiting),
                (Ok(()), Waiting),
            ],
        ),
        (
            In::WasStopped,
            Stopped,
            [
                (Ok(()), Running),
                (no(IsStopped), Stopped),
                (no(IsStopped), Stopped),
                (no(IsStopped), Stopped),
                (no(IsStopped), Stopped),
            ],
        ),
        (
            In::PoweredOff,
            Off,
            [
                (Ok(()), Off),
                (no(IsStopped), Off),
                (no(IsStopped), Off),
                (no(IsStopped), Off),
                (no(IsStopped), Off),
            ],
        ),
        (
            In::HasFailed,
            Failed,
            [
                (Ok(()), Failed),
                (no(IsStopped), Failed),
                (no(IsStopped), Failed),
                (no(IsStopped), Failed),
                (no(IsStopped), Failed),
            ],
        ),
        (
            In::HasCrashed,
            Crashed,
            [
                (Ok(()), Crashed),
                (no(IsStopped), Crashed),
                (no(IsStopped), Crashed),
                (no(IsStopped), Crashed),
                (no(IsStopped), Crashed),
            ],
        ),
        // The host's disk still has its memory.
        (
            In::IsStuck,
            Crashed,
            [
                (Ok(()), Resetting),
                (no(IsStopped), Crashed),
                (no(IsStopped), Crashed),
                (no(IsStopped), Crashed),
                (no(IsStopped), Crashed),
            ],
        ),
    ];
    for (into, state, row) in table {
        for (change, (answer, after)) in changes.into_iter().zip(row) {
            // By its own hart, and by another one.
            for hart in [GUEST, 0] {
                let mut driver = bring(into, 7);
                assert_eq!(driver.state(), state, "{into:?}");
                let lives = driver.lives();
                let given = driver.change(hart, GUEST, change);
                assert_eq!(given, answer, "{change:?} by hart {hart}, {into:?}");
                driver.go_on(5 * MS);
                assert_eq!(driver.state(), after, "{change:?} by hart {hart}, {into:?}");
                let begins = given.is_ok() && lives_begin(into, change);
                assert_eq!(driver.lives() > lives, begins, "{change:?} by hart {hart}, {into:?}: a new life");
            }
        }
    }
}

/// Whether a change that is carried out begins a new life at once.
fn lives_begin(from: In, change: Change) -> bool {
    match change {
        Start | Reset => !matches!(from, In::Resets | In::Stops | In::IsStuck),
        Stop | Pause | Resume => false,
    }
}

#[test]
fn what_a_guests_own_end_leads_to_is_its_manifests_choice() {
    type Policy = fn(&mut VmConfig);
    let restart =
        |config: &mut VmConfig| (config.on_reset, config.on_stop) = (OnReset::Restart, OnStop::Restart);
    let stay = |config: &mut VmConfig| (config.on_reset, config.on_stop) = (OnReset::Stop, OnStop::Stay);
    let exit = |config: &mut VmConfig| (config.on_reset, config.on_stop) = (OnReset::Exit, OnStop::Exit);
    let table: [(Plan, Policy, Result<State, Status>); 12] = [
        (power_off, restart, Ok(Off)),
        (power_off, stay, Ok(Off)),
        (power_off, exit, Ok(Off)),
        (reset, restart, Ok(Waiting)),
        (reset, stay, Ok(Off)),
        (reset, exit, Err(Status::Reset)),
        (fail, restart, Ok(Waiting)),
        (fail, stay, Ok(Failed)),
        (fail, exit, Err(Status::GuestFailed)),
        (crash, restart, Ok(Waiting)),
        (crash, stay, Ok(Crashed)),
        (crash, exit, Err(Status::Stopped)),
    ];
    for (number, (plan, policy, wanted)) in table.into_iter().enumerate() {
        let mut driver = play(plan, policy, 3);
        driver.change(GUEST, GUEST, Start).unwrap();
        driver.go_on(100 * MS);
        let is = driver.ended.map_or_else(|| Ok(driver.state()), Err);
        assert_eq!(is, wanted, "row {number}");
        // Restarts: at once, after 10, 20, 40 ms; the next one comes after 80.
        assert_eq!(driver.lives(), if wanted == Ok(Waiting) { 5 } else { 1 }, "row {number}");
        driver.show_all();
        let state = driver.made.state.borrow();
        let told = state.line.text().matches("guest `guest` ").count() as u64;
        // The registers of a few crashes are all that is told of them.
        let wanted = if state.line.text().contains("lines about") {
            1..=told
        } else {
            driver.lives()..=driver.lives()
        };
        assert!(wanted.contains(&told), "row {number}: {}", state.line.text());
        assert_eq!(state.faults, [""; 0], "row {number}");
    }
}

#[test]
fn with_the_last_guest_the_run_ends_as_the_worst_of_them_has() {
    for (plan, policy, status) in [
        (power_off as Plan, OnReset::Stop, Status::PoweredOff),
        (reset, OnReset::Stop, Status::PoweredOff),
        (fail, OnReset::Stop, Status::GuestFailed),
        (crash, OnReset::Stop, Status::Stopped),
    ] {
        let mut driver = play(plan, |config| config.on_reset = policy, 5);
        driver.change(0, 0, Stop).unwrap();
        driver.change(GUEST, GUEST, Start).unwrap();
        driver.go_on(100 * MS);
        assert_eq!(driver.ended, Some(status));
    }
}

#[test]
fn a_disk_that_never_answers_holds_up_nobody_but_its_guest() {
    let mut driver = play(request, |_| {}, 11);
    driver.made.state.borrow_mut().disk.answers = Answers::Never;
    driver.change(GUEST, GUEST, Start).unwrap();
    driver.go_on(10 * MS);
    driver.change(0, GUEST, Reset).unwrap();
    driver.go_on(29 * FREQUENCY);
    assert_eq!((driver.state(), driver.lives()), (Resetting, 1));
    driver.go_on(2 * FREQUENCY);
    // It is not started while the disk may write to its memory.
    assert_eq!((driver.state(), driver.lives()), (Crashed, 1));
    assert!(driver.made.state.borrow().line.text().contains("does not start again: a disk of the host's"));
    // The other one still goes.
    driver.change(1, 0, Reset).unwrap();
    driver.go_on(MS);
    assert_eq!(driver.made.state.borrow().programs[0].lives, 2);
}

#[test]
fn a_line_that_takes_nothing_holds_up_nobody_but_the_end_of_who_writes() {
    fn talk(program: &mut Program, _: &mut Random) {
        (0..40).for_each(|_| program.say());
        program.ops.push_back(Op::End(StopReason::PowerOff));
    }
    let mut driver = play(talk, |_| {}, 13);
    driver.made.state.borrow_mut().line.byte_time = u64::MAX;
    driver.change(GUEST, GUEST, Start).unwrap();
    driver.go_on(FREQUENCY);
    driver.change(0, 0, Reset).unwrap();
    driver.go_on(FREQUENCY);
    assert_eq!(driver.made.state.borrow().programs[0].lives, 2);
    driver.go_on(31 * FREQUENCY);
    assert!(matches!(driver.state(), Off | Running), "{:?}", driver.state());
    // Nothing is lost once the line takes bytes again.
    driver.made.state.borrow_mut().line.byte_time = 10;
    driver.go_on(31 * FREQUENCY);
    assert_eq!(driver.state(), Off);
}

#[test]
fn what_the_operator_types_is_carried_out() {
    let mut driver = play(busy, |_| {}, 17);
    driver.change(0, GUEST, Start).unwrap();
    driver.go_on(10 * MS);
    driver.made.state.borrow_mut().line.typed.extend(b"\x1dmpause guest\r");
    driver.go_on(50 * MS);
    assert_eq!(driver.state(), Paused, "{}", driver.made.state.borrow().line.text());
    driver.made.state.borrow_mut().line.typed.extend(b"resume guest\rstop guest\r");
    driver.go_on(50 * MS);
    assert_eq!(driver.state(), Stopped);
    driver.made.state.borrow_mut().line.typed.extend(b"start guest\r");
    driver.go_on(50 * MS);
    driver.made.state.borrow_mut().line.typed.extend(b"vms\rshutdown\ry\r");
    driver.go_on(50 * MS);
    assert_eq!(driver.ended, Some(Status::PoweredOff), "{}", driver.made.state.borrow().line.text());
    assert_eq!(driver.lives(), 2);
}
