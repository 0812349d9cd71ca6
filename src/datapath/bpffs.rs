//! Directories of a bpffs.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::geteuid;

use super::Error;
use crate::error::Failure;

/// What was tried with a path, for the error.
pub trait At<T> {
    fn at(self, cannot: &str, path: &Path) -> Result<T>;
}

impl<T, E> At<T> for Result<T, E>
where
    Result<T, E>: Context<T, E>,
{
    fn at(self, cannot: &str, path: &Path) -> Result<T> {
        self.with_context(|| format!("{cannot} {}", path.display()))
    }
}

/// Where /sys/fs/bpf is writable for all, anybody may have made a directory of our name first, and
/// could lead a run of root's astray: it must be root's or this user's own, and nobody else's to
/// change.
pub fn require_trusted(directory: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(directory).at("cannot look at", directory)?;
    let ours = metadata.uid() == 0 || metadata.uid() == geteuid().as_raw();
    // Sticky: others may add names, which are looked at in their turn, but not replace ours.
    let closed = metadata.mode() & 0o022 == 0 || metadata.mode() & 0o1000 != 0;
    if metadata.is_dir() && ours && closed {
        return Ok(());
    }
    Err(Failure::new(Error::Untrusted {
        directory: directory.to_path_buf(),
        uid: metadata.uid(),
    }))
}

pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

pub fn passable(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
}

pub fn exists(path: &Path) -> Result<bool> {
    path.try_exists().at("cannot look into", path)
}

/// Names in a directory; none where it is missing.
pub fn entries(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect()
            })
            .at("cannot read", directory),
    }
}

/// Makes a directory where it is missing.
pub fn mkdir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Nothing there is no error.
pub fn remove_file(path: &Path) -> Result<()> {
    removed(fs::remove_file(path), path)
}

/// Nothing there is no error.
pub fn remove_tree(path: &Path) -> Result<()> {
    removed(fs::remove_dir_all(path), path)
}

fn removed(result: io::Result<()>, path: &Path) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.at("cannot remove", path),
    }
}

/// True where it was removed; false where it is not empty, not there, or a mount point.
pub fn remove_directory(path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).at("cannot remove", path),
    }
}
