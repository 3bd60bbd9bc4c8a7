//! `cargo xtask bench`: what operations cost in instructions of the whole machine (guest, hypervisor and
//! firmware), natively and as a guest, measured by two guests of ours from inside.
//!
//! QEMU's `-icount` makes the figures the same on every machine. What is measured is decided in
//! `guests/bench` and `guests/linux-bench`; here the runs are made and the table is put together.

pub mod limits;
pub mod lines;
mod table;

use crate::launch::{self, Hypo};
use crate::project::Project;
use anyhow::{Context, Result, bail, ensure};
use lines::Output;
use std::path::PathBuf;
use std::time::Duration;
use table::Table;

/// How long one run may take: Linux natively needs half a minute on a machine of today.
const LIMIT: Duration = Duration::from_secs(900);

/// The kernel's own start-up tests would go on while the guest measures, and where its stack lies would be chance.
const APPEND: &str = "console=ttyS0 quiet cryptomgr.notests norandmaps";

/// The hypervisor's verbosity at which it prints its exit counters at the end.
const COUNTERS: &str = "3";

/// What to measure and where to put it.
#[derive(clap::Args)]
pub struct Options {
    /// Also write the figures to this file, for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only items whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Only this suite
    #[arg(long, value_name = "NAME", value_parser = SUITES.map(|suite| suite.name))]
    suite: Option<String>,
    /// Only natively, without the hypervisor
    #[arg(long)]
    native: bool,
    /// On this firmware, as `hypo run --firmware` names it
    #[arg(long, value_name = "default|opensbi-1.6|rustsbi|FILE", default_value = "default")]
    firmware: String,
}

/// Operations that one guest measures.
struct Suite {
    name: &'static str,
    /// Whether it can be measured without the hypervisor, too.
    native: bool,
    /// What `hypo run` gets to run that guest.
    arguments: fn(&Project) -> Result<Vec<String>>,
}

/// Each kind of exit from a bare guest; its disk and network; what a Linux kernel does for its programs; what one that is
/// idle takes from the guest beside it.
const SUITES: [Suite; 4] = [
    Suite { name: "bare", native: true, arguments: bare },
    Suite { name: "devices", native: true, arguments: devices },
    Suite { name: "linux", native: true, arguments: linux },
    Suite { name: "idle", native: false, arguments: idle },
];

/// Measures; false when a bound was exceeded.
pub fn run(options: &Options) -> Result<bool> {
    let project = Project::load()?;
    let hypo = Hypo::new(&project.build_hypo()?, Vec::new());
    project.build_bare(&["bench", "linux-bench"])?;
    if !options.native {
        project.build_bare(&["hypocaust"])?;
    }
    let (mut tables, mut exceeded) = (Vec::new(), Vec::new());
    for suite in &SUITES {
        let wanted = options.suite.as_deref().is_none_or(|name| name == suite.name);
        if wanted && (suite.native || !options.native) {
            let (table, more) = measure(suite, &project, &hypo, options)?;
            println!("{}", table.to_markdown());
            tables.push(table);
            exceeded.extend(more);
        }
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&tables)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    exceeded.iter().for_each(|line| println!("out of bounds: {line}"));
    Ok(exceeded.is_empty())
}

/// Runs a suite on its sides at once; counted instructions do not mind the company. Gives the table, and what is out of
/// bounds.
fn measure(suite: &Suite, project: &Project, hypo: &Hypo, options: &Options) -> Result<(Table, Vec<String>)> {
    let firmware = ["--firmware", &options.firmware].map(String::from);
    let arguments = [(suite.arguments)(project)?, firmware.into()].concat();
    let native_arguments = [arguments.clone(), vec!["--native".into()]].concat();
    let arguments = [arguments, ["--log-level", COUNTERS].map(String::from).into()].concat();
    let (native, guest) = std::thread::scope(|scope| {
        let guest = (!options.native).then(|| scope.spawn(|| run_one(hypo, &arguments)));
        let native = suite.native.then(|| run_one(hypo, &native_arguments));
        (native, guest.map(|thread| thread.join()))
    });
    let guest = match guest {
        None => None,
        Some(Ok(output)) => Some(output.with_context(|| format!("{}, as a guest", suite.name))?),
        Some(Err(_)) => bail!("{}: the thread of the guest's run panicked", suite.name),
    };
    let native = native.transpose().with_context(|| format!("{}, natively", suite.name))?;
    let exceeded = guest.as_ref().map_or(Vec::new(), |guest| limits::exceeded(native.as_ref(), guest));
    Ok((Table::new(suite.name, native.as_ref(), guest.as_ref(), &options.filter), exceeded))
}

