//! Random histories of several guests on several harts, against a model: guests that end in all ways, operators at any hart, a
//! disk in all its moods.

use bundle::{OnReset, OnStop, VmConfig};
use monitor::Change;
use vmm::StopReason;
use vmm::outcome::Fatal;
use world::Status;

use crate::model::{Model, Phase, SOON, Seen};
use crate::sim::build::{Setup, make};
use crate::sim::devices::Answers;
use crate::sim::driver::Driver;
use crate::sim::program::{Op, Program};
use crate::sim::random::Random;
use crate::sim::{FREQUENCY, MS};

/// A life of any kind.
fn live(program: &mut Program, random: &mut Random) {
    program.say();
    let has_disk = random.once_in(2);
    if has_disk {
        program.open_disk();
    }
    for _ in 0..random.below(12) {
        let op = match random.below(10) {
            0..3 => Op::Compute(1 + random.below(2 * MS)),
            3 => {
                program.ops.extend([Op::SetTimer(random.below(5 * MS)), Op::Wait]);
                Op::NoteWake
            }
            4 => Op::Illegal,
            5 => Op::NoSuchCall,
            6 => Op::Ipi,
            7 if has_disk => Op::Requests,
            8 | 9 if has_disk => Op::Request { write: random.once_in(2), sector: 2 * random.below(1000) },
            _ => Op::Put(b'.'),
        };
        // Its own interrupt would wake it up for ever.
        if op == Op::Ipi || op == Op::Requests && random.once_in(2) {
            continue;
        }
        program.ops.push_back(op);
    }
    let end = match random.below(8) {
        0 | 1 => StopReason::PowerOff,
        2 | 3 => StopReason::Reset,
        4 => StopReason::Failed(3),
        5 => StopReason::Fatal(Fatal::NoHartLeft),
        6 => return program.forever = vec![Op::Wait],
        _ if program.is_quiet => return program.forever = vec![Op::SetTimer(100 * MS), Op::Wait],
        _ => return program.forever = vec![Op::Compute(MS / 3), Op::Illegal],
    };
    program.ops.push_back(Op::End(end));
}

/// How a history goes.
struct History {
    driver: Driver,
    models: Vec<Model>,
    random: Random,
    /// Own ends that the models have heard of, by guest.
    heard: Vec<usize>,
    /// All were over at that time.
    over_since: Option<u64>,
    /// The longest time between two commands, in ticks.
    pause: u64,
    /// How the disk answers, by chance.
    moods: [Answers; 5],
}

const MOODS: [Answers; 5] = [Answers::Soon, Answers::Soon, Answers::Late, Answers::Wrongly, Answers::Never];

/// What a history came to.
#[derive(Default, Debug)]
struct Sum {
    lives: u64,
    commands: u64,
    refusals: u64,
    stuck: u64,
    by_policy: u64,
    with_the_last: u64,
    requests: u64,
}

impl History {
    fn new(seed: u64, harts: usize) -> Self {
        let mut random = Random(seed);
        let count = 2 + random.below(7) as usize;
        let setups: Vec<_> = (0..count).map(|number| setup(number, &mut random)).collect();
        let mut driver = Driver::new(make(&setups, harts, random.next()));
        // In some, vCPUs lose their caches, or all but their state: *droppable-caches*.
        driver.made.world.probes.drop_caches_every = [3, 0, 0, 0, 50, 0, 0, 0][(seed % 8) as usize];
        {
            let mut state = driver.made.state.borrow_mut();
            state.programs.iter_mut().for_each(|program| program.is_followed = true);
            state.line.byte_time = [1, 10, 100][random.below(3) as usize];
        }
        let models = setups.iter().map(|setup| Model::new(&setup.config)).collect();
        Self { driver, models, random, heard: vec![0; count], over_since: None, pause: 20 * MS, moods: MOODS }
    }

