//! The kernel: the table of processes, and the step that runs one of them.
//!
//! All state is in one value, `Kernel`, that the shell owns and lends out; nothing is shared with the interrupt
//! handlers but the ring in `input` and the deadline in `timer`. System calls are in `syscall`.

use crate::machine::Machine;
use crate::memory::active;
use crate::memory::frames::Frames;
use crate::memory::space::{LoadError, Space};
use crate::memory::table::PageTable;
use crate::process::{Ended, Ending, Pid, Process, is_page_fault};
use crate::programs::Program;
use crate::screen::Screen;
use crate::trap::{self, Trap, TrapFrame};
use crate::{input, timer};
use core::arch::asm;
use guest_rt::isa::Exception;
use guest_rt::paging::fence_asid;
use guest_rt::time::now;
use minikernel::queue::RunQueue;
use user::abi::STACK_TOP;

/// Processes that can exist at the same time.
pub const MAX_PROCESSES: usize = 16;
/// Slices in a second: how often the hart changes hands when several processes want it.
const SLICES_PER_SECOND: u64 = 100;

/// Why a process cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnError {
    /// There are [`MAX_PROCESSES`].
    TooMany,
    /// Its program cannot be loaded.
    Load(LoadError),
}

/// How the hart goes on after a trap of a process.
pub enum Next {
    /// With the same process, at once.
    Resume,
    /// With whatever the interrupt may have changed.
    Interrupted,
    /// With another process; this one goes to the end of the queue.
    Yield,
    /// With another; this one is to be woken at that tick of `time`.
    Sleep(u64),
    /// With another; this one is no more.
    End(Ending),
}

/// Everything that the kernel knows.
pub struct Kernel {
    /// The machine it runs on.
    pub machine: Machine,
    /// The free frames.
    pub frames: Frames,
    /// The kernel's own page table, in use while no process's is.
    pub table: PageTable,
    /// The terminal.
    pub screen: Screen,
    /// When the kernel started, in ticks of `time`.
    pub booted: u64,
    /// Bits of an ASID that the hart keeps; 0 where it has none.
    pub asid_bits: u32,
    processes: [Option<Process>; MAX_PROCESSES],
    ready: RunQueue<MAX_PROCESSES>,
    /// The slot of the process whose slice it is, and the tick at which the slice ends.
    current: Option<(usize, u64)>,
    next_pid: Pid,
}

impl Kernel {
    /// Turns translation on with the kernel's page table.
    pub fn new(machine: Machine, frames: Frames, table: PageTable) -> Self {
        let asid_bits = active::turn_on(&table);
        Self {
            machine,
            frames,
            table,
            screen: Screen::new(),
            booted: now(),
            asid_bits,
            processes: [const { None }; MAX_PROCESSES],
            ready: RunQueue::new(),
            current: None,
            next_pid: 1,
        }
    }

    /// Starts `program` with `argument`: it runs in one of the next [`step`](Self::step)s.
    pub fn spawn(&mut self, program: &'static Program, argument: usize) -> Result<Pid, SpawnError> {
        let slot = self.processes.iter().position(Option::is_none).ok_or(SpawnError::TooMany)?;
        // Every slot has an ASID of its own, 0 being the kernel's, where the hart has enough of them.
        let asid = if self.has_asids() { slot as u16 + 1 } else { active::KERNEL_ASID };
        let (space, entry) =
            Space::load(program.elf, &self.table, asid, &mut self.frames).map_err(SpawnError::Load)?;
        // The hart may still remember translations of the slot's last owner.
        fence_asid(asid.into());
        // New code was written as data: what is fetched from now on must see it.
        // SAFETY: a fence.
        unsafe { asm!("fence.i", options(nostack)) };
        let pid = self.next_pid;
        self.next_pid += 1;
        self.processes[slot] = Some(Process {
            pid,
            program,
            frame: TrapFrame::new(entry, STACK_TOP, argument as u64),
            space,
            asleep_until: None,
            run_time: 0,
            calls: 0,
        });
        self.ready.push(slot);
        Ok(pid)
    }

    /// Ends a process that does not run right now. `None` when there is no such process.
    pub fn kill(&mut self, pid: Pid) -> Option<Ended> {
        let has_pid = |process: &Option<Process>| process.as_ref().is_some_and(|process| process.pid == pid);
        let slot = self.processes.iter().position(has_pid)?;
        self.end(slot, Ending::Killed)
    }

    /// All processes, each with its state in a word.
    pub fn processes(&self) -> impl Iterator<Item = (&Process, &'static str)> {
        self.processes.iter().enumerate().filter_map(|(slot, process)| {
            let process = process.as_ref()?;
            let running = self.current.is_some_and(|(current, _)| current == slot);
            let state = match process.asleep_until {
                Some(_) => "sleeping",
                None if running => "running",
                None => "ready",
            };
            Some((process, state))
        })
    }

    /// Whether the hart keeps enough bits of an ASID for every process to have its own.
    pub fn has_asids(&self) -> bool {
        1 << self.asid_bits > MAX_PROCESSES
    }

