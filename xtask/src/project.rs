//! Where the project's parts are, which packages it has, and how cargo is started on them.
//!
//! All of it comes from `cargo metadata`, so a new crate is known as soon as it is in the workspace.

use anyhow::{Context, Result, bail};
use hypo_common::build::{PROFILE, TARGET};
use hypo_common::qemu::as_shell;
use serde::Deserialize;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace as cargo sees it.
#[derive(Deserialize)]
pub struct Project {
    packages: Vec<Package>,
    workspace_default_members: Vec<String>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

/// One of our packages.
#[derive(Deserialize)]
pub struct Package {
    /// Its name, as in `cargo build -p NAME`.
    pub name: String,
    /// Cargo's identifier of it.
    id: String,
    /// What it depends on, in all kinds (normal, build, dev).
    pub dependencies: Vec<Dependency>,
    /// What it builds.
    pub targets: Vec<Target>,
    manifest_path: PathBuf,
}

/// A line of a package's dependencies.
#[derive(Deserialize)]
pub struct Dependency {
    /// The package that is depended on.
    pub name: String,
}

/// A library or program of a package.
#[derive(Deserialize)]
pub struct Target {
    /// `lib`, `bin`, `test`, `custom-build` and so on.
    pub kind: Vec<String>,
    /// Its root file.
    pub src_path: PathBuf,
}

impl Project {
    /// Asks cargo, at the top of the checkout: elsewhere the default members are others. Nothing is
    /// downloaded.
    pub fn load() -> Result<Project> {
        let output = Command::new(cargo())
            .args(["metadata", "--format-version=1", "--no-deps"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .context("cargo metadata cannot be started")?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata printed something unknown")
    }

    /// The top of the checkout.
    pub fn root(&self) -> &Path {
        &self.workspace_root
    }

    /// Where cargo puts what it builds.
    pub fn target_directory(&self) -> &Path {
        &self.target_directory
    }

    /// All packages of the workspace.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// The packages that build for the bare-metal target only: the image, its hart crate, the guests.
    pub fn bare_packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| !self.is_host(package))
    }

    /// True when a package of that name is in the workspace.
    pub fn has(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }

    /// A program that cargo built for the bare-metal target.
    pub fn bare_program(&self, name: &str) -> PathBuf {
        self.target_directory.join(TARGET).join(PROFILE).join(name)
    }

    /// A cargo command at the top of the checkout.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command.args(arguments).current_dir(&self.workspace_root);
        command
    }

    /// Builds the host command line and gives its path.
    pub fn build_hypo(&self) -> Result<PathBuf> {
        run(&mut self.cargo(&["build", "--quiet", "--package", "hypo"]))?;
        Ok(self.target_directory.join("debug/hypo"))
    }

    /// Builds the programs of bare-metal packages as `hypo` would: one at a time, since a feature that one of
    /// them wants of a common dependency (a heap, for one) would be there for all.
    pub fn build_bare(&self, packages: &[&str]) -> Result<()> {
        for package in packages {
            let options = ["--quiet", "--target", TARGET, "--profile", PROFILE, "--package", package];
            run(self.cargo(&["build"]).args(options))?;
        }
        Ok(())
    }

    fn is_host(&self, package: &Package) -> bool {
        self.workspace_default_members.contains(&package.id)
    }
}

impl Package {
    /// The package's directory, relative to the top of the checkout.
    pub fn directory<'a>(&'a self, project: &Project) -> &'a Path {
        let directory = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        directory.strip_prefix(project.root()).unwrap_or(directory)
    }
}

impl Target {
    /// True for a library or program; tests and build scripts are not part of what runs.
    pub fn is_code(&self) -> bool {
        self.kind.iter().any(|kind| matches!(kind.as_str(), "lib" | "bin"))
    }
}

/// The cargo that started us, or the one in the path.
fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// Runs a command with our own streams; an error names the command.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if status.success() { Ok(()) } else { bail!("`{shown}` failed: {status}") }
}

/// A command as one would type it, without the directory of the program.
pub fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(program).chain(command.get_args()).map(OsString::from).collect();
    as_shell(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("/usr/bin/hypo");
        command.args(["run", "--append", "a b", "it's", ""]);
        assert_eq!(show(&command), r"hypo run --append 'a b' 'it'\''s' ''");
    }

    #[test]
    fn the_workspace_has_host_and_bare_metal_packages() {
        let project = Project::load().unwrap();
        assert!(project.has("xtask"));
        assert!(project.bare_packages().any(|package| package.name == "hypocaust"));
        assert!(!project.bare_packages().any(|package| package.name == "isa"));
    }

    #[test]
    fn a_package_knows_its_directory_in_the_checkout() {
        let project = Project::load().unwrap();
        let vmm = project.packages().iter().find(|package| package.name == "vmm").unwrap();
        assert_eq!(vmm.directory(&project), Path::new("crates/vmm"));
    }
}
