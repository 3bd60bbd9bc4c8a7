//! A crate's modules: the file that each is in, its items, and the names that it declares. Test modules are left out.

use super::cfg::only_in_tests;
use anyhow::{Context, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use syn::{Item, ItemMod, ItemUse, UseTree, Visibility};

/// A module's place in `Tree::modules`; the crate's root is the first.
pub type ModuleId = usize;
/// A file's place in `Tree::files`.
pub type FileId = usize;

/// The modules of one library or program.
pub struct Tree {
    /// Their files, relative to where the root's path is relative to.
    pub files: Vec<PathBuf>,
    /// Each module after its parent.
    pub modules: Vec<Module>,
    /// The modules that define a `macro_rules!` macro of that name, wherever it is in scope.
    pub macros: HashMap<String, Vec<ModuleId>>,
}

/// One module, in a file of its own or inline.
pub struct Module {
    /// The file that it is in.
    pub file: FileId,
    /// The module that declares it; none has the root.
    pub parent: Option<ModuleId>,
    /// What is in it, but for modules and tests.
    pub items: Vec<Item>,
    /// What each name that it declares may stand for: a function and a module may have the same.
    pub names: HashMap<String, Vec<Name>>,
    /// The paths that it imports everything of.
    pub globs: Vec<Vec<String>>,
}

/// What a declared name stands for.
pub enum Name {
    /// An item that is defined in this module.
    Item(ModuleId),
    /// A module.
    Module(ModuleId),
    /// What a path stands for, as seen from the module that declares the name.
    Import(Vec<String>),
}

/// One import of a `use` declaration, which may have many.
pub struct Import {
    /// The whole path.
    pub path: Vec<String>,
    /// The name that it is given here; none for a glob.
    pub name: Option<String>,
    /// Its line in the file.
    pub line: usize,
}

/// How a file is read: nothing when there is none.
pub type Reader<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Tree {
    /// Reads a library or program from its root file on.
    pub fn read(root: &Path, reader: Reader) -> Result<Tree> {
        let mut tree = Tree { files: Vec::new(), modules: Vec::new(), macros: HashMap::new() };
        let directory = root.parent().unwrap_or(Path::new("")).to_owned();
        tree.add_file(root, None, directory, reader)?;
        Ok(tree)
    }

    /// True when the module is below the other one, or is it.
    pub fn is_within(&self, module: ModuleId, other: ModuleId) -> bool {
        let mut above = Some(module);
        while let Some(id) = above.filter(|id| *id != other) {
            above = self.modules.get(id).and_then(|module| module.parent);
        }
        above.is_some()
    }

    /// Adds a module that has a file of its own; the files of its modules are in `directory`.
    fn add_file(
        &mut self,
        path: &Path,
        parent: Option<ModuleId>,
        directory: PathBuf,
        reader: Reader,
    ) -> Result<Option<ModuleId>> {
        let source = reader(path).ok_or_else(|| anyhow!("cannot read {}", path.display()))?;
        let parsed = syn::parse_file(&source).with_context(|| format!("{} is not Rust", path.display()))?;
        if only_in_tests(&parsed.attrs) {
            return Ok(None);
        }
        let known = self.files.iter().position(|file| file == path);
        let file = known.unwrap_or_else(|| {
            self.files.push(path.to_owned());
            self.files.len() - 1
        });
        self.add(file, parent, parsed.items, &directory, reader).map(Some)
    }

    fn add(
        &mut self,
        file: FileId,
        parent: Option<ModuleId>,
        items: Vec<Item>,
        directory: &Path,
        reader: Reader,
    ) -> Result<ModuleId> {
        let id = self.modules.len();
        let module = Module { file, parent, items: Vec::new(), names: HashMap::new(), globs: Vec::new() };
        self.modules.push(module);
        for item in items.into_iter().filter(|item| !only_in_tests(attributes(item))) {
            match item {
                Item::Mod(child) => self.add_child(id, child, directory, reader)?,
                item => {
                    self.declare(id, &item);
                    self.modules[id].items.push(item);
                }
            }
        }
        Ok(id)
    }

    fn add_child(
        &mut self,
        parent: ModuleId,
        child: ItemMod,
        directory: &Path,
        reader: Reader,
    ) -> Result<()> {
        let name = plain(&child.ident);
        let below = directory.join(&name);
        let file = self.modules[parent].file;
        let id = if let Some((_, items)) = child.content {
            Some(self.add(file, Some(parent), items, &below, reader)?)
        } else if let Some(elsewhere) = path_attribute(&child.attrs) {
            let path = self.files[file].with_file_name(elsewhere);
            let directory = path.parent().unwrap_or(Path::new("")).to_owned();
            self.add_file(&path, Some(parent), directory, reader)?
        } else {
            let beside = directory.join(format!("{name}.rs"));
            let path = if reader(&beside).is_some() { beside } else { below.join("mod.rs") };
            self.add_file(&path, Some(parent), below, reader)?
        };
        if let Some(id) = id {
            self.name(parent, name, Name::Module(id));
        }
        Ok(())
    }

    /// Takes down the names that an item declares.
    fn declare(&mut self, id: ModuleId, item: &Item) {
        let ident = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::TraitAlias(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Use(item) => return self.declare_imports(id, item),
            Item::Macro(item) => match &item.ident {
                Some(ident) => {
                    let name = plain(ident);
                    if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
                        self.name(0, name.clone(), Name::Item(id));
                    }
                    return self.macros.entry(name).or_default().push(id);
                }
                None => return self.declare_made(id, item.mac.tokens.clone()),
            },
            Item::ForeignMod(item) => {
                for item in &item.items {
                    match item {
                        syn::ForeignItem::Fn(item) => self.name(id, plain(&item.sig.ident), Name::Item(id)),
                        syn::ForeignItem::Static(item) => self.name(id, plain(&item.ident), Name::Item(id)),
                        _ => {}
                    }
                }
                return;
            }
            _ => return,
        };
        self.name(id, plain(ident), Name::Item(id));
    }

    fn declare_imports(&mut self, id: ModuleId, item: &ItemUse) {
        for import in imports(item) {
            match import.name {
                Some(name) => self.name(id, name, Name::Import(import.path)),
                None => self.modules[id].globs.push(import.path),
            }
        }
    }

    /// Takes down what a macro such as `bitflags!` seems to define: the words after `struct`, `const` and so on.
    fn declare_made(&mut self, id: ModuleId, tokens: TokenStream) {
        let mut defines = false;
        for token in tokens {
            match token {
                TokenTree::Ident(word) if defines => {
                    self.name(id, plain(&word), Name::Item(id));
                    defines = false;
                }
                TokenTree::Ident(word) => {
                    let keywords = ["const", "enum", "fn", "static", "struct", "trait", "type", "union"];
                    defines = keywords.iter().any(|keyword| word == keyword);
                }
                TokenTree::Group(group) => self.declare_made(id, group.stream()),
                _ => defines = false,
            }
        }
    }

    fn name(&mut self, id: ModuleId, name: String, what: Name) {
        self.modules[id].names.entry(name).or_default().push(what);
    }
}

