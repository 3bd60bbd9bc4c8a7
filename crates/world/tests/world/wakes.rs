//! What has come for a guest wakes it, whichever hart it belongs to and whoever serves the host's device.

use bundle::VmConfig;
use monitor::Change;

use crate::sim::build::{Setup, make};
use crate::sim::driver::Driver;
use crate::sim::program::{Op, Program, frame};
use crate::sim::random::Random;
use crate::sim::{FREQUENCY, MS};

/// The longest turn here, in ticks.
const TURN: u64 = 500;

/// Sends a frame to guest 1 now and then, and one to the world outside.
fn sender(program: &mut Program, _: &mut Random) {
    program.open_net();
    program.forever = vec![Op::SetTimer(MS / 2), Op::Wait, Op::Send(1), Op::Send(200)];
}

/// Sleeps until a frame comes.
fn receiver(program: &mut Program, _: &mut Random) {
    program.open_net();
    program.forever = vec![Op::Wait, Op::TakeFrames];
}

#[test]
fn a_frame_wakes_its_receiver_whichever_hart_that_belongs_to() {
    for harts in [1, 2] {
        let setup = |number: usize, plan: fn(&mut Program, &mut Random)| {
            let config =
                VmConfig { name: format!("g{number}"), device_tree: 0x10_0000, ..VmConfig::default() };
            Setup { config, has_disk: true, has_net: true, plan }
        };
        let setups = [setup(0, sender), setup(1, receiver), setup(2, receiver)];
        let mut driver = Driver::new(make(&setups, harts, 37));
        driver.longest = TURN;
        for guest in 0..3 {
            driver.change(0, guest, Change::Start).unwrap();
        }
        driver.run_until(10 * MS);
        // From outside.
        let mut arrived = 0;
        for _ in 0..20 {
            for _ in 0..6 {
                let now = driver.now();
                driver.made.state.borrow_mut().nic.arrive(frame(2, 201, now));
                arrived += 1;
            }
            driver.run_until(driver.now() + 5 * MS);
        }
        driver.run_until(driver.now() + 5 * MS);
        let state = driver.made.state.borrow();
        assert_eq!(state.faults, [""; 0]);
        let [sender, first, second] = &state.programs[..] else { panic!("three guests") };
        assert!(sender.frames_sent > 200, "{}", sender.frames_sent);
        // The last one may be on its way.
        let to_first = sender.frames_sent / 2;
        assert!(first.frames_received + 1 >= to_first, "{} of {to_first} frames", first.frames_received);
        assert!(state.nic.sent + 1 >= to_first, "{} of {to_first} frames went out", state.nic.sent);
        assert_eq!(second.frames_received, arrived, "{harts} harts");
        // No more than a few turns.
        for program in [first, second] {
            assert!(program.latest_frame <= 10 * TURN, "{} ticks on {harts} harts", program.latest_frame);
        }
    }
}

/// One request after the other.
fn reader(program: &mut Program, _: &mut Random) {
    program.open_disk();
    program.forever = vec![Op::Request { write: false, sector: 8 }, Op::Requests];
}

#[test]
fn a_disk_that_is_done_wakes_its_guest_whichever_hart_that_belongs_to() {
    for harts in [1, 2] {
        let setup = |number: usize| {
            let config =
                VmConfig { name: format!("g{number}"), device_tree: 0x10_0000, ..VmConfig::default() };
            Setup { config, has_disk: true, has_net: false, plan: reader }
        };
        let mut driver = Driver::new(make(&[setup(0), setup(1)], harts, 41));
        driver.longest = TURN;
        driver.change(0, 1, Change::Start).unwrap();
        driver.run_until(FREQUENCY / 5);
        let state = driver.made.state.borrow();
        assert_eq!(state.faults, [""; 0]);
        // Each takes half a millisecond.
        let done = state.programs[1].requests_done;
        assert!((300..500).contains(&done), "{done} requests on {harts} harts");
    }
}
