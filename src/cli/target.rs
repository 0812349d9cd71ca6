//! Where capture files are written: `--write`.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, stdout};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use xdpredir::error::{Exit, failure, of_file};

/// A file, or standard output. What a file has stays until the first frame may come, and a file that is made for
/// nothing goes.
pub struct Target {
    file: File,
    is_stdout: bool,
    /// The file, if this run has made it and nothing is in it yet.
    made: Option<PathBuf>,
}

impl Target {
    pub fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            let why = "--write -: standard output is a terminal, which shows no capture file: name a file, or pipe \
                       it into `tcpdump -r -` or `wireshark -k -i -`";
            ensure!(!stdout().is_terminal(), failure(Exit::Usage, why));
            return Ok(Target {
                file: File::from(stdout().as_fd().try_clone_to_owned()?),
                is_stdout: true,
                made: None,
            });
        }
        let open = |make| {
            OpenOptions::new()
                .write(true)
                .create_new(make)
                .open(path)
                .map_err(|error| of_file("cannot write", path, &error))
        };
        let is_new = fs::symlink_metadata(path).is_err();
        Ok(Target {
            file: open(is_new)?,
            is_stdout: false,
            made: is_new.then(|| path.into()),
        })
    }

    /// The place for a capture file, without what was there.
    pub fn begin(mut self) -> Result<File> {
        if !self.is_stdout && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.made = None;
        Ok(self.file.try_clone()?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(path) = self.made.take() {
            let _ = fs::remove_file(path);
        }
    }
}
