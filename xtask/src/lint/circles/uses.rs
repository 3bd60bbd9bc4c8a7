//! The paths that a module's code names: in `use`, in types and expressions, and in what macros are given.

use super::cfg::only_in_tests;
use super::tree::{Module, attributes, imports, is_reexport, plain};
use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemUse, Macro, Meta, Path, TraitItem, Visibility};

/// A path that is named somewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Use {
    /// The path, as it is written.
    pub path: Vec<String>,
    /// Its line in the file.
    pub line: usize,
    /// How it is named.
    pub kind: Kind,
}

/// How a path is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In code, or imported by a private `use`, which nobody writes without need.
    Code,
    /// As a macro that is called; it may be in scope without an import.
    Macro,
    /// By a `use` that only hands the name on.
    Reexport,
}

/// All that a module's own code names; not that of its modules, nor of its tests.
pub fn named_in(module: &Module) -> Vec<Use> {
    let mut visitor = Visitor { uses: Vec::new() };
    module.items.iter().for_each(|item| visitor.visit_item(item));
    visitor.uses
}

/// The types that a module has `impl` blocks for, as they are written there.
pub fn extended_by(module: &Module) -> Vec<Vec<String>> {
    let types = module.items.iter().filter_map(|item| match item {
        Item::Impl(block) => Some(&*block.self_ty),
        _ => None,
    });
    let paths = types.filter_map(|kind| match kind {
        syn::Type::Path(named) => Some(&named.path),
        _ => None,
    });
    paths.map(|path| path.segments.iter().map(|segment| plain(&segment.ident)).collect()).collect()
}

struct Visitor {
    uses: Vec<Use>,
}

impl Visitor {
    fn add(&mut self, path: Vec<String>, line: usize, kind: Kind) {
        self.uses.push(Use { path, line, kind });
    }

    fn add_path(&mut self, path: &Path, kind: Kind) {
        if let (None, Some(first)) = (&path.leading_colon, path.segments.first()) {
            let words = path.segments.iter().map(|segment| plain(&segment.ident)).collect();
            self.add(words, first.ident.span().start().line, kind);
        }
    }

    /// Finds paths in what is no syntax tree. Not fields and methods, which stand after a point, nor lifetimes, nor
    /// what a macro's definition only has a placeholder for.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let punct = |index: usize, wanted: char| match tokens.get(index) {
            Some(TokenTree::Punct(punct)) => punct.as_char() == wanted,
            _ => false,
        };
        let colons = |index: usize| punct(index, ':') && punct(index + 1, ':');
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            if let TokenTree::Group(group) = token {
                self.scan(group.stream());
            }
            let TokenTree::Ident(first) = token else {
                index += 1;
                continue;
            };
            let behind = |wanted: char| index > 0 && punct(index - 1, wanted);
            let range = index > 1 && behind('.') && punct(index - 2, '.');
            let placeholder = behind('$') && first != "crate";
            let part = (behind('.') && !range) || behind('\'') || placeholder;
            let foreign = index > 1 && colons(index - 2);
            let line = first.span().start().line;
            let mut words = vec![plain(first)];
            index += 1;
            while colons(index)
                && let Some(TokenTree::Ident(word)) = tokens.get(index + 2)
            {
                words.push(plain(word));
                index += 3;
            }
            if !part && !foreign {
                let kind = if is_call(&tokens[index..]) { Kind::Macro } else { Kind::Code };
                self.add(words, line, kind);
            }
        }
    }
}

/// True when `!` and an opening bracket follow: the name is a macro's.
fn is_call(after: &[TokenTree]) -> bool {
    match after {
        [TokenTree::Punct(mark), TokenTree::Group(group), ..] => {
            mark.as_char() == '!' && group.delimiter() != Delimiter::None
        }
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_in_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => return,
        };
        if !only_in_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            _ => return,
        };
        if !only_in_tests(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let kind = if is_reexport(item) { Kind::Reexport } else { Kind::Code };
        for import in imports(item) {
            self.add(import.path, import.line, kind);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.add_path(path, Kind::Code);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.add_path(&call.path, Kind::Macro);
        self.scan(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => self.scan(list.tokens.clone()),
            meta => visit::visit_meta(self, meta),
        }
    }

    /// `pub(in path)` uses nothing of the path.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    /// Constants in patterns look like new names.
    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        let is_constant = |ident: &Ident| ident.to_string().starts_with(char::is_uppercase);
        if is_constant(&pattern.ident) && pattern.subpat.is_none() {
            self.add(vec![plain(&pattern.ident)], pattern.ident.span().start().line, Kind::Code);
        }
        visit::visit_pat_ident(self, pattern);
    }
}
