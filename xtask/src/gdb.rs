//! Not built yet: this command says so and fails.
use anyhow::Result;
#[derive(clap::Args)]
pub struct Options {}
pub fn run(_: &Options) -> Result<bool> {
    Ok(false)
}
