//! What a path stands for: from module to module and through imports, to the item that is defined in the end.

use super::tree::{ModuleId, Name, Tree};

/// What a path may stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An item, by its name, of the module that defines it.
    Item(ModuleId, String),
    /// A module itself.
    Module(ModuleId),
}

/// What `path` stands for where `from` says it; nothing for what other crates define. Of a path that goes on after an
/// item, to a variant or an associated function, the item counts.
pub fn resolve(tree: &Tree, from: ModuleId, path: &[String]) -> Vec<Meaning> {
    Search { tree, under_way: Vec::new() }.path(from, path)
}

struct Search<'a> {
    tree: &'a Tree,
    /// The names whose imports are being followed: `use log::log` names itself.
    under_way: Vec<(ModuleId, String)>,
}

impl Search<'_> {
    fn path(&mut self, from: ModuleId, path: &[String]) -> Vec<Meaning> {
        let mut start = from;
        let mut rest = path;
        let mut found = None;
        while let Some((word, after)) = rest.split_first() {
            match word.as_str() {
                "crate" => start = 0,
                "self" => {}
                "super" => match self.tree.modules[start].parent {
                    Some(parent) => start = parent,
                    None => return Vec::new(),
                },
                _ => break,
            }
            found = Some(vec![Meaning::Module(start)]);
            rest = after;
        }
        let mut found = match (found, rest.split_first()) {
            (Some(found), _) => found,
            (None, Some((first, after))) => {
                rest = after;
                self.name(start, first).unwrap_or_default()
            }
            (None, None) => Vec::new(),
        };
        for word in rest {
            // A function or macro that has a module's name leads nowhere.
            if found.iter().any(|meaning| matches!(meaning, Meaning::Module(_))) {
                found.retain(|meaning| matches!(meaning, Meaning::Module(_)));
            }
            found = found.into_iter().flat_map(|meaning| self.step(meaning, word)).collect();
        }
        found
    }

    /// A path's next word. A module's name that is declared nowhere must be a macro's work.
    fn step(&mut self, meaning: Meaning, word: &str) -> Vec<Meaning> {
        match meaning {
            Meaning::Item(..) => vec![meaning],
            Meaning::Module(id) => {
                self.name(id, word).unwrap_or_else(|| vec![Meaning::Item(id, word.to_owned())])
            }
        }
    }

    /// What a module's name stands for; nothing when it has no such name, an empty list when that is of another crate.
    fn name(&mut self, id: ModuleId, name: &str) -> Option<Vec<Meaning>> {
        let tree = self.tree;
        let module = &tree.modules[id];
        let asked = (id, name.to_owned());
        if self.under_way.contains(&asked) {
            return None;
        }
        self.under_way.push(asked);
        let mut found = module.names.get(name).map(|meanings| {
            let meanings = meanings.iter().flat_map(|meaning| match meaning {
                Name::Item(id) => vec![Meaning::Item(*id, name.to_owned())],
                Name::Module(id) => vec![Meaning::Module(*id)],
                Name::Import(path) => self.path(id, path),
            });
            meanings.collect::<Vec<_>>()
        });
        if found.is_none() {
            found = module.globs.iter().find_map(|path| {
                self.path(id, path).into_iter().find_map(|meaning| match meaning {
                    Meaning::Module(inside) => self.name(inside, name),
                    Meaning::Item(..) => None,
                })
            });
        }
        self.under_way.pop();
        found
    }
}
