//! Runs commands, and shows them.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};

use super::Lab;
use crate::error::{Exit, failure, join_lines};
use crate::view::remedy::quoted;

/// The programs that beds are made and shown with, and the Debian packages that have them.
const PACKAGES: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("nft", "nftables"),
    ("tmux", "tmux"),
];

impl Lab<'_> {
    pub(super) fn say(&self, line: &str) {
        (self.say)(line);
    }

    /// Shows the command, runs it, and passes its output on; its failure is an error.
    pub(super) fn run(&self, command: Command) -> Result<()> {
        self.run_unless(command, None)
    }

    /// The same, but an exit code that says that there was nothing to do is no failure.
    pub(super) fn run_unless(&self, mut command: Command, idle: Option<i32>) -> Result<()> {
        self.say(&format!("+ {}", line(&command)));
        let output = output(&mut command)?;
        if idle.is_some() && output.status.code() == idle {
            return Ok(());
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        printed.lines().for_each(|line| self.say(line));
        check(&command, &output)
    }
}

/// What a command prints. Neither is shown.
pub fn ask(mut command: Command) -> Result<String> {
    let output = output(&mut command)?;
    check(&command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Fails, naming the package, for the first of the programs that isn't there.
pub fn require(programs: &[&str]) -> Result<()> {
    match programs.iter().find(|program| !is_on_path(program)) {
        None => Ok(()),
        Some(missing) => Err(failure(Exit::Failed, missing_program(missing))),
    }
}

fn missing_program(program: &str) -> String {
    let package = PACKAGES.iter().find(|(name, _)| *name == program);
    match package {
        Some((_, package)) => {
            format!("`{program}` is not on the PATH: install it (Debian: package {package})")
        }
        None => format!("`{program}` is not on the PATH"),
    }
}

fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", line(command)))
}

fn check(command: &Command, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let stderr = join_lines(&String::from_utf8_lossy(&output.stderr));
    let why = if stderr.is_empty() {
        output.status.to_string()
    } else {
        stderr
    };
    Err(failure(
        Exit::Failed,
        format!("`{}` failed: {why}", line(command)),
    ))
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let arguments = command.get_args().map(OsStr::to_os_string);
    quoted(std::iter::once(command.get_program().to_os_string()).chain(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_one_would_type_it() {
        let mut command = Command::new("ip");
        command.args(["link", "set", "lo", "alias", "don't panic"]);
        assert_eq!(line(&command), r"ip link set lo alias 'don'\''t panic'");
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        assert!(missing_program("nft").contains("package nftables"));
    }
}
