//! Where everything lies in a guest's memory: the places where QEMU 7.2's `virt` machine puts them for a guest
//! of the same size. Pure: bytes in, addresses out.

use crate::kernel::Kernel;
use crate::payload::Payload;
use bundle::{DEVICE_TREE_SLOT, InitrdRange, RAM_BASE, Segment, VmConfig};
use hypo_common::size::Size;
use memory::BLOCK_SIZE;
use thiserror::Error;

/// The device tree stays below this, so that 32-bit code in a kernel's start can reach it.
const DEVICE_TREE_LIMIT: u64 = 3 << 30;
/// The initial RAM disk lies at most this far above the kernel.
const INITRD_DISTANCE: u64 = 128 << 20;

/// A guest whose files are read: what goes into its memory.
#[derive(Debug)]
pub struct Guest {
    /// Bytes of RAM.
    pub memory: u64,
    /// The kernel.
    pub kernel: Kernel,
    /// The initial RAM disk.
    pub initrd: Option<Vec<u8>>,
    /// More contents of memory.
    pub loads: Vec<Extra>,
}

/// Bytes that the user wants at an address.
#[derive(Debug)]
pub struct Extra {
    /// What to call it in messages.
    pub name: String,
    /// Guest-physical address.
    pub address: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// A named stretch of a guest's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// What lies there.
    pub name: String,
    /// Guest-physical address.
    pub address: u64,
    /// Bytes.
    pub len: u64,
}

/// Why a guest cannot be laid out.
#[derive(Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)] // The messages say it all.
pub enum LayoutError {
    #[error("{memory} of memory is not possible; use a multiple of 2M, for example 512M")]
    Memory { memory: Size },
    #[error("{what} at {address:#x} lies below RAM, which starts at {RAM_BASE:#x}; link or load it higher")]
    BelowRam { what: String, address: u64 },
    #[error("{what} ({len} bytes at {address:#x}) does not fit in {memory} of memory; {remedy}")]
    DoesNotFit { what: String, address: u64, len: u64, memory: Size, remedy: String },
    #[error("{first} and {second} overlap at {address:#x}; {remedy}")]
    Overlap { first: String, second: String, address: u64, remedy: String },
    #[error("{what} is to be loaded at {address:#x}, which is not a multiple of 8; change the address")]
    Unaligned { what: String, address: u64 },
    #[error("{what} is empty; give a file with contents")]
    Empty { what: String },
}

impl Guest {
    /// What lies where, in the order of the addresses.
    ///
    /// # Errors
    /// Something lies outside RAM or on something else.
    pub fn regions(&self) -> Result<Vec<Region>, LayoutError> {
        if self.memory == 0 || !self.memory.is_multiple_of(BLOCK_SIZE) {
            return Err(LayoutError::Memory { memory: Size(self.memory) });
        }
        self.check_extras()?;
        self.regions_in(self.memory).map_err(|error| self.with_remedy(error))
    }

    /// Adds the guest's bytes to `payload` and describes its memory for the hypervisor.
    ///
    /// # Errors
    /// As for [`Guest::regions`].
    pub fn place(&self, payload: &mut Payload) -> Result<VmConfig, LayoutError> {
        self.regions()?;
        let mut segments = Vec::new();
        let mut add = |address: u64, data: &[u8]| {
            if !data.is_empty() {
                segments.push(Segment { address, offset: payload.add(data), len: data.len() as u64 });
            }
        };
        self.kernel.pieces.iter().for_each(|piece| add(piece.address, &piece.data));
        self.loads.iter().for_each(|extra| add(extra.address, &extra.data));
        let initrd = self.initrd.as_ref().map(|data| {
            let address = self.initrd_address(self.memory);
            add(address, data);
            InitrdRange { address, len: data.len() as u64 }
        });
        Ok(VmConfig {
            memory: self.memory,
            entry: self.kernel.entry,
            segments,
            initrd,
            device_tree: device_tree_address(self.memory),
            ..VmConfig::default()
        })
    }

