//! What a guest is told of its machine is what its machine has.

use bundle::{InitrdRange, VmConfig};
use devices::board::MAP;
use devicetree::{Extension, Extensions, HartIsa, to_dts};
use isa::paging::Mode;
use vmm::tree;

use crate::support::{FEATURES, RAM};

fn isa(names: &[&str]) -> HartIsa {
    let extensions = Extensions::from_names(names.iter().copied());
    HartIsa { extensions, cbom_block_size: Some(64), cboz_block_size: Some(64), cbop_block_size: None }
}

#[test]
fn the_csrs_have_what_the_isa_shows() {
    let everything = isa(&["f", "d", "v", "zicbom", "zicboz", "svinval"]);
    assert_eq!(tree::csr_features(everything, Mode::Sv48), FEATURES);
    let plain = tree::csr_features(isa(&["i", "m", "a", "c"]), Mode::Sv39);
    assert!(!(plain.float || plain.vector || plain.cache_blocks || plain.cache_zero || plain.svinval));
    assert_eq!(plain.widest_mode, Mode::Sv39);
}

#[test]
fn every_device_of_the_board_is_in_the_tree_and_what_is_hidden_is_not() {
    let config = VmConfig {
        name: "test".into(),
        memory: 128 << 20,
        entry: RAM,
        bootargs: "root=/dev/nowhere".into(),
        initrd: Some(InitrdRange { address: RAM + 0x200_0000, len: 0x1234 }),
        device_tree: RAM + 0x400_0000,
        ..VmConfig::default()
    };
    let host = isa(&["i", "m", "a", "f", "d", "c", "h", "sstc"]);
    let blob = tree::build(&config, host, Mode::Sv48, 10_000_000, &[7; 32]);
    let text = to_dts(&blob).expect("a device tree");
    for region in &MAP {
        assert!(text.contains(&format!("@{:x} {{", region.base.0)), "{}\n{text}", region.name);
    }
    for part in ["memory@80000000", "root=/dev/nowhere", "riscv,sv48", "rng-seed", "svvptc"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for part in ["sstc", "_h"] {
        assert!(!text.contains(part), "{part}\n{text}");
    }
    assert!(tree::csr_features(host.guest_view(), Mode::Sv48).float);
    assert!(!host.guest_view().extensions.contains(Extension::H));
}
