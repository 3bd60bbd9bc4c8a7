//! The folder for what is fetched: `$HYPO_CACHE`, else `$XDG_CACHE_HOME/hypocaust`, else `~/.cache/hypocaust`.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user.
    ///
    /// # Errors
    /// No environment variable says where it is.
    pub fn open() -> Result<Self> {
        root(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
            .map(|root| Self { root })
            .ok_or_else(|| {
                Error::new("there is no place for fetched files: HOME is not set")
                    .remedy("set HYPO_CACHE to a folder that may be written to")
            })
    }

    /// A cache in this folder.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the entry `name` is, whether or not it is there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the entry `name` is there.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).is_dir()
    }

    /// The folder `name`, made by `make` if it is not there. It appears in one step, so an entry that is there
    /// is whole; a second run waits for the first.
    ///
    /// # Errors
    /// The cache cannot be written, or `make` fails.
    pub fn entry(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.path(name);
        let fail = |error| {
            Error::file("write the cache", &self.root, &error)
                .remedy("set HYPO_CACHE to a folder with room that may be written to")
        };
        if path.is_dir() {
            return Ok(path);
        }
        fs::create_dir_all(&self.root).map_err(fail)?;
        let lock = File::create(self.root.join(".lock")).map_err(fail)?;
        lock.lock().map_err(fail)?;
        // Another run may have made it while this one waited.
        if path.is_dir() {
            return Ok(path);
        }
        let scratch = tempfile::Builder::new().prefix(".making-").tempdir_in(&self.root).map_err(fail)?;
        let content = scratch.path().join("content");
        fs::create_dir(&content).map_err(fail)?;
        make(&content)?;
        fs::rename(&content, &path).map_err(fail)?;
        Ok(path)
    }
}

fn root(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    variable("HYPO_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| PathBuf::from(folder).join("hypocaust")))
        .or_else(|| variable("HOME").map(|folder| PathBuf::from(folder).join(".cache/hypocaust")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_variable_comes_first() {
        let set =
            |names: &'static [&str]| root(|name| names.contains(&name).then(|| format!("/{name}").into()));
        assert_eq!(set(&["HYPO_CACHE", "XDG_CACHE_HOME", "HOME"]), Some("/HYPO_CACHE".into()));
        assert_eq!(set(&["XDG_CACHE_HOME", "HOME"]), Some("/XDG_CACHE_HOME/hypocaust".into()));
        assert_eq!(set(&["HOME"]), Some("/HOME/.cache/hypocaust".into()));
        assert_eq!(set(&[]), None);
    }

    #[test]
    fn an_entry_is_made_once_and_a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("new"));
        assert!(cache.entry("a", |_| Err(Error::new("no"))).is_err());
        assert!(!cache.has("a"));
        let make = |content: &Path| fs::write(content.join("f"), "x").map_err(Error::new);
        assert_eq!(fs::read(cache.entry("a", make).unwrap().join("f")).unwrap(), b"x");
        cache.entry("a", |_| panic!("made twice")).unwrap();
    }
}