    fn check_extras(&self) -> Result<(), LayoutError> {
        if self.initrd.as_ref().is_some_and(Vec::is_empty) {
            return Err(LayoutError::Empty { what: "the initial RAM disk".into() });
        }
        for extra in &self.loads {
            let what = extra.name.clone();
            if !extra.address.is_multiple_of(8) {
                return Err(LayoutError::Unaligned { what, address: extra.address });
            }
            if extra.data.is_empty() {
                return Err(LayoutError::Empty { what });
            }
        }
        Ok(())
    }

    /// QEMU's `riscv_load_initrd`: half of RAM above the kernel, but no further than 128 MiB.
    fn initrd_address(&self, memory: u64) -> u64 {
        self.kernel.base().saturating_add((memory / 2).min(INITRD_DISTANCE)).next_multiple_of(8)
    }

    fn regions_in(&self, memory: u64) -> Result<Vec<Region>, LayoutError> {
        let region = |name: &str, address, len| Region { name: name.to_owned(), address, len };
        let mut regions = vec![region("device tree", device_tree_address(memory), DEVICE_TREE_SLOT)];
        regions
            .extend(self.kernel.pieces.iter().map(|piece| region("kernel", piece.address, piece.occupied)));
        regions.extend(
            self.loads.iter().map(|extra| region(&extra.name, extra.address, extra.data.len() as u64)),
        );
        if let Some(data) = &self.initrd {
            regions.push(region("initial RAM disk", self.initrd_address(memory), data.len() as u64));
        }
        regions.sort_by_key(|region| region.address);
        let ram_end = RAM_BASE.saturating_add(memory);
        let mut before: Option<&Region> = None;
        for region in &regions {
            let (what, address, len) = (region.name.clone(), region.address, region.len);
            if address < RAM_BASE {
                return Err(LayoutError::BelowRam { what, address });
            }
            // Memory is filled by whole words.
            if address
                .checked_add(len)
                .and_then(|end| end.checked_next_multiple_of(8))
                .is_none_or(|end| end > ram_end)
            {
                return Err(LayoutError::DoesNotFit {
                    what,
                    address,
                    len,
                    memory: Size(memory),
                    remedy: String::new(),
                });
            }
            if let Some(before) = before
                && before.address + before.len > address
            {
                let first = before.name.clone();
                return Err(LayoutError::Overlap { first, second: what, address, remedy: String::new() });
            }
            before = Some(region);
        }
        Ok(regions)
    }

    /// Says how much memory would do, if more would.
    fn with_remedy(&self, error: LayoutError) -> LayoutError {
        let sizes = (21..=40).map(|shift| 1 << shift).filter(|size| *size > self.memory);
        let advice = sizes
            .into_iter()
            .find(|size| self.regions_in(*size).is_ok())
            .map_or("change its address".into(), |size| format!("give the guest {} or more", Size(size)));
        match error {
            LayoutError::DoesNotFit { what, address, len, memory, .. } => {
                LayoutError::DoesNotFit { what, address, len, memory, remedy: advice }
            }
            LayoutError::Overlap { first, second, address, .. } => {
                LayoutError::Overlap { first, second, address, remedy: advice }
            }
            other => other,
        }
    }
}

