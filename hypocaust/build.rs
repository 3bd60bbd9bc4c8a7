//! Links the image: position-independent, with the layout of `image.ld`.

fn main() {
    let script = format!("{}/image.ld", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    for argument in [&format!("-T{script}"), "-pie", "--no-dynamic-linker", "-znotext", "--gc-sections"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rerun-if-changed={script}");
}