    /// Tells a guest's program what its model says.
    fn tell_program(&mut self, guest: usize) {
        let mut state = self.driver.made.state.borrow_mut();
        let (program, model) = (&mut state.programs[guest], &self.models[guest]);
        match model.phase {
            Phase::Running => program.may_run = true,
            Phase::Paused | Phase::Stopped => program.may_run = false,
            Phase::Ending { .. } | Phase::Waiting { .. } => {
                program.must_begin = true;
                program.may_run = model.may_begin().is_some();
                program.not_before = model.may_begin().unwrap_or(u64::MAX);
            }
        }
    }

    /// An operator does something at some hart.
    fn command(&mut self, sum: &mut Sum) {
        let (guest, harts) =
            (self.random.below(self.models.len() as u64) as usize, self.driver.made.harts.len());
        let hart = self.random.below(harts as u64) as usize;
        let change = match self.random.below(9) {
            0..3 => Change::Start,
            3 => Change::Stop,
            4 | 5 => Change::Pause,
            6 | 7 => Change::Resume,
            _ => Change::Reset,
        };
        let now = self.driver.now();
        let wanted = self.models[guest].command(change, now);
        self.tell_program(guest);
        let done = self.driver.change(hart, guest, change);
        assert_eq!(done.is_ok(), wanted, "{now}: {change:?} of guest {guest} by hart {hart}: {done:?}");
        sum.commands += 1;
        sum.refusals += u64::from(done.is_err());
    }

    /// Looks at everything after a turn.
    fn look(&mut self, sum: &mut Sum) {
        // The end of the run takes its time, in which nobody runs.
        let now = self.driver.ended_at.unwrap_or(self.driver.now());
        for guest in 0..self.models.len() {
            let ends: Vec<_> = {
                let state = self.driver.made.state.borrow();
                assert_eq!(state.faults, [""; 0]);
                state.programs[guest].ends[self.heard[guest]..].to_vec()
            };
            for (at, reason) in ends {
                self.heard[guest] += 1;
                self.models[guest].end(reason, at);
            }
            let seen = {
                let state = self.driver.made.state.borrow();
                let requests = state.disk.of_guest(guest);
                let world_state = self.driver.made.world.guests[guest].state();
                Seen { now, state: world_state, requests, line_works: true }
            };
            let was = self.models[guest].phase;
            if let Err(why) = self.models[guest].look(seen) {
                panic!("guest {guest}: {why}");
            }
            if was != self.models[guest].phase {
                let stuck = matches!(was, Phase::Ending { starts: Some(_), .. });
                sum.stuck += u64::from(stuck && self.models[guest].phase == Phase::Stopped);
            }
            self.tell_program(guest);
        }
        self.look_for_the_end(now);
    }

    /// The run ends when it has to.
    fn look_for_the_end(&mut self, now: u64) {
        let all_stopped = self.models.iter().all(|model| model.phase == Phase::Stopped);
        let by_policy =
            |model: &Model| model.phase == Phase::Stopped && model.ends_the_run && model.ended_by_itself;
        let is_over = self.models.iter().any(by_policy)
            || all_stopped && self.models.iter().any(|model| model.ended_by_itself);
        if !is_over || self.driver.ended.is_some() {
            self.over_since = None;
            return;
        }
        let since = *self.over_since.get_or_insert(now);
        // Another guest's end by the operator may have come after that of the last one to end by itself.
        let last_was_operators = !self.models.iter().any(by_policy);
        assert!(now < since + SOON || last_was_operators, "{now}: the run is over, and goes on");
    }

