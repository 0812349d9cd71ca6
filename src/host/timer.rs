//! Commands that systemd runs later, so that no process has to wait for that.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::error::{Exit, failure, join_lines};

/// Is there where systemd is the first process: see sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Why systemd runs nothing later; None where it does.
pub fn refusal() -> Option<&'static str> {
    (!Path::new(BOOTED).is_dir())
        .then_some("this host does not run systemd, whose timers that takes")
}

/// Has systemd run a command once this time has passed, and again as long as it fails.
pub fn run_after(unit: &str, within: Duration, argv: &[OsString]) -> Result<()> {
    let mut command = Command::new("systemd-run");
    command
        .args(["--quiet", "--collect", "--unit", unit])
        .arg(format!("--on-active={}ms", within.as_millis()))
        .arg("--timer-property=AccuracySec=100ms")
        .args(["--property=Type=oneshot", "--property=Restart=on-failure"])
        .args(["--property=RestartSec=5s", "--"])
        .args(argv.iter().map(|word| literal(word)));
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => failure(Exit::Unsupported, "systemd-run is not installed"),
        _ => anyhow::Error::from(error).context("cannot run systemd-run"),
    })?;
    if !output.status.success() {
        let words = join_lines(&String::from_utf8_lossy(&output.stderr));
        bail!("cannot start a timer: systemd-run says: {words}");
    }
    Ok(())
}

/// A word in which systemd finds no variable.
fn literal(word: &OsStr) -> OsString {
    let dollars = word.as_bytes().iter().flat_map(|byte| match byte {
        b'$' => &b"$$"[..],
        other => std::slice::from_ref(other),
    });
    OsString::from_vec(dollars.copied().collect())
}

/// Whether the first process sees the same file under a path.
pub fn sees(path: &Path) -> Result<bool> {
    let relative = path.strip_prefix("/").context("not an absolute path")?;
    let there = Path::new("/proc/1/root").join(relative);
    Ok(super::mounts::is_same_file(path, &there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_is_expanded() {
        assert_eq!(literal(OsStr::new("/a/$HOME/${x}")), "/a/$$HOME/$${x}");
        assert_eq!(literal(OsStr::new("plain")), "plain");
    }
}
