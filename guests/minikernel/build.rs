//! Builds the user programs and puts them into the kernel: there is no file system to load them from.
//!
//! They are a package of their own, `user/`, built here by a second cargo with the same profile into this
//! package's output directory. Every file in `user/src/bin` becomes a program that `run` knows by its name.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=user");
    if env::var("CARGO_CFG_TARGET_OS")? != "none" {
        return Ok(()); // On the developer's machine only the library is built, for its tests.
    }
    println!("cargo::rustc-link-arg-bins=-T{}", env::var("DEP_GUEST_RT_LINKER_SCRIPT")?);

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let programs = build_programs(&out)?;
    let sources = fs::read_dir("user/src/bin")?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> =
        sources.iter().filter_map(|file| Some(file.path().file_stem()?.to_owned())).collect();
    names.sort();
    let mut table = String::from("/// All programs, sorted by name.\npub const PROGRAMS: &[Program] = &[\n");
    for name in names {
        let file = programs.join(&name);
        writeln!(table, "    Program {{ name: {name:?}, elf: include_bytes!({file:?}) }},")?;
    }
    table.push_str("];\n");
    fs::write(out.join("programs.rs"), table)?;
    Ok(())
}

/// Runs cargo on the user programs and gives the directory that they are in then.
fn build_programs(out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = env::var("TARGET")?;
    let directory = out.join("user");
    let status = Command::new(env::var("CARGO")?)
        .args(["build", "--quiet", "--release", "--bins", "--manifest-path", "user/Cargo.toml"])
        // The kernel carries the files whole, so without symbols.
        .args(["--config", "profile.release.strip=true", "--target", &target, "--target-dir"])
        .arg(&directory)
        // What the outer cargo set for this package: the inner one finds its own in the configuration.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()?;
    if !status.success() {
        return Err("the user programs do not build".into());
    }
    Ok(directory.join(target).join("release"))
}