    fn play(&mut self, ticks: u64, sum: &mut Sum) {
        let end = self.driver.now() + ticks;
        // Whoever is to run from the start.
        for guest in 0..self.models.len() {
            if self.random.once_in(4) {
                continue;
            }
            let now = self.driver.now();
            assert!(self.models[guest].command(Change::Start, now));
            self.tell_program(guest);
            self.driver.change(0, guest, Change::Start).unwrap();
        }
        self.look(sum);
        let mut next = self.driver.now();
        while self.driver.ended.is_none() && self.driver.now() < end {
            if self.driver.now() >= next {
                if self.random.once_in(20) {
                    self.driver.made.state.borrow_mut().disk.answers =
                        self.moods[self.random.below(5) as usize];
                }
                self.command(sum);
                next = self.driver.now() + self.random.below(self.pause);
                self.look(sum);
            }
            self.driver.step(next.min(end));
            self.look(sum);
        }
    }

    /// What has to hold at the end.
    fn check_the_end(&mut self, sum: &mut Sum) {
        if self.driver.ended.is_none() {
            self.driver.made.state.borrow_mut().disk.answers = Answers::Soon;
        }
        if self.driver.ended.is_none() {
            self.driver.made.world.ending = Some(Status::PoweredOff);
            self.driver.made.state.borrow_mut().harts[0].software = true;
            while self.driver.ended.is_none() {
                self.driver.step(u64::MAX);
            }
        } else {
            self.check_status(sum);
        }
        self.check_accounts();
        self.check_output();
        let state = self.driver.made.state.borrow();
        assert_eq!(state.faults, [""; 0]);
        let disk = &state.disk;
        assert_eq!(disk.taken, disk.given_back + disk.under_way.len() as u64, "operations of the disk");
        if disk.under_way.is_empty() {
            assert_eq!(disk.unsafe_writes, 0, "what was written is flushed at the end");
        }
        sum.requests += state.programs.iter().map(|program| program.requests_done).sum::<u64>();
        sum.lives += state.programs.iter().map(|program| program.lives).sum::<u64>();
    }

    fn check_status(&self, sum: &mut Sum) {
        let status = self.driver.ended.unwrap();
        let by_policy: Vec<_> =
            self.models.iter().filter(|model| model.ends_the_run).map(|model| model.status).collect();
        let worst = self.models.iter().map(|model| model.status).max().unwrap();
        let all_stopped = self.models.iter().all(|model| model.phase == Phase::Stopped);
        assert!(
            by_policy.contains(&status) || all_stopped && status == worst,
            "the run ended as {status:?}: {:?}",
            self.models
        );
        sum.by_policy += u64::from(by_policy.contains(&status));
        sum.with_the_last += u64::from(all_stopped);
    }

    /// What each hart has spent is no more than there was, and each guest is charged for what it executed.
    fn check_accounts(&self) {
        let world = &self.driver.made.world;
        let state = self.driver.made.state.borrow();
        let elapsed = state.now - world.started;
        let mut by_hart = vec![0; self.driver.made.harts.len()];
        for (guest, program) in world.guests.iter().zip(&state.programs) {
            let queue = world.queues.get(guest.hart).unwrap();
            let ran = queue.scheduler.accounts(guest.entity).ran;
            // What it executed in the turn that ended the run is charged when the next one begins.
            assert!(
                ran + self.driver.longest >= program.executed,
                "{ran} charged, {} executed",
                program.executed
            );
            by_hart[guest.hart.0] += ran;
        }
        for (ran, queue) in by_hart.into_iter().zip(world.queues.iter()) {
            assert!(ran + queue.idle <= elapsed, "{ran} + {} of {elapsed}", queue.idle);
        }
    }

    /// What guests have written is shown, and each end is told or counted among what was left out.
    fn check_output(&mut self) {
        self.driver.show_all();
        let state = self.driver.made.state.borrow();
        let text = state.line.text();
        for program in &state.programs {
            // Lines of others may stand between the parts of its own.
            let prefix = format!("g{}| ", program.guest);
            let own: String = text.lines().filter_map(|line| line.strip_prefix(prefix.as_str())).collect();
            for said in &program.texts {
                assert_eq!(own.matches(said.as_str()).count(), 1, "{said} in {own}:\n{text}");
            }
            let name = format!("guest `g{}` ", program.guest);
            let told = text.lines().filter(|line| line.contains(&name) && is_an_end(line)).count();
            let left_out = text.lines().any(|line| line.contains("left out"));
            assert!(told <= program.ends.len(), "{name}: {told} ends told, {:?}", program.ends);
            // The end that comes with the end of the run may not be told.
            assert!(
                left_out || told + 1 >= program.ends.len(),
                "{name}: {told} of {:?}\n{text}",
                program.ends
            );
        }
    }
}

