//! The one-way arrows between our crates (*one-way-arrows*), as a table, and their check against what cargo says.

use crate::project::Project;
use anyhow::{Result, bail};

/// What each crate may depend on among ours, for tests too. `vmm` and `world` do not know `hart`: what they want of
/// the hardware goes through `vmm::Host` and `world::port`, so that they also run on the developer's machine.
const ARROWS: &[(&str, &[&str])] = &[
    ("isa", &[]),
    ("sync", &[]),
    ("memory", &["sync"]),
    ("trace", &[]),
    ("bundle", &["memory"]),
    ("devicetree", &["isa", "memory"]),
    ("devices", &["isa", "memory"]),
    ("block", &["devices", "memory"]),
    ("net", &[]),
    ("entropy", &[]),
    ("vhart", &["isa", "memory"]),
    ("mmu", &["isa", "memory", "vhart"]),
    ("rewrite", &["isa", "memory", "sync"]),
    ("lifecycle", &[]),
    ("scheduler", &[]),
    ("hart", &["isa", "memory", "trace", "vhart"]),
    (
        "vmm",
        &[
            "bundle",
            "devices",
            "devicetree",
            "entropy",
            "isa",
            "memory",
            "mmu",
            "rewrite",
            "sync",
            "trace",
            "vhart",
        ],
    ),
    ("monitor", &["isa", "memory", "trace"]),
    (
        "world",
        &[
            "block",
            "bundle",
            "devices",
            "entropy",
            "isa",
            "lifecycle",
            "memory",
            "mmu",
            "monitor",
            "net",
            "rewrite",
            "scheduler",
            "trace",
            "vhart",
            "vmm",
        ],
    ),
    (
        "hypocaust",
        &[
            "block",
            "bundle",
            "devices",
            "devicetree",
            "entropy",
            "hart",
            "isa",
            "memory",
            "mmu",
            "monitor",
            "net",
            "rewrite",
            "scheduler",
            "trace",
            "vhart",
            "vmm",
            "world",
        ],
    ),
    ("sealed", &["hart", "isa", "memory", "mmu", "vhart", "vmm"]),
    ("hypo-common", &[]),
    ("assembly", &["devices", "hart", "hypo-common", "isa", "memory", "mmu", "rewrite", "vhart", "vmm"]),
    ("hypo-debian", &["hypo-common"]),
    (
        "hypo",
        &["block", "bundle", "devices", "devicetree", "hypo-common", "hypo-debian", "isa", "memory", "vmm"],
    ),
    ("xtask", &["hypo", "hypo-common", "hypo-debian"]),
    ("firmware", &[]),
    ("guest-rt", &["isa"]),
    ("features", &["guest-rt", "isa"]),
    ("minikernel-user", &[]),
    ("minikernel", &["guest-rt", "minikernel-user"]),
    ("bench", &["guest-rt"]),
    ("linux-bench", &[]),
];

/// Fails with a line for each arrow that is not in the table, and for each crate that is not.
pub fn check(project: &Project) -> Result<()> {
    let ours = |name: &str| project.has(name);
    let mut wrong = Vec::new();
    for package in project.packages() {
        let dependencies = package.dependencies.iter().map(|dependency| dependency.name.as_str());
        wrong.extend(violations(&package.name, dependencies.filter(|name| ours(name))));
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// What is wrong with one crate's dependencies among ours.
fn violations<'a>(name: &str, dependencies: impl Iterator<Item = &'a str>) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
        return vec![format!("{name} is not in the table of arrows (xtask/src/lint/arrows.rs)")];
    };
    dependencies
        .filter(|dependency| !allowed.contains(dependency))
        .map(|dependency| format!("{name} must not depend on {dependency}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vmm_may_use_mmu_but_not_hart() {
        assert_eq!(violations("vmm", ["mmu", "hart"].into_iter()), ["vmm must not depend on hart"]);
    }

    #[test]
    fn world_may_use_vmm_but_not_hart() {
        assert_eq!(violations("world", ["vmm", "hart"].into_iter()), ["world must not depend on hart"]);
    }

    #[test]
    fn a_crate_that_nobody_drew_is_named() {
        assert_eq!(violations("surprise", [].into_iter()).len(), 1);
    }

    /// *one-way-arrows*
    #[test]
    fn the_table_has_no_cycle() {
        // Each crate's arrows point to crates that stand above it in the table.
        for (index, (name, allowed)) in ARROWS.iter().enumerate() {
            for dependency in *allowed {
                assert!(
                    ARROWS[..index].iter().any(|(above, _)| above == dependency),
                    "{name} -> {dependency}"
                );
            }
        }
    }
}
