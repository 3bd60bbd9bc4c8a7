//! What the monitor wants of the hypervisor: facts as plain data, and changes. `world` has the real one, tests a
//! fake. Guests are named by their number, counted from 0; a number that is none gives nothing.

use alloc::string::String;
use alloc::vec::Vec;

use memory::GuestPhysAddr;
use trace::Event;

/// What a guest is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// It runs, or waits for an interrupt.
    #[default]
    Running,
    /// The operator lets it stand still.
    Paused,
    /// It is started again, once what it has begun is done.
    Resetting,
    /// It is started again, once its delay has passed.
    Waiting,
    /// It ends, once what it has begun is done.
    Stopping,
    /// The operator has stopped it, or it has not been started.
    Stopped,
    /// It powered itself off, or its reset ended it.
    Off,
    /// It reported failure.
    Failed,
    /// It could not go on.
    Crashed,
}

impl State {
    /// Whether it has been started and has not ended for good.
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Resetting | Self::Waiting | Self::Stopping)
    }

    /// The word that the operator reads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Resetting => "resetting",
            Self::Waiting => "waiting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Off => "off",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
        }
    }
}

/// A change of a guest's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// From the bundle, with fresh memory.
    Start,
    /// As if its power were cut.
    Stop,
    /// It stands still.
    Pause,
    /// It runs on.
    Resume,
    /// Stopped and started.
    Reset,
}

/// A guest, as `vms` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Guest {
    /// Its name in the manifest.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Its virtual harts.
    pub vcpus: usize,
    /// How long they have run, in nanoseconds.
    pub vcpu_time: u64,
    /// Bytes of RAM.
    pub memory: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// How often it has left to the hypervisor's Rust code.
    pub exits: u64,
}

/// Exits of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KindOfExit {
    /// The kind.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// What all of them cost, in the unit of [`Exits::unit`].
    pub cost: u64,
}

/// A guest's exits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exits {
    /// The kinds that happened.
    pub kinds: Vec<KindOfExit>,
    /// Exits that were served in assembly, which keeps no account of kinds and costs.
    pub fast: u64,
    /// What cost is counted in; empty where the hart cannot count it.
    pub unit: &'static str,
    /// What else is counted.
    pub others: Vec<(&'static str, u64)>,
}

/// A port of a switch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Port {
    /// Whose it is: a guest's name, or the uplink's.
    pub owner: String,
    /// Its address.
    pub mac: [u8; 6],
    /// Frames that came from it.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Frames that went to it.
    pub received: u64,
    /// Bytes of them.
    pub received_bytes: u64,
    /// Frames that were dropped on the way in or out.
    pub dropped: u64,
}

/// A switch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Switch {
    /// Its name in the manifest.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// A guest's disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Disk {
    /// The guest's name.
    pub guest: String,
    /// What it is made of.
    pub source: String,
    /// Bytes.
    pub size: u64,
    /// `read-write`, `readonly` or `snapshot`.
    pub mode: &'static str,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Flushes.
    pub flushes: u64,
    /// Requests that failed.
    pub errors: u64,
}

/// The machine below.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HostFacts {
    /// What does not change, each with a word that says what it is.
    pub facts: Vec<(&'static str, String)>,
    /// Nanoseconds that guests have run.
    pub guest_time: u64,
    /// Nanoseconds in which there was nothing to do.
    pub idle_time: u64,
}

/// The hypervisor, as far as the monitor may reach it.
pub trait Control {
    /// Nanoseconds since the hypervisor was started.
    fn now(&self) -> u64;

    /// All guests.
    fn guests(&self) -> Vec<Guest>;

    /// Carries out a change that the guest's state allows.
    ///
    /// # Errors
    /// One line that says why it cannot be done.
    fn change(&mut self, guest: usize, change: Change) -> Result<(), String>;

    /// A guest's exits.
    fn exits(&self, guest: usize) -> Exits;

    /// A guest's last exits, the oldest first.
    fn trace(&self, guest: usize) -> Vec<Event>;

    /// A guest's registers, in lines.
    fn registers(&self, guest: usize) -> String;

    /// Reads a guest's RAM.
    ///
    /// # Errors
    /// Where its RAM begins and how many bytes it has, if not all of the bytes lie in it.
    fn read_memory(
        &self,
        guest: usize,
        address: GuestPhysAddr,
        into: &mut [u8],
    ) -> Result<(), (GuestPhysAddr, u64)>;

    /// All switches.
    fn switches(&self) -> Vec<Switch>;

    /// All disks.
    fn disks(&self) -> Vec<Disk>;

    /// The machine below.
    fn host(&self) -> HostFacts;

    /// How much the hypervisor says.
    fn log_level(&self) -> u8;

    /// Sets how much it says: 0 to 4.
    fn set_log_level(&mut self, level: u8);

    /// Stops all guests and powers the machine off, once this command has been answered.
    fn shut_down(&mut self);
}
