//! What a virtual machine is told of itself: its ISA and its device tree, from one configuration.

use alloc::vec::Vec;

use bundle::VmConfig;
use devices::board::{Device, MAP};
use devices::plic;
use devicetree::{Extension, GuestDevice, GuestDeviceKind, GuestTree, HartIsa};
use isa::paging::Mode;
use memory::GuestPhysAddr;

use vhart::CsrFeatures;

/// Where RAM begins, as on QEMU's `virt`.
pub const RAM_BASE: GuestPhysAddr = GuestPhysAddr(bundle::RAM_BASE);

// A bundle may ask for as many devices as there are places for.
const _: () = assert!(bundle::MAX_DEVICES == devices::board::VIRTIO_SLOTS);

/// What a virtual hart with this ISA, as it is shown, has in its CSRs.
pub fn csr_features(isa: HartIsa, widest_mode: Mode) -> CsrFeatures {
    let has = |extension| isa.extensions.contains(extension);
    CsrFeatures {
        widest_mode,
        float: has(Extension::D),
        vector: has(Extension::V),
        cache_blocks: has(Extension::Zicbom),
        cache_zero: has(Extension::Zicboz),
        svinval: has(Extension::Svinval),
    }
}

/// The device tree of a virtual machine on a host with these harts' ISA, which is not yet the guest's view.
pub fn build(
    config: &VmConfig,
    isa: HartIsa,
    mmu_type: Mode,
    timebase_frequency: u64,
    rng_seed: &[u8],
) -> Vec<u8> {
    let devices: Vec<_> = MAP
        .iter()
        .map(|region| GuestDevice {
            kind: match region.device {
                Device::Uart => GuestDeviceKind::Uart,
                Device::Plic => GuestDeviceKind::Plic { sources: plic::SOURCES },
                Device::Rtc => GuestDeviceKind::Rtc,
                Device::Finisher => GuestDeviceKind::Finisher,
                Device::Virtio(_) => GuestDeviceKind::VirtioMmio,
            },
            base: region.base,
            size: region.claimed,
            irq: region.irq.unwrap_or(0),
        })
        .collect();
    let range = |address, len| GuestPhysAddr(address)..GuestPhysAddr(address).wrapping_add(len);
    GuestTree {
        vcpus: config.vcpus,
        memory: range(RAM_BASE.0, config.memory),
        bootargs: &config.bootargs,
        initrd: config.initrd.map(|initrd| range(initrd.address, initrd.len)),
        isa: isa.guest_view(),
        mmu_type,
        timebase_frequency,
        rng_seed,
        devices: &devices,
    }
    .build()
}
