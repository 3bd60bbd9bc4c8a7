//! No circles of files inside a crate: what two files both need has a file of its own, so that each can be read, tested
//! and changed by itself.
//!
//! A file uses another one when its code names an item that the other one *defines*: by a path, in a macro's input, or by
//! importing it. Names that are handed on lead to where the item is defined, so a `mod.rs` or `lib.rs` that only declares
//! its modules and re-exports what they have is in no circle; but one that defines a type which its modules use, and uses
//! them, is. A re-export counts as a use where it hands on what is not below it. Methods and fields are not named by a
//! path and do not count: a type's `impl` blocks may be spread over the modules below it. Test modules are left out.

mod cfg;
mod graph;
mod names;
mod tree;
mod uses;

use crate::project::Project;
use anyhow::{Context, Result, bail};
use graph::Graph;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use tree::{FileId, Reader, Tree};

/// Packages that are not yet held to the rule.
const NOT_YET: &[&str] = &[];

/// Fails with each circle of files inside a library or program of ours, and with what holds it together.
pub fn check(project: &Project) -> Result<()> {
    let mut wrong = Vec::new();
    let held = |name: &str| !NOT_YET.contains(&name);
    for package in project.packages().iter().filter(|package| held(&package.name)) {
        for target in package.targets.iter().filter(|target| target.is_code()) {
            let root = target.src_path.strip_prefix(project.root()).unwrap_or(&target.src_path);
            let reader = |path: &Path| std::fs::read_to_string(project.root().join(path)).ok();
            wrong.extend(in_crate(root, &reader).with_context(|| format!("package {}", package.name))?);
        }
    }
    if wrong.is_empty() { Ok(()) } else { bail!("{}", wrong.join("\n")) }
}

/// A message for each circle in the library or program with this root file.
fn in_crate(root: &Path, reader: Reader) -> Result<Vec<String>> {
    let tree = Tree::read(root, reader)?;
    let graph = graph::graph(&tree);
    Ok(graph::circles(&graph).iter().map(|circle| describe(circle, &tree, &graph)).collect())
}

/// Names a circle's files, and for each what it uses of the others.
fn describe(circle: &BTreeSet<FileId>, tree: &Tree, graph: &Graph) -> String {
    let path = |file: &FileId| tree.files[*file].display();
    let files: Vec<_> = circle.iter().map(|file| path(file).to_string()).collect();
    let mut text = format!("{} files use each other in a circle: {}", circle.len(), files.join(", "));
    for file in circle {
        for (other, names) in
            graph.get(file).into_iter().flatten().filter(|(other, _)| circle.contains(other))
        {
            let named: Vec<_> = names.iter().map(|(name, line)| format!("{name} (line {line})")).collect();
            let _ = write!(text, "\n  {} uses of {}: {}", path(file), path(other), named.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests;
