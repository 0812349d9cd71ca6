//! What is said while a run goes on, libbpf's messages too. The command line listens, and decides what is
//! shown; what libbpf quotes of the kernel is kept for an error.

use std::mem::take;
use std::sync::{Mutex, OnceLock};

use libbpf_rs::{PrintLevel, set_print};

/// Something to say before the run ends.
pub enum Notice {
    /// A line of libbpf's log.
    Libbpf(String),
    /// A sentence for whoever waits for this run or has to act after it.
    Warning(String),
}

static LISTENER: OnceLock<fn(Notice)> = OnceLock::new();
static SAID: Mutex<Said> = Mutex::new(Said::new());

/// What libbpf quoted since it was last asked for.
#[derive(Default)]
pub struct Said {
    /// The words of a netlink error (extack).
    pub netlink: Option<String>,
    /// The name of a map that could not be made.
    pub map: Option<String>,
    /// A program that was refused, with what error ("-EPERM"), and the verifier's log, if it wrote one.
    pub program: Option<(String, String)>,
    pub verifier: Option<String>,
}

/// How libbpf introduces what it quotes.
const NETLINK: &str = "Kernel error message: ";
const MAP: &str = "': failed to create";
const PROGRAM: &str = "': BPF program load failed: ";
const VERIFIER: &str = "-- BEGIN PROG LOAD LOG --";

impl Said {
    const fn new() -> Self {
        Said {
            netlink: None,
            map: None,
            program: None,
            verifier: None,
        }
    }

    fn hear(&mut self, message: &str) {
        if let Some((_, said)) = message.split_once(NETLINK) {
            self.netlink = Some(said.trim().to_string());
        } else if let Some((_, log)) = message.split_once(VERIFIER) {
            self.verifier = Some(log.to_string());
        } else if let Some((map, _)) = named(message, "map '", MAP) {
            self.map = Some(map);
        } else if let Some(program) = named(message, "prog '", PROGRAM) {
            self.program = Some(program);
        }
    }
}

/// The name that stands between the two, and what follows.
fn named(message: &str, before: &str, after: &str) -> Option<(String, String)> {
    let (_, rest) = message.split_once(before)?;
    let (name, rest) = rest.split_once(after)?;
    Some((name.to_string(), rest.trim().to_string()))
}

/// Sets who hears of all notices; the first caller wins. A listener must not panic: C code calls it,
/// too. libbpf no longer writes to standard error itself.
pub fn listen(listener: fn(Notice)) {
    let _ = LISTENER.set(listener);
    set_print(Some((PrintLevel::Info, receive)));
}

pub fn say(notice: Notice) {
    if let Some(listener) = LISTENER.get() {
        listener(notice);
    }
}

fn receive(_: PrintLevel, message: String) {
    if let Ok(mut said) = SAID.lock() {
        said.hear(&message);
    }
    say(Notice::Libbpf(message));
}

/// All that was kept, which is then forgotten.
pub fn take_said() -> Said {
    SAID.lock()
        .map(|mut said| take(&mut *said))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libbpf_quotes_is_kept() {
        let mut said = Said::default();
        for message in [
            "libbpf: map 'egress': failed to create: -EINVAL\n",
            "libbpf: prog 'xdpredir': BPF program load failed: -EACCES\n",
            "libbpf: prog 'xdpredir': -- BEGIN PROG LOAD LOG --\n0: R1=ctx() R10=fp0\n-- END PROG LOAD LOG --\n",
            "libbpf: Kernel error message: Peer MTU is too large to set XDP\n",
            "libbpf: prog 'xdpredir': failed to load: -EACCES\n",
        ] {
            said.hear(message);
        }
        assert_eq!(said.map.as_deref(), Some("egress"));
        let program = ("xdpredir".to_string(), "-EACCES".to_string());
        assert_eq!(said.program, Some(program));
        assert!(said.verifier.unwrap().contains("R10=fp0"));
        let netlink = said.netlink.as_deref();
        assert_eq!(netlink, Some("Peer MTU is too large to set XDP"));
    }
}
