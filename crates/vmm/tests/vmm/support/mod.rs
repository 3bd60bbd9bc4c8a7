//! A fake host and a virtual machine with one vCPU on it.

pub mod asm;
pub mod paging;
pub mod random;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use arrayvec::ArrayVec;
use devices::Board;
use isa::csr::CsrAddr;
use isa::paging::Mode;
use isa::{Exception, FReg, Privilege, Reg, TrapInfo};
use memory::{BLOCK_SIZE, GuestPhysAddr, GuestRam, HartAuthority, HostPhysAddr};
use mmu::shadow::MIN_TABLES;
use mmu::{AsidSpace, ShadowMmu};
use rewrite::CodePages;
use vhart::csr::Read;
use vhart::{HostTables, SharedTable, Window};
use vmm::machine::Clock;
use vmm::vcpu::Start;
use vmm::{CsrFeatures, Host, Machine, StopReason, Vcpu, vm};

/// Where the guest's RAM is; it is one block long.
pub const RAM: u64 = 0x8000_0000;
/// The first address after it.
pub const RAM_END: u64 = RAM + BLOCK_SIZE;
/// Where a new guest's pc is.
pub const ENTRY: u64 = RAM + 0x1000;
/// Where a new guest's stvec points.
pub const HANDLER: u64 = RAM + 0x2000;
/// The serial port.
pub const UART: u64 = 0x1000_0000;
/// An address where there is nothing.
pub const HOLE: u64 = 0x4000_0000;
/// Ticks of the timebase in a second.
pub const FREQUENCY: u64 = 10_000_000;

/// Where copies of code pages are.
const COPIES: HostPhysAddr = HostPhysAddr(0x2_0000_0000);

/// A hart with all that a virtual one can have.
pub const FEATURES: CsrFeatures = CsrFeatures {
    widest_mode: Mode::Sv48,
    float: true,
    vector: true,
    cache_blocks: true,
    cache_zero: true,
    svinval: true,
};

/// A host that does as it is told and remembers what it was given.
pub struct FakeHost {
    pub now: u64,
    pub cycle: u64,
    pub instret: u64,
    /// What was written to the operator's console.
    pub output: Vec<u8>,
    /// Bytes that the console still takes.
    pub room: usize,
    /// What the operator types.
    pub input: VecDeque<u8>,
    pub float: [u64; 32],
}

impl FakeHost {
    fn new() -> Self {
        Self {
            now: 1000,
            cycle: 0,
            instret: 0,
            output: Vec::new(),
            room: usize::MAX,
            input: VecDeque::new(),
            float: [0; 32],
        }
    }
}

impl Host for FakeHost {
    fn now(&self) -> u64 {
        self.now
    }

    fn cycle(&self) -> u64 {
        self.cycle
    }

    fn instret(&self) -> u64 {
        self.instret
    }

    fn console_write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.output.extend_from_slice(&bytes[..taken]);
        self.room -= taken;
        taken
    }

    fn console_read(&mut self) -> Option<u8> {
        self.input.pop_front()
    }

    fn fp_read(&mut self, register: FReg) -> u64 {
        self.float[register.index()]
    }

    fn fp_write(&mut self, register: FReg, value: u64) {
        self.float[register.index()] = value;
    }
}

/// What is given back of the memory of guests that are gone.
static SPARE_RAM: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

/// A virtual machine with one running vCPU, in supervisor mode at `ENTRY`.
pub struct Guest {
    pub machine: Machine,
    pub vcpu: Vcpu,
    pub host: FakeHost,
    words: &'static [AtomicU64],
}

impl Guest {
    /// One hart that has everything.
    pub fn new() -> Self {
        Self::build(FEATURES, 1)
    }

    /// One hart that has everything, and room for copies of two of its code pages.
    pub fn with_copies() -> Self {
        let copies = (0..2 * memory::PAGE_SIZE / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        let guest = Self::new();
        *guest.machine.code.lock() = CodePages::new(copies, COPIES);
        guest
    }

    /// One hart with these features.
    pub fn with_features(features: CsrFeatures) -> Self {
        Self::build(features, 1)
    }

    /// A machine that has `harts` harts, of which only the first has a vCPU here.
    pub fn with_harts(harts: usize) -> Self {
        Self::build(FEATURES, harts)
    }

    fn build(features: CsrFeatures, harts: usize) -> Self {
        let words = spare_ram();
        let machine = new_machine(words, harts);
        let mut vcpu = Vcpu::new(0, features, new_shadow());
        machine.links[0].set_state(vmm::link::HartState::Started);
        vcpu.start(Start { address: ENTRY, opaque: 0 });
        let mut guest = Self { machine, vcpu, host: FakeHost::new(), words };
        guest.set_csr(CsrAddr::STVEC, HANDLER);
        guest
    }

    /// The words of its RAM, for hardware that is played.
    pub fn words(&self) -> &'static [AtomicU64] {
        self.words
    }

