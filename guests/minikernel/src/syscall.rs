//! The system calls: what a process may ask for, by the numbers in `user::abi`.

use crate::kernel::{Kernel, Next};
use crate::process::Ending;
use crate::trap;
use guest_rt::time::now;
use user::abi::{Error, Syscall};

/// The registers of the calling convention.
const A0: usize = 10;
const A1: usize = 11;
const A7: usize = 17;
/// Bytes of an ECALL, which has no compressed form.
const ECALL_LENGTH: u64 = 4;

impl Kernel {
    /// Serves the call that the process in `slot` has made: its registers hold what it asked for.
    pub fn system_call(&mut self, slot: usize) -> Next {
        let Some(process) = self.process_in(slot) else { return Next::Interrupted };
        // sepc is the ECALL's own address; the process goes on after it.
        process.frame.pc = process.frame.pc.wrapping_add(ECALL_LENGTH);
        process.calls += 1;
        let (pid, a0, a1) = (process.pid, process.frame.x[A0], process.frame.x[A1]);
        let Some(call) = Syscall::from_number(process.frame.x[A7]) else {
            return self.answer(slot, Error::NoSuchCall as i64);
        };
        match call {
            Syscall::Write => {
                let result = self.write(slot, a0, a1);
                self.answer(slot, result)
            }
            Syscall::GetPid => self.answer(slot, pid.into()),
            Syscall::Uptime => {
                let uptime = self.uptime();
                self.answer(slot, uptime as i64)
            }
            Syscall::Yield => {
                self.answer(slot, 0);
                Next::Yield
            }
            Syscall::Sleep => {
                self.answer(slot, 0);
                let ticks = u128::from(a0) * u128::from(self.machine.timebase) / 1000;
                Next::Sleep(now().saturating_add(ticks.try_into().unwrap_or(u64::MAX)))
            }
            Syscall::Exit => Next::End(Ending::Exited(a0)),
        }
    }

    /// Puts a call's result where the process expects it.
    fn answer(&mut self, slot: usize, result: i64) -> Next {
        if let Some(process) = self.process_in(slot) {
            process.frame.x[A0] = result as u64;
        }
        Next::Resume
    }

    /// `write(address, length)`: the process's bytes go out on the console.
    fn write(&mut self, slot: usize, address: u64, length: u64) -> i64 {
        let (processes, screen) = self.processes_and_screen();
        let Some(process) = processes.get(slot).and_then(Option::as_ref) else {
            return Error::BadAddress as i64;
        };
        // The UART is slow, and input must not wait for it. Nothing that an interrupt does touches this process.
        trap::interrupts_on();
        let written = process.space.read(address, length, |bytes| screen.write(bytes));
        trap::interrupts_off();
        if written { length as i64 } else { Error::BadAddress as i64 }
    }
}