fn is_an_end(line: &str) -> bool {
    ["powered off", "asked for a reset", "reported failure", "was stopped"]
        .iter()
        .any(|end| line.contains(end))
}

fn setup(number: usize, random: &mut Random) -> Setup {
    let config = VmConfig {
        name: format!("g{number}"),
        device_tree: 0x10_0000,
        weight: 1 + random.below(300) as u32,
        cap: random.once_in(5).then(|| 20 + random.below(80) as u32),
        on_reset: match random.below(20) {
            0 => OnReset::Exit,
            1..8 => OnReset::Stop,
            _ => OnReset::Restart,
        },
        on_stop: match random.below(20) {
            0 => OnStop::Exit,
            1..8 => OnStop::Stay,
            _ => OnStop::Restart,
        },
        max_restart_delay: [0, 5, 30, 1000][random.below(4) as usize],
        ..VmConfig::default()
    };
    Setup { config, has_disk: true, has_net: false, plan: live }
}

fn play(seeds: core::ops::Range<u64>, harts: usize, ticks: u64, enough: u64) -> Sum {
    let mut sum = Sum::default();
    for seed in seeds {
        let mut history = History::new(seed, harts);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            history.play(ticks, &mut sum);
            history.check_the_end(&mut sum);
        }));
        if let Err(why) = played {
            eprintln!("the history of seed {seed} on {harts} harts");
            std::panic::resume_unwind(why);
        }
        if sum.lives >= enough {
            break;
        }
    }
    sum
}

/// Half of ten thousand, for two threads.
fn half_of_ten_thousand_lives(first: u64) {
    let sum = play(first..first + 10_000, 4, FREQUENCY, 5_000);
    println!("{sum:?}");
    assert!(sum.lives >= 5_000, "{sum:?}");
    assert!(sum.by_policy > 0 && sum.with_the_last > 0 && sum.refusals > 0 && sum.requests > 0, "{sum:?}");
}

#[test]
fn ten_thousand_lives_on_four_harts_go_as_the_model_says_first_half() {
    half_of_ten_thousand_lives(0);
}

#[test]
fn ten_thousand_lives_on_four_harts_go_as_the_model_says_second_half() {
    half_of_ten_thousand_lives(100_000);
}

#[test]
fn so_do_lives_beside_a_disk_that_is_silent_for_a_minute() {
    let mut sum = Sum::default();
    for seed in 0..4 {
        let mut history = History::new(200_000 + seed, 4);
        history
            .driver
            .made
            .state
            .borrow_mut()
            .programs
            .iter_mut()
            .for_each(|program| program.is_quiet = true);
        history.driver.made.state.borrow_mut().disk.answers = Answers::Never;
        (history.pause, history.moods) = (4 * FREQUENCY, [Answers::Never; 5]);
        history.play(60 * FREQUENCY, &mut sum);
        history.check_the_end(&mut sum);
    }
    assert!(sum.stuck > 0, "{sum:?}");
}

#[test]
fn so_do_lives_on_one_hart_and_on_two() {
    for harts in [1, 2] {
        let sum = play(50_000..60_000, harts, FREQUENCY, 1_000);
        assert!(sum.lives >= 1_000, "{harts} harts: {sum:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let show = || {
        let mut history = History::new(42, 4);
        history.play(FREQUENCY / 2, &mut Sum::default());
        let state = history.driver.made.state.borrow();
        (state.now, history.driver.turns, state.line.output.clone())
    };
    assert_eq!(show(), show());
}
