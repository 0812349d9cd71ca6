//! The bed in a tmux session: a pane for the shell of this host, and one for each host of the bed.
//! The session has a tmux server of its own, so that sessions of others are neither seen nor ended.

use std::convert::Infallible;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{IsTerminal, stdin, stdout};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::{Lab, commands};

/// A fixed path, because `lab down` may run with another TMUX_TMPDIR than `lab tmux`.
const SOCKET: &str = "/run/xdpredir-lab.tmux";
const SESSION: &str = "xdpredir";
/// What the session's current window is called in commands.
const WINDOW: &str = "xdpredir:";
/// The pane of this host's shell, by the name that is above it.
const HERE: &str = "$";
/// The pane's option that holds its name. Programs in the pane can change its title.
const NAME: &str = "@xdpredir-host";
const BORDER: &str = " #{@xdpredir-host} ";

/// A tmux session with a pane for this host's shell, and one for each host of the bed.
#[derive(Serialize)]
pub struct Session {
    socket: &'static str,
    session: &'static str,
    panes: Vec<&'static str>,
}

impl Session {
    /// Whether there is a terminal to attach, other than one of the session's own.
    pub fn can_attach(&self) -> bool {
        let around = env::var("TMUX").unwrap_or_default();
        let is_inside = around.split(',').next() == Some(SOCKET);
        stdin().is_terminal() && stdout().is_terminal() && !is_inside
    }

    /// Becomes tmux, attached to the session.
    pub fn attach(&self) -> Result<Infallible> {
        let error = tmux(&["attach-session", "-t", WINDOW]).exec();
        Err(error).context("cannot run tmux")
    }

    /// For people.
    pub fn text(&self) -> String {
        format!(
            "the tmux session {SESSION} is there, with the panes {}: \
             `xdpredir lab tmux` on a terminal attaches to it",
            self.panes.join(", ")
        )
    }
}

/// Makes the session, or the panes that are missing in it.
pub fn open(hosts: &[&'static str]) -> Result<Session> {
    if !is_there() {
        start()?;
    }
    let there = commands::ask(tmux(&["list-panes", "-s", "-t", WINDOW, "-F", BORDER]))?;
    let is_there = |pane: &str| there.lines().any(|name| name.trim() == pane);
    let panes = [&[HERE], hosts].concat();
    for pane in panes.iter().filter(|pane| !is_there(pane)) {
        add(pane)?;
    }
    Ok(Session {
        socket: SOCKET,
        session: SESSION,
        panes,
    })
}

/// Ends the session, if there is one. This process ends with it if it runs in the session, so that
/// nothing can be done after this.
pub fn end(lab: &Lab) -> Result<()> {
    if !Path::new(SOCKET).exists() {
        return Ok(());
    }
    if is_there() {
        // tmux itself leaves its socket behind. Clients of a killed server would fail.
        let remove = format!("rm -f {SOCKET}");
        let steps: [&[&str]; 3] = [
            &["run-shell", &remove],
            &["kill-session", "-a", "-t", WINDOW],
            &["kill-session", "-t", WINDOW],
        ];
        return lab.run(tmux(&steps.join(&";")));
    }
    fs::remove_file(SOCKET).with_context(|| format!("cannot remove {SOCKET}"))
}

fn is_there() -> bool {
    commands::ask(tmux(&["has-session", "-t", WINDOW])).is_ok()
}

fn start() -> Result<()> {
    let shell = shell().to_string_lossy().into_owned();
    let mut words = vec!["new-session", "-d", "-s", SESSION, "--", "env", &shell];
    for (option, value) in [
        ("main-pane-width", "50%"),
        ("pane-border-status", "top"),
        ("pane-border-format", BORDER),
    ] {
        words.extend([";", "set-option", "-w", "-t", WINDOW, option, value]);
    }
    commands::ask(tmux(&words))?;
    name(HERE)
}

/// The first pane on the left, all others below each other on the right.
fn add(pane: &str) -> Result<()> {
    let mut split = tmux(&["split-window"]);
    if pane == HERE {
        split.args(["-b", "-t", "xdpredir:.{top-left}", "--", "env"]);
        split.arg(shell());
    } else {
        split.args(["-t", "xdpredir:.{bottom-right}", "--"]);
        split.args(shell_in(pane)?);
    }
    commands::ask(split)?;
    name(pane)?;
    commands::ask(tmux(&["select-layout", "-t", WINDOW, "main-vertical"]))?;
    commands::ask(tmux(&["select-pane", "-t", "xdpredir:.{top-left}"]))?;
    Ok(())
}

/// Names the pane that is active, as the one that was made last is.
fn name(pane: &str) -> Result<()> {
    let steps: [&[&str]; 2] = [
        &["set-option", "-p", "-t", WINDOW, NAME, pane],
        &["select-pane", "-t", WINDOW, "-T", pane],
    ];
    commands::ask(tmux(&steps.join(&";")))?;
    Ok(())
}

/// The user's shell. It is run by `env`, because tmux would make it a login shell, with another PATH.
fn shell() -> OsString {
    env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())
}

/// The same as `lab exec` runs it in the host.
fn shell_in(host: &str) -> Result<[OsString; 6]> {
    let own = env::current_exe().context("cannot find out the path of this program")?;
    let [lab, exec, dashes] = ["lab", "exec", "--"].map(OsString::from);
    Ok([own.into(), lab, exec, host.into(), dashes, shell()])
}

fn tmux(words: &[&str]) -> Command {
    let mut command = Command::new("tmux");
    command.args(["-S", SOCKET]).args(words);
    command
}
