//! Links the user programs at the user address space's addresses.

fn main() {
    println!("cargo::rerun-if-changed=user.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
        println!("cargo::rustc-link-arg-bins=-T{directory}/user.ld");
        // Page-aligned segments, so that each can have permissions of its own.
        println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
