//! Which file uses what of which, and the circles in that.

use super::names::{Meaning, resolve};
use super::tree::{FileId, ModuleId, Tree};
use super::uses::{Kind, Use, extended_by, named_in};
use std::collections::{BTreeMap, BTreeSet};

/// The names that a file uses of another one, each with the first line that it is in.
pub type Names = BTreeMap<String, usize>;

/// What each file uses, by the file that has it.
pub type Graph = BTreeMap<FileId, BTreeMap<FileId, Names>>;

/// Collects what each file of a crate uses.
pub fn graph(tree: &Tree) -> Graph {
    let mut graph = Graph::new();
    for (id, module) in tree.modules.iter().enumerate() {
        let own = extended(tree, id);
        for named in named_in(module) {
            for (owner, name) in items(tree, id, &named) {
                let file = tree.modules[owner].file;
                if file != module.file && !own.contains(&(owner, name.clone())) {
                    let names = graph.entry(module.file).or_default().entry(file).or_default();
                    let line = names.entry(name).or_insert(named.line);
                    *line = named.line.min(*line);
                }
            }
        }
    }
    graph
}

/// The types from above a module for which it has `impl` blocks: these are parts of the type that stand in other files.
fn extended(tree: &Tree, id: ModuleId) -> BTreeSet<(ModuleId, String)> {
    let types = extended_by(&tree.modules[id]);
    let meanings = types.iter().flat_map(|path| resolve(tree, id, path));
    let items = meanings.filter_map(|meaning| match meaning {
        Meaning::Item(owner, name) => Some((owner, name)),
        Meaning::Module(_) => None,
    });
    items.filter(|(owner, _)| tree.is_within(id, *owner)).collect()
}

/// The groups of files that use each other, in a circle or in several that hang together.
pub fn circles(graph: &Graph) -> Vec<BTreeSet<FileId>> {
    let reached: BTreeMap<_, _> = graph.keys().map(|file| (*file, reach(graph, *file))).collect();
    let mut circles: Vec<BTreeSet<FileId>> = Vec::new();
    for (file, others) in &reached {
        if others.contains(file) && !circles.iter().any(|circle| circle.contains(file)) {
            let back = |other: &&FileId| reached.get(other).is_some_and(|reached| reached.contains(file));
            circles.push(others.iter().filter(back).copied().collect());
        }
    }
    circles
}

/// All files that can be reached from one by going on to what is used; itself only if it is in a circle.
fn reach(graph: &Graph, from: FileId) -> BTreeSet<FileId> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        let used = graph.get(&file).into_iter().flat_map(BTreeMap::keys);
        open.extend(used.filter(|other| reached.insert(**other)));
    }
    reached
}

/// The items that a path may stand for, with the modules that define them. What a module hands on from below itself it
/// does not use.
fn items(tree: &Tree, from: ModuleId, named: &Use) -> Vec<(ModuleId, String)> {
    let mut meanings = resolve(tree, from, &named.path);
    if meanings.is_empty()
        && named.kind == Kind::Macro
        && let [name] = named.path.as_slice()
    {
        let defining = tree.macros.get(name).into_iter().flatten();
        meanings = defining.map(|id| Meaning::Item(*id, name.clone())).collect();
    }
    let items = meanings.into_iter().filter_map(|meaning| match meaning {
        Meaning::Item(id, name) => Some((id, name)),
        Meaning::Module(_) => None,
    });
    items.filter(|(id, _)| named.kind != Kind::Reexport || !tree.is_within(*id, from)).collect()
}