/// One run, to its end.
fn run_one(hypo: &Hypo, arguments: &[String]) -> Result<Output> {
    let mut log = Vec::new();
    let status = launch::to_end(hypo, arguments, LIMIT, &mut log)?;
    let text = String::from_utf8_lossy(&log);
    ensure!(status == 0, "exit status {status}\n{text}");
    let output = Output::read(&text);
    ensure!(!output.items.is_empty(), "nothing was measured\n{text}");
    Ok(output)
}

fn bare(project: &Project) -> Result<Vec<String>> {
    let kernel = project.bare_program("bench").display().to_string();
    Ok(["run", "--kernel", &kernel, "--memory", "1G", "--icount"].map(String::from).to_vec())
}

/// A guest with a disk in memory and two interfaces on one switch.
fn devices(project: &Project) -> Result<Vec<String>> {
    let folder = project.target_directory();
    let (disk, manifest) = (folder.join("bench-disk.img"), folder.join("bench-devices.toml"));
    std::fs::write(&disk, vec![0x5a; 1 << 20]).with_context(|| format!("cannot write {}", disk.display()))?;
    let kernel = project.bare_program("bench-devices");
    let text = format!(
        "[[switch]]\nname = \"lan\"\n\n[[vm]]\nname = \"devices\"\nkernel = {kernel:?}\nmemory = \"64M\"\n\n\
         [[vm.disk]]\nimage = {disk:?}\n\n[[vm.net]]\nswitch = \"lan\"\n\n[[vm.net]]\nswitch = \"lan\"\n"
    );
    std::fs::write(&manifest, text).with_context(|| format!("cannot write {}", manifest.display()))?;
    Ok(["run", &manifest.display().to_string(), "--icount"].map(String::from).to_vec())
}

/// Debian's kernel with an initial RAM disk that holds nothing but our two programs.
fn linux(project: &Project) -> Result<Vec<String>> {
    let initrd = project.target_directory().join("linux-bench.cpio");
    let mut archive = hypo_debian::cpio::Archive::default();
    for (name, program) in [("init", "linux-bench"), ("exec", "linux-bench-exec")] {
        let path = project.bare_program(program);
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        archive.file(name, 0o755, &bytes);
    }
    std::fs::write(&initrd, archive.finish())
        .with_context(|| format!("cannot write {}", initrd.display()))?;
    let initrd = initrd.display().to_string();
    Ok(["run", "linux", "--initrd", &initrd, "--append", APPEND, "--icount"].map(String::from).to_vec())
}

/// An idle Linux guest beside one that works all the time.
fn idle(project: &Project) -> Result<Vec<String>> {
    let manifest = project.target_directory().join("bench-idle.toml");
    let kernel = project.bare_program("bench-beside");
    let text = format!(
        "[[vm]]\nname = \"beside\"\nkernel = {kernel:?}\nmemory = \"16M\"\n\n\
         [[vm]]\nname = \"idle\"\nguest = \"linux\"\nappend = \"{APPEND}\"\n"
    );
    std::fs::write(&manifest, text).with_context(|| format!("cannot write {}", manifest.display()))?;
    let run = ["run", &manifest.display().to_string(), "--icount", "--expect", "^measured"];
    Ok(run.map(String::from).to_vec())
}
