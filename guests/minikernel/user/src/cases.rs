//! What the shell's `fault` and `bench` ask the programs `crash` and `measure` to do, by the number given to
//! them. One list for both sides.

/// A way to fail: `crash N` takes the Nth of [`FAULTS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Loads from address 0.
    ReadNull,
    /// Stores to its own code.
    WriteCode,
    /// Jumps to its heap.
    RunHeap,
    /// Loads from the kernel.
    ReadKernel,
    /// Recurses without end.
    OverflowStack,
    /// Executes an instruction that does not exist.
    Illegal,
    /// Writes sscratch.
    WriteCsr,
    /// Executes EBREAK.
    Breakpoint,
}

/// All of them, with what to tell the user.
pub const FAULTS: [(Fault, &str); 8] = [
    (Fault::ReadNull, "reads address 0"),
    (Fault::WriteCode, "writes to its code"),
    (Fault::RunHeap, "runs its heap"),
    (Fault::ReadKernel, "reads the kernel"),
    (Fault::OverflowStack, "overflows its stack"),
    (Fault::Illegal, "runs an illegal instruction"),
    (Fault::WriteCsr, "writes a supervisor CSR"),
    (Fault::Breakpoint, "hits a breakpoint"),
];

/// A thing to measure: `measure N` takes the Nth of [`MEASURES`], and exits with the ticks it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Measure {
    /// Calls `getpid`.
    NullCall,
    /// Touches fresh heap pages.
    PageFault,
    /// Calls `yield`; beside a [`PARTNER`], each call is two switches.
    Switch,
}

/// All of them, with how often each does its thing.
pub const MEASURES: [(Measure, usize); 3] =
    [(Measure::NullCall, 1000), (Measure::PageFault, 200), (Measure::Switch, 500)];

/// The number with which `measure` yields until it is killed, for another to switch to.
pub const PARTNER: usize = MEASURES.len();
