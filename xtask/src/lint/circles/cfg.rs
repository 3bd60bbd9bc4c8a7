//! Whether attributes keep an item out of what is built without tests.

use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// True when `#[cfg(test)]`, or another condition that only tests can meet, is among the attributes.
pub fn only_in_tests(attributes: &[Attribute]) -> bool {
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions
        .filter_map(|attribute| attribute.parse_args().ok())
        .any(|meta| without_tests(&meta) == Some(false))
}

/// The condition's value in a build without tests; nothing when it also depends on features or the target.
fn without_tests(condition: &Meta) -> Option<bool> {
    let list = match condition {
        Meta::Path(path) => return path.is_ident("test").then_some(false),
        Meta::NameValue(_) => return None,
        Meta::List(list) => list,
    };
    let parts = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok()?;
    let values: Vec<_> = parts.iter().map(without_tests).collect();
    let (decides, otherwise) = match list.path.get_ident()?.to_string().as_str() {
        "not" => return values.first().copied().flatten().map(|value| !value),
        "all" => (false, true),
        "any" => (true, false),
        _ => return None,
    };
    if values.contains(&Some(decides)) {
        Some(decides)
    } else {
        values.iter().all(Option::is_some).then_some(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_out(condition: &str) -> bool {
        let item: syn::ItemFn = syn::parse_str(&format!("#[cfg({condition})] fn f() {{}}")).unwrap();
        only_in_tests(&item.attrs)
    }

    #[test]
    fn only_what_no_other_build_has_is_kept_out() {
        assert!(kept_out("test"));
        assert!(kept_out("all(test, feature = \"qemu\")"));
        assert!(kept_out("not(not(test))"));
        assert!(!kept_out("not(test)"));
        assert!(!kept_out("any(test, feature = \"qemu\")"));
        assert!(!kept_out("not(any(test, feature = \"qemu\"))"));
        assert!(!kept_out("target_arch = \"riscv64\""));
    }
}