/// All imports of a declaration; none of a crate that is named by a leading `::`.
pub fn imports(item: &ItemUse) -> Vec<Import> {
    fn walk(tree: &UseTree, path: &[String], into: &mut Vec<Import>) {
        match tree {
            UseTree::Path(part) => walk(&part.tree, &[path, &[plain(&part.ident)]].concat(), into),
            UseTree::Name(last) => leaf(path, &last.ident, &last.ident, into),
            UseTree::Rename(last) => leaf(path, &last.ident, &last.rename, into),
            UseTree::Glob(glob) => {
                let line = glob.star_token.spans[0].start().line;
                into.push(Import { path: path.to_vec(), name: None, line });
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, path, into)),
        }
    }
    /// `{self}` stands for the path in front of it, and gives its last name.
    fn leaf(path: &[String], last: &proc_macro2::Ident, name: &proc_macro2::Ident, into: &mut Vec<Import>) {
        let line = last.span().start().line;
        let mut path = path.to_vec();
        if last != "self" {
            path.push(plain(last));
        }
        let name = if name == "self" { path.last().cloned() } else { Some(plain(name)) };
        into.push(Import { path, name, line });
    }
    let mut all = Vec::new();
    if item.leading_colon.is_none() {
        walk(&item.tree, &[], &mut all);
    }
    all
}

/// True for a `use` that gives others a name: any that is not private.
pub fn is_reexport(item: &ItemUse) -> bool {
    !matches!(item.vis, Visibility::Inherited)
}

/// A name as it is without `r#`.
pub fn plain(ident: &proc_macro2::Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map(str::to_owned).unwrap_or(name)
}

/// An item's attributes.
pub fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Expr::Lit(value) = &attribute.meta.require_name_value().ok()?.value else { return None };
    match &value.lit {
        syn::Lit::Str(path) => Some(path.value()),
        _ => None,
    }
}
