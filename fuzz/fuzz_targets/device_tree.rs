//! The host's device tree, as some firmware or an attacker of the boot chain may have left it.
#![no_main]

use devicetree::HostInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|blob: &[u8]| {
    let Ok(host) = HostInfo::parse(blob) else { return };
    assert!(!host.memory.is_empty() && host.memory.iter().all(|range| range.size != 0));
    assert!(!host.harts.is_empty());
    assert_ne!(host.timebase_frequency, 0);
    let common = host.common_isa();
    assert!(host.harts.iter().all(|hart| hart.isa.intersection(common) == common));
    let _ = common.guest_view();
});
