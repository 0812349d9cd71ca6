//! How far a long run is, on a terminal only.

use std::io::{IsTerminal, Write, stderr};

const WIDTH: usize = 40;

pub struct Progress {
    what: &'static str,
    total: usize,
    shown: bool,
}

impl Progress {
    pub fn new(what: &'static str, total: usize) -> Self {
        Progress {
            what,
            total,
            shown: false,
        }
    }

    pub fn show(&mut self, done: usize) {
        if !stderr().is_terminal() || self.total == 0 {
            return;
        }
        let full = done * WIDTH / self.total;
        let bar = format!("{:<WIDTH$}", "#".repeat(full));
        let _ = write!(stderr(), "\r[{bar}] {done} of {} {}", self.total, self.what);
        self.shown = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = writeln!(stderr());
        }
    }
}
