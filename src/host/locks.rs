//! Who holds the lock on a file.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{major, minor};

use super::process;

/// A process that has locked a file.
pub struct Holder {
    pid: u32,
    command: Option<String>,
    stopped: bool,
}

impl Holder {
    /// Of a file's `flock`; None where nobody has it, or a process that this one can't see.
    pub fn of(file: &File) -> Option<Self> {
        let file = file.metadata().ok()?;
        let device = (major(file.dev()), minor(file.dev()));
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let pid = locks
            .lines()
            .find_map(|line| pid_of(line, device, file.ino()))?;
        Some(Holder {
            pid,
            command: process::command_line(pid),
            stopped: process::is_stopped(pid),
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.pid;
        write!(f, "pid {pid}")?;
        if let Some(command) = &self.command {
            write!(f, " ({command})")?;
        }
        if self.stopped {
            write!(f, ", which is stopped: `kill -CONT {pid}` lets it go on")?;
        }
        Ok(())
    }
}

/// proc(5): "1: FLOCK  ADVISORY  WRITE 4242 00:1c:77 0 EOF"; who waits has an arrow after the colon.
fn pid_of(line: &str, device: (u64, u64), inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    if words.next()? != "FLOCK" {
        return None;
    }
    let pid = words.nth(2)?.parse().ok()?;
    let mut file = words.next()?.split(':');
    let mut hex = || u64::from_str_radix(file.next()?, 16).ok();
    let found = (hex()?, hex()?);
    (found == device && file.next()?.parse() == Ok(inode) && pid != 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_its_file() {
        let of = |line| pid_of(line, (0, 0x1c), 77);
        assert_eq!(
            of("1: FLOCK  ADVISORY  WRITE 4242 00:1c:77 0 EOF"),
            Some(4242)
        );
        assert_eq!(of("1: FLOCK  ADVISORY  WRITE 4242 00:1c:78 0 EOF"), None);
        assert_eq!(of("1: FLOCK  ADVISORY  WRITE 4242 00:1d:77 0 EOF"), None);
        assert_eq!(of("1: POSIX  ADVISORY  WRITE 4242 00:1c:77 0 EOF"), None);
        assert_eq!(of("1: -> FLOCK  ADVISORY  WRITE 4243 00:1c:77 0 EOF"), None);
        assert_eq!(of("1: FLOCK  ADVISORY  WRITE -1 00:1c:77 0 EOF"), None);
        assert_eq!(of(""), None);
    }
}
