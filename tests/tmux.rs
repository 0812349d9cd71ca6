//! The lab in tmux, by the shipped binary alone. Needs root, and tmux.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fixture::bed::{Lab, exec, lab, namespaces, run, xdpredir};
use crate::fixture::terminal::Terminal;
use crate::fixture::{BINARY, command, eventually};

/// Where `lab tmux` has its server.
const SOCKET: &str = "/run/xdpredir-lab.tmux";

/// `lab tmux`, whose shells read no files of the user's.
fn lab_tmux(args: &[&str]) -> Command {
    let mut command = xdpredir(&["lab", "tmux"]);
    command
        .args(args)
        .env("HOME", "/nonexistent")
        .env("SHELL", "/bin/bash");
    command
}

fn open_tmux() -> Value {
    run(&mut lab_tmux(&["--json"])).ok().json()
}

fn tmux(args: &[&str]) -> String {
    command("tmux", &[&["-S", SOCKET], args].concat())
}

/// The panes of the session: each one's name, process and number of the column at its left.
fn panes() -> Vec<(String, u32, u32)> {
    let format = "#{@xdpredir-host} #{pane_pid} #{pane_left}";
    let list = tmux(&["list-panes", "-s", "-F", format]);
    let pane = |line: &str| {
        let mut words = line.split(' ').map(String::from);
        let mut next = || words.next().expect("a word");
        let name = next();
        let mut number = || next().parse().expect("a number");
        (name, number(), number())
    };
    list.lines().map(pane).collect()
}

fn pane_names() -> Vec<String> {
    panes().into_iter().map(|(name, ..)| name).collect()
}

/// Types a command into a pane.
fn type_into(pane: &str, words: &str) {
    let format = "#{@xdpredir-host} #{pane_id}";
    let list = tmux(&["list-panes", "-s", "-F", format]);
    let found = list.lines().find_map(|line| {
        let (name, id) = line.split_once(' ')?;
        (name == pane).then_some(id)
    });
    tmux(&["send-keys", "-t", found.expect("a pane"), words, "Enter"]);
}

fn identity(path: &str) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

#[test]
fn in_tmux_this_host_and_each_host_of_the_bed_have_a_pane() {
    let _lab = Lab::with("gateway");
    let said = run(&mut lab_tmux(&[])).ok().out;
    assert!(said.contains("`xdpredir lab tmux` on a terminal"), "{said}");
    let hosts = ["$", "host", "xdp", "client", "server", "internet"];
    assert_eq!(pane_names(), hosts);
    for (name, process, left) in panes() {
        assert_eq!(left == 0, name == "$", "{name}");
        let namespace = match name.as_str() {
            "$" => "/proc/self/ns/net".to_string(),
            host => format!("/run/netns/xdpredir-{host}"),
        };
        eventually(&format!("{name} is in its namespace"), || {
            identity(&format!("/proc/{process}/ns/net")) == identity(&namespace)
        });
    }
    let border = tmux(&["show-options", "-w", "-v", "pane-border-status"]);
    assert_eq!(border.trim(), "top");
}

#[test]
fn a_second_tmux_finds_the_session_and_opens_the_panes_that_were_closed() {
    let _lab = Lab::with("pair");
    let first = open_tmux();
    let whole = json!({"socket": SOCKET, "session": "xdpredir", "panes": ["$", "host", "xdp"]});
    assert_eq!(first, whole);
    let before = panes();
    assert_eq!(open_tmux(), whole);
    assert_eq!(panes(), before);
    for closed in ["host", "$"] {
        type_into(closed, "exit");
        eventually("the pane is closed", || panes().len() == 2);
        assert_eq!(open_tmux(), whole);
        assert_eq!(panes().len(), 3);
        let left = |(name, _, left): (String, _, u32)| (left == 0).then_some(name);
        let left: Vec<_> = panes().into_iter().filter_map(left).collect();
        assert_eq!(left, ["$"], "{closed} was closed");
    }
}

#[test]
fn on_a_terminal_tmux_attaches_and_down_ends_it() {
    let _lab = Lab::with("pair");
    let mut attached: Vec<_> = (1..=2)
        .map(|number| {
            let terminal = Terminal::new(100);
            let child = lab_tmux(&[])
                .env("TERM", "xterm")
                .env_remove("TMUX")
                .stdin(terminal.stdio())
                .stdout(terminal.stdio())
                .stderr(terminal.stdio())
                .spawn()
                .expect("it can be started");
            eventually("it attaches", || {
                let clients = Command::new("tmux")
                    .args(["-S", SOCKET, "list-clients"])
                    .output()
                    .expect("tmux can be run");
                clients.stdout.split(|&byte| byte == b'\n').count() == number + 1
            });
            (terminal, child)
        })
        .collect();
    assert_eq!(panes().len(), 3);
    lab(&["down"]).ok();
    for (_, child) in &mut attached {
        let mut ended = None;
        eventually("it ends", || {
            ended = child.try_wait().expect("it is our child");
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
    assert!(!Path::new(SOCKET).exists());
}

#[test]
fn down_ends_the_shells_in_tmux_without_force() {
    let _lab = Lab::with("pair");
    open_tmux();
    let marks = tempfile::tempdir().expect("a directory can be made");
    for host in ["host", "xdp"] {
        let mark = marks.path().join(host);
        type_into(host, &format!("touch {}", mark.display()));
        eventually("the shell reads commands", || mark.exists());
    }
    let said = lab(&["down"]).ok().out;
    assert!(!said.contains("kill -KILL"), "{said}");
    assert!(said.contains("kill-session"), "{said}");
    assert!(!Path::new(SOCKET).exists());
}

#[test]
fn down_can_be_typed_in_tmux_at_this_hosts_shell_alone() {
    let _lab = Lab::with("pair");
    exec("xdp", &[BINARY, "lab", "tmux"]).fails(4, &["inside the lab's xdp"]);
    open_tmux();
    type_into("$", &format!("{BINARY} lab down"));
    eventually("the lab is down", || namespaces().is_empty());
    eventually("the session is ended", || !Path::new(SOCKET).exists());
    lab(&["tmux"]).fails(3, &["run `xdpredir lab up`"]);
}

#[test]
fn what_a_killed_tmux_left_is_no_obstacle() {
    let _lab = Lab::with("pair");
    open_tmux();
    tmux(&["kill-server"]);
    assert!(Path::new(SOCKET).exists(), "tmux removes it by itself");
    open_tmux();
    assert_eq!(pane_names(), ["$", "host", "xdp"]);
    tmux(&["kill-server"]);
    lab(&["down"]).ok();
    assert!(!Path::new(SOCKET).exists());
}

#[test]
fn without_tmux_its_package_is_named() {
    let _lab = Lab::with("pair");
    let empty = tempfile::tempdir().expect("a directory can be made");
    run(xdpredir(&["lab", "tmux"]).env("PATH", empty.path())).fails(1, &["`tmux`", "package tmux"]);
}