    /// Serves an exception as the run loop does.
    pub fn serve(&mut self, cause: u64, value: u64) -> Result<(), StopReason> {
        let trap = TrapInfo { cause, value };
        vm::serve(&self.machine, &mut self.vcpu, trap, &mut self.host)
    }

    /// Serves an exception that the guest survives.
    pub fn raise(&mut self, exception: Exception, value: u64) {
        self.serve(exception.code(), value).expect("the guest goes on");
    }

    /// The guest executes a privileged instruction at its pc: the hardware refuses it and reports its bits.
    pub fn execute(&mut self, bits: u32) {
        self.raise(Exception::IllegalInstruction, u64::from(bits));
    }

    /// The guest executes the load or store `bits`, which faults at `address`.
    pub fn touch(&mut self, bits: u32, exception: Exception, address: u64) -> Result<(), StopReason> {
        self.poke(self.vcpu.frame.pc, bits);
        self.serve(exception.code(), address)
    }

    /// The run loop's way to the guest's next instruction.
    pub fn prepare(&mut self) -> vm::Next {
        vm::prepare(&self.machine, &mut self.vcpu)
    }

    /// The clock reaches `now`.
    pub fn tick(&mut self, now: u64) {
        self.host.now = now;
        vm::tick(&self.machine, &mut self.vcpu, now);
    }

    /// Writes an instruction to RAM: two bytes of it for a compressed one.
    pub fn poke(&mut self, address: u64, bits: u32) {
        let bytes = bits.to_le_bytes();
        let len = if bits & 3 == 3 { 4 } else { 2 };
        self.machine.ram.write(GuestPhysAddr(address), &bytes[..len]).expect("RAM");
    }

    pub fn csr(&self, csr: CsrAddr) -> u64 {
        match self.vcpu.frame.csr.read(csr, Privilege::Supervisor).expect("a CSR of the hart") {
            Read::Value(value) => value,
            Read::Counter(counter) => panic!("{counter:?} is not stored"),
        }
    }

    pub fn set_csr(&mut self, csr: CsrAddr, value: u64) {
        self.vcpu.frame.csr.write(csr, value, Privilege::Supervisor).expect("a writable CSR");
    }

    pub fn reg(&self, number: u32) -> u64 {
        self.vcpu.frame.get(Reg::new(number))
    }

    pub fn set_reg(&mut self, number: u32, value: u64) {
        self.vcpu.frame.set(Reg::new(number), value);
    }

    pub fn pc(&self) -> u64 {
        self.vcpu.frame.pc
    }

    /// Asserts that the guest has just taken this exception, raised at `pc`, with this stval.
    #[track_caller]
    pub fn assert_took(&self, exception: Exception, pc: u64, value: u64) {
        let taken = (self.csr(CsrAddr::SCAUSE), self.csr(CsrAddr::SEPC), self.csr(CsrAddr::STVAL));
        assert_eq!(taken, (exception.code(), pc, value), "scause, sepc, stval of {exception:?}");
        assert_eq!(self.pc(), self.csr(CsrAddr::STVEC));
        assert_eq!(self.vcpu.frame.privilege, Privilege::Supervisor);
    }

    /// Leaves of the shadow tables when the guest runs on, all of which keep the invariants.
    pub fn shadow_leaves(&mut self) -> usize {
        self.prepare();
        mmu::check::check(&self.vcpu.caches.shadow, &self.machine.ram).expect("the shadow's invariants")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        SPARE_RAM.lock().unwrap().push(self.words);
    }
}

/// A machine in power-on state, with a block of RAM that is not clean.
pub fn new_machine(words: &'static [AtomicU64], harts: usize) -> Machine {
    let ram = GuestRam::new(words, GuestPhysAddr(RAM), HostPhysAddr(RAM), Vec::new());
    // Without room for copies no code is rewritten.
    let code = CodePages::new(&[], COPIES);
    Machine::new(ram, code, Board::new(harts, 0, Vec::new()), harts, Clock::new(FREQUENCY))
}

/// Memory for a block of RAM, with what the guest before left in it.
pub fn spare_ram() -> &'static [AtomicU64] {
    let spare = SPARE_RAM.lock().unwrap().pop();
    spare.unwrap_or_else(|| (0..BLOCK_SIZE / 8).map(|_| AtomicU64::new(!0)).collect::<Vec<_>>().leak())
}

/// Empty shadow tables, as on a host with Sv57.
pub fn new_shadow() -> ShadowMmu {
    let window = Window { first_slot: 511, entries: ArrayVec::new() };
    let tables: Vec<_> = (0..2 * MIN_TABLES).map(|_| SharedTable::filled_with(0)).collect();
    let base = HostPhysAddr(0x1_0000_0000);
    let tables = HostTables::new(tables.leak(), base, Mode::Sv57, window, HartAuthority::simulated());
    ShadowMmu::new(tables, AsidSpace::new(16, 1).deal())
}
