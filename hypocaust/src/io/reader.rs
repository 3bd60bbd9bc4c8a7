//! The host's disks that guests use, and what set-up reads of them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use block::gpt::{self, GptError, Header, Which};
use block::{HostAbilities, SECTOR};
use hart::Hart;
use hart::memory::HostMemory;
use hart::virtio::block::{BlockDevice, Ended, Request};
use hart::virtio::{self, Kind};
use memory::{Extent, PAGE_SIZE};
use world::Interrupts;
use world::host::HostAccess;
use world::io::disks::HostDisk;
use world::port::PATIENCE;

use crate::real::{Disk, Real};
use crate::stage::{NO_MEMORY, Stage};

/// Bytes of zeros that are written where a disk cannot write zeros by itself.
const ZEROS: u64 = 64 << 10;

/// What guests' disks go by.
pub fn abilities(disk: &HostDisk<Disk>, zeros: Extent) -> HostAbilities {
    let own = disk.device.0.abilities();
    HostAbilities {
        segments: own.segments,
        segment_size: own.segment_size,
        flush: own.flush,
        discard: own.discard,
        write_zeroes: own.write_zeroes,
        zeros,
    }
}

/// What set-up waits with, and where it reads to.
pub struct Reader<'a> {
    hart: &'a Hart,
    host: &'a mut HostAccess<Real>,
    interrupts: &'a Interrupts<Real>,
    timebase: u64,
    buffer: Extent,
    words: &'static [core::sync::atomic::AtomicU64],
    /// Zeros, for disks that cannot write them by themselves.
    pub zeros: Extent,
}

impl<'a> Reader<'a> {
    /// What is needed to read the host's disks.
    ///
    /// # Errors
    /// Where there is no memory for it.
    pub fn new(
        stage: &Stage,
        hart: &'a Hart,
        host: &'a mut HostAccess<Real>,
        interrupts: &'a Interrupts<Real>,
        memory: &mut HostMemory,
    ) -> Result<Self, String> {
        let mut take = |size| memory.take_shared(size, PAGE_SIZE).ok_or_else(|| String::from(NO_MEMORY));
        let (zeros, words) = take(ZEROS)?;
        words.iter().for_each(|word| word.store(0, core::sync::atomic::Ordering::Relaxed));
        let (start, words) = take(gpt::MAX_ENTRIES)?;
        Ok(Self {
            hart,
            host,
            interrupts,
            timebase: stage.machine.timebase_frequency,
            buffer: Extent::new(start, gpt::MAX_ENTRIES),
            words,
            zeros: Extent::new(zeros, ZEROS),
        })
    }

    /// Opens the disks of the host whose serial number is one of `wanted`.
    ///
    /// # Errors
    /// Where a disk does not work, or two have the same of these numbers.
    pub fn open(
        &mut self,
        stage: &Stage,
        memory: &mut HostMemory,
        wanted: &[&str],
    ) -> Result<Vec<HostDisk<Disk>>, String> {
        virtio::set_up(&stage.space);
        let mut disks: Vec<HostDisk<Disk>> = Vec::new();
        for slot in &stage.machine.virtio {
            let Some(registers) = stage.space.device(slot.registers.start) else { continue };
            if virtio::probe(&registers) != Some(Kind::Block) {
                continue;
            }
            let broken = |why: &dyn core::fmt::Display| {
                format!("the host's disk at {} does not work: {why}", slot.registers.start)
            };
            let device = BlockDevice::open(&registers, memory.shared()).map_err(|error| broken(&error))?;
            self.interrupts.plic.enable_source(slot.irq);
            let mut disk = HostDisk::new(Disk(device), slot.irq, String::new());
            // A disk without a number cannot be meant.
            if self.run(&mut disk, &Request::Identify).is_err() {
                self.interrupts.plic.disable_source(slot.irq);
                continue;
            }
            disk.serial = String::from_utf8_lossy(disk.device.0.serial()).trim_end().into();
            if !wanted.contains(&disk.serial.as_str()) {
                self.interrupts.plic.disable_source(slot.irq);
                continue;
            }
            if disks.iter().any(|other| other.serial == disk.serial) {
                return Err(format!("two disks of the host have the serial number `{}`", disk.serial));
            }
            disks.push(disk);
        }
        Ok(disks)
    }

    /// Finds a partition.
    ///
    /// # Errors
    /// Why there is no such partition, or the disk cannot be read.
    pub fn partition(&mut self, disk: &mut HostDisk<Disk>, which: Which) -> Result<gpt::Range, String> {
        let capacity = disk.device.0.abilities().capacity;
        // The second header is for when the first one or its entries are damaged.
        let headers = [gpt::FIRST_HEADER, capacity.saturating_sub(1)];
        let mut first_error = None;
        for sector in headers {
            match self.partition_by(disk, sector, capacity, which)? {
                Ok(range) => return Ok(range),
                Err(error @ (GptError::NoTable | GptError::BadHeader | GptError::BadEntries)) => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(format!("{error}")),
            }
        }
        Err(first_error.map_or_else(String::new, |error| format!("{error}")))
    }

    fn partition_by(
        &mut self,
        disk: &mut HostDisk<Disk>,
        sector: u64,
        capacity: u64,
        which: Which,
    ) -> Result<Result<gpt::Range, GptError>, String> {
        let bytes = self.read(disk, gpt::Range { first: sector, count: 1 })?;
        let header = match Header::read(&bytes, sector, capacity) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let entries = self.read(disk, header.entries())?;
        Ok(header.partition(&entries, which))
    }

    /// Reads at most a buffer's worth of sectors.
    fn read(&mut self, disk: &mut HostDisk<Disk>, range: gpt::Range) -> Result<Vec<u8>, String> {
        let len = (range.count * SECTOR).min(self.buffer.size);
        let into = [Extent::new(self.buffer.start, len)];
        let request = Request::Read { sector: range.first, into: &into };
        self.run(disk, &request).map_err(|why| format!("the host's disk `{}` {why}", disk.serial))?;
        let words = self.words.iter().take(len as usize / 8);
        Ok(words.flat_map(|word| word.load(core::sync::atomic::Ordering::Acquire).to_le_bytes()).collect())
    }

    /// Submits a request and waits for it.
    fn run(&mut self, disk: &mut HostDisk<Disk>, request: &Request) -> Result<(), &'static str> {
        disk.device.0.submit(0, request).map_err(|_| "is too small")?;
        disk.device.0.notify();
        let deadline = hart::time::now().saturating_add(PATIENCE * self.timebase);
        self.hart.set_timer(deadline);
        let ended = loop {
            if let Some((_, ended)) = disk.device.0.completed() {
                break Some(ended);
            }
            if hart::time::now() >= deadline {
                break None;
            }
            self.hart.wait_for_interrupt();
            while let Some(source) = self.interrupts.plic.claim() {
                if source == disk.source {
                    disk.device.0.acknowledge_interrupt();
                } else if Some(source) == self.interrupts.console {
                    self.host.console.serve_interrupt();
                }
                self.interrupts.plic.complete(source);
            }
        };
        self.hart.silence_timer();
        match ended {
            Some(Ended::Done) => Ok(()),
            Some(_) => Err("could not be read"),
            None => Err("does not answer"),
        }
    }
}