/// QEMU's `riscv_load_fdt`: as high as possible below the end of RAM and 3 GiB, at a multiple of 2 MiB.
fn device_tree_address(memory: u64) -> u64 {
    let end = RAM_BASE.saturating_add(memory).min(DEVICE_TREE_LIMIT);
    end.saturating_sub(DEVICE_TREE_SLOT) & !(BLOCK_SIZE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Format, LOAD_ADDRESS, Piece};
    use memory::PAGE_SIZE;

    fn guest(memory: u64, initrd: usize) -> Guest {
        let piece = Piece { address: LOAD_ADDRESS, data: vec![1; 10_001], occupied: 30 << 20 };
        Guest {
            memory,
            kernel: Kernel { format: Format::Image, entry: LOAD_ADDRESS, pieces: vec![piece] },
            initrd: (initrd > 0).then(|| vec![2; initrd]),
            loads: Vec::new(),
        }
    }

    /// Read from QEMU 7.2: `linux,initrd-start` in its device tree, `Domain0 Next Arg1` in OpenSBI's banner.
    #[test]
    fn places_are_those_of_qemu() {
        for (memory, initrd, tree) in [
            (128 << 20, 0x8420_0000, 0x87e0_0000),
            (200 << 20, 0x8660_0000, 0x8c60_0000),
            (512 << 20, 0x8820_0000, 0x9fe0_0000),
            (1 << 30, 0x8820_0000, 0xbfe0_0000),
            (4 << 30, 0x8820_0000, 0xbfe0_0000),
        ] {
            let config = guest(memory, 5000).place(&mut Payload::default()).unwrap();
            assert_eq!(config.initrd, Some(InitrdRange { address: initrd, len: 5000 }));
            assert_eq!(config.device_tree, tree);
        }
    }

    #[test]
    fn the_result_passes_the_bundles_own_check() {
        let mut payload = Payload::default();
        let mut guest = guest(512 << 20, 5001);
        guest.loads.push(Extra { name: "x".into(), address: 0x8400_0000, data: vec![3; 77] });
        let manifest = bundle::Manifest {
            host: bundle::HostSettings::default(),
            switches: Vec::new(),
            vms: vec![VmConfig { name: "g".into(), ..guest.place(&mut payload).unwrap() }],
        };
        assert_eq!(manifest.check(payload.bytes().len() as u64), Ok(()));
        let at = manifest.vms[0].segments[1];
        assert_eq!(payload.bytes()[at.offset as usize..][..at.len as usize], [3; 77]);
        assert!(at.offset.is_multiple_of(PAGE_SIZE));
    }

    #[test]
    fn too_little_memory_says_how_much_would_do() {
        let message = guest(16 << 20, 0).regions().unwrap_err().to_string();
        assert!(message.contains("kernel") && message.contains("give the guest 64M or more"), "{message}");
        let message = guest(64 << 20, 60 << 20).regions().unwrap_err().to_string();
        assert!(message.contains("initial RAM disk") && message.contains("128M or more"), "{message}");
    }

    #[test]
    fn bss_keeps_the_ram_disk_away() {
        // At 48M the disk would start 24M above the kernel, which takes 30M.
        let message = guest(48 << 20, 4096).regions().unwrap_err().to_string();
        assert!(message.contains("kernel and initial RAM disk overlap"), "{message}");
    }

    #[test]
    fn what_no_memory_can_help_is_said_too() {
        let mut low = guest(512 << 20, 0);
        low.kernel.pieces[0].address = 0x1000;
        assert!(matches!(low.regions(), Err(LayoutError::BelowRam { .. })));
        let mut far = guest(512 << 20, 0);
        far.kernel.pieces[0].address = u64::MAX - 7;
        assert!(far.regions().unwrap_err().to_string().contains("change its address"));
    }

    #[test]
    fn a_load_is_aligned_and_lies_on_nothing() {
        let with = |address, data| {
            let mut guest = guest(512 << 20, 0);
            guest.loads.push(Extra { name: "x".into(), address, data });
            guest.regions()
        };
        assert!(matches!(with(0x8400_0004, vec![1]), Err(LayoutError::Unaligned { .. })));
        assert!(matches!(with(0x8400_0000, vec![]), Err(LayoutError::Empty { .. })));
        assert!(matches!(with(0x8020_1000, vec![1]), Err(LayoutError::Overlap { .. })));
        assert!(matches!(with(0xf000_0000, vec![1]), Err(LayoutError::DoesNotFit { .. })));
        assert!(with(0x8400_0000, vec![1]).is_ok());
    }

    #[test]
    fn memory_is_whole_blocks() {
        for memory in [0, 4096, (2 << 20) + 1] {
            assert!(matches!(guest(memory, 0).regions(), Err(LayoutError::Memory { .. })));
        }
    }
}
