//! Where capture files are written: `--write`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write, stdout};
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
    pub fn begin(mut self) -> Result<Blocks> {
        let can_be_cut = !self.is_stdout && self.file.metadata()?.is_file();
        if can_be_cut {
            self.file.set_len(0)?;
        }
        self.made = None;
        Ok(Blocks {
            file: self.file.try_clone()?,
            whole: can_be_cut.then_some(0),
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(path) = self.made.take() {
            let _ = fs::remove_file(path);
        }
    }
}

/// A file that is written block by block. A disk that is full takes a part of one: this is cut off again, because
/// readers take a file that ends half-way for damaged.
pub struct Blocks {
    file: File,
    /// The bytes of whole blocks; None: it is no file of its own.
    whole: Option<u64>,
}

impl Write for Blocks {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        let written = self.file.write_all(block);
        match (&written, &mut self.whole) {
            (Ok(()), Some(whole)) => *whole += block.len() as u64,
            (Err(_), Some(whole)) => drop(self.file.set_len(*whole)),
            _ => {}
        }
        written.map(|()| block.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