    /// Microseconds since boot.
    pub fn uptime(&self) -> u64 {
        self.microseconds(now() - self.booted)
    }

    /// Ticks of `time` as microseconds.
    pub fn microseconds(&self, ticks: u64) -> u64 {
        (u128::from(ticks) * 1_000_000 / u128::from(self.machine.timebase.max(1))) as u64
    }

    /// Lets the machine go on for a while: runs the process whose turn it is until something happens that others
    /// may want to know of, such as an interrupt; or, with none to run, waits for an interrupt. Gives the
    /// process that came to its end, if one did.
    pub fn step(&mut self) -> Option<Ended> {
        // From here to the process's first instruction: an interrupt in between would be served, but one that
        // makes this choice of process a wrong one would not be noticed.
        trap::interrupts_off();
        self.wake_sleepers();
        let ended = match self.pick() {
            Some((slot, slice_end)) => self.run(slot, slice_end),
            None => {
                self.wait_for_interrupt();
                None
            }
        };
        trap::interrupts_on();
        ended
    }

    /// Whose turn it is: the current process while its slice lasts, or else the one that waited longest.
    fn pick(&mut self) -> Option<(usize, u64)> {
        if let Some((slot, slice_end)) = self.current {
            if now() < slice_end {
                return self.current;
            }
            self.ready.push(slot);
        }
        let slice = self.machine.timebase / SLICES_PER_SECOND;
        self.current = self.ready.pop().map(|slot| (slot, now() + slice));
        self.current
    }

    /// Runs the process in `slot`, and serves its system calls and page faults, until it has to leave the hart
    /// or an interrupt comes.
    fn run(&mut self, slot: usize, slice_end: u64) -> Option<Ended> {
        timer::arm(self.next_wake_up().min(slice_end));
        let started = now();
        let has_asids = self.has_asids();
        let process = self.processes[slot].as_mut()?;
        active::switch_to(process.space.satp(), has_asids);
        let next = loop {
            let process = self.processes[slot].as_mut()?;
            match trap::run_user(&mut process.frame) {
                Trap::Interrupt(_) => {
                    trap::serve_interrupt();
                    break Next::Interrupted;
                }
                Trap::Exception(Exception::EcallFromUser, _) => match self.system_call(slot) {
                    Next::Resume => {}
                    other => break other,
                },
                Trap::Exception(exception, value) => {
                    if !(is_page_fault(exception) && process.space.fill(exception, value, &mut self.frames)) {
                        break Next::End(Ending::Faulted { exception, value, pc: process.frame.pc });
                    }
                }
                Trap::Unknown(cause) => break Next::End(Ending::Unknown(cause)),
            }
        };
        if let Some(process) = self.processes[slot].as_mut() {
            process.run_time += now() - started;
        }
        match next {
            Next::Resume | Next::Interrupted => None,
            Next::Yield => {
                self.current = None;
                self.ready.push(slot);
                None
            }
            Next::Sleep(until) => {
                self.current = None;
                self.process_in(slot)?.asleep_until = Some(until);
                None
            }
            Next::End(how) => self.end(slot, how),
        }
    }

    /// The process in `slot`, for the system calls.
    pub fn process_in(&mut self, slot: usize) -> Option<&mut Process> {
        self.processes.get_mut(slot)?.as_mut()
    }

    /// All processes by slot, and the terminal, for a system call that needs both.
    pub fn processes_and_screen(&mut self) -> (&[Option<Process>], &mut Screen) {
        (&self.processes, &mut self.screen)
    }

    fn end(&mut self, slot: usize, how: Ending) -> Option<Ended> {
        let process = self.processes[slot].take()?;
        self.ready.remove(slot);
        if self.current.is_some_and(|(current, _)| current == slot) {
            self.current = None;
        }
        // Its page table is about to become free memory: the hart must not walk it any more.
        active::switch_to(self.table.satp(active::KERNEL_ASID), self.has_asids());
        process.space.destroy(&mut self.frames);
        Some(Ended { pid: process.pid, program: process.program, how })
    }

    fn wake_sleepers(&mut self) {
        let now = now();
        for (slot, process) in self.processes.iter_mut().enumerate() {
            if let Some(process) = process
                && process.asleep_until.is_some_and(|until| until <= now)
            {
                process.asleep_until = None;
                self.ready.push(slot);
            }
        }
    }

    fn next_wake_up(&self) -> u64 {
        let sleepers = self.processes.iter().flatten().filter_map(|process| process.asleep_until);
        sleepers.min().unwrap_or(timer::NEVER)
    }

    /// Waits, unless there is input already. Interrupts are off, so one that arrives before the WFI is not served
    /// before it either: it is still pending, and WFI does not wait then.
    fn wait_for_interrupt(&mut self) {
        // Not for ever: an emulator may let its clock run ahead to the next deadline while all harts wait
        // (QEMU's `-icount sleep=off`), and must find one.
        timer::arm(self.next_wake_up().min(now() + self.machine.timebase));
        if input::is_empty() {
            // SAFETY: waits, and touches nothing.
            unsafe { asm!("wfi", options(nomem, nostack)) };
        }
    }
}
