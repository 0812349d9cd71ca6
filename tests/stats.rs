//! Statistics: their shape, repeated output, and how it ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::fixture::lan::{ANYWHERE, Lan, receive};
use crate::fixture::terminal::{Terminal, environment};
use crate::fixture::{Ns, Pins, Tool};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

struct Bed {
    ns: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Self {
        let bed = Bed {
            ns: Ns::new("host"),
            pins: Pins::new(),
        };
        bed.ns.ip("link add v0 type veth peer name v1");
        bed.tool().ok("attach v0 v1");
        bed.tool()
            .ok("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v1");
        bed
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }
}

fn keys(value: &Value) -> BTreeSet<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

fn assert_shape(stats: &Value) {
    assert_eq!(
        keys(stats),
        BTreeSet::from([
            "timestamp",
            "interfaces",
            "egress",
            "unattributed",
            "connections",
            "rules"
        ])
    );
    let timestamp = stats["timestamp"].as_str().unwrap();
    assert!(
        timestamp.contains('T') && timestamp.ends_with('Z'),
        "{timestamp}"
    );
    for interface in stats["interfaces"].as_array().unwrap() {
        assert_eq!(
            keys(interface),
            BTreeSet::from([
                "ifname",
                "ifindex",
                "mode",
                "purpose",
                "actions",
                "outcomes",
                "chain",
                "not_reached"
            ])
        );
        let actions = &interface["actions"];
        assert_eq!(
            keys(actions),
            BTreeSet::from(["aborted", "drop", "pass", "tx", "redirect"])
        );
        for action in actions.as_object().unwrap().values() {
            assert_eq!(keys(action), BTreeSet::from(["packets", "bytes"]));
        }
    }
}

fn interrupt(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).expect("it still runs");
}

/// The end of a run, which is killed after ten seconds.
fn end(child: &mut Child) -> ExitStatus {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if Instant::now() > give_up {
            child.kill().expect("it still runs");
            child.wait().expect("it was killed");
            panic!("the run does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn stats_have_the_shape_of_the_design() {
    let bed = Bed::new();
    let stats = bed.tool().json("stats");
    assert_shape(&stats);
    assert_eq!(stats["interfaces"].as_array().unwrap().len(), 2);
    assert_eq!(stats["interfaces"][0]["mode"], "skb");
    assert_eq!(stats["rules"], bed.tool().json("rule list"));
}

#[test]
fn stats_for_people_name_every_interface_action_and_backend() {
    let bed = Bed::new();
    let out = bed.tool().ok("stats").out;
    for word in [
        "v0", "v1", "redirect", "pass", "drop", "tx", "aborted", "10.1.1.1",
    ] {
        assert!(out.contains(word), "{word}: {out}");
    }
    assert!(!out.contains('\x1b'), "{out:?}");
}

/// Sends a datagram from each CPU that this test may run on, and returns their numbers.
fn send_from_each_cpu(socket: &UdpSocket) -> Vec<u64> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("a set of CPUs");
    let cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap());
    let cpus: Vec<usize> = cpus.collect();
    for &cpu in &cpus {
        let mut only = CpuSet::new();
        only.set(cpu).expect("it is in the set");
        sched_setaffinity(this, &only).expect("this thread runs there");
        socket.send_to(b"hello", ANYWHERE).expect("it is sent");
    }
    sched_setaffinity(this, &allowed).expect("this thread runs anywhere");
    cpus.into_iter().map(|cpu| cpu as u64).collect()
}

#[test]
fn stats_per_cpu_say_which_cpu_counted_what_and_add_up() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan --mode skb");
    lan.add_backend(0, "");
    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    // The address of the next hop is asked for first.
    vm.send_to(b"hello", ANYWHERE).unwrap();
    receive(&server);
    let before = tool.json("stats --per-cpu");
    let cpus = send_from_each_cpu(&vm);
    cpus.iter().for_each(|_| drop(receive(&server)));
    let stats = tool.json("stats --per-cpu");
    let redirected = |stats: &Value, cpu: u64| {
        let all = stats["interfaces"][0]["cpus"].as_array().unwrap();
        let of_cpu = all.iter().find(|of| of["cpu"] == cpu);
        let counter = of_cpu.map(|of| of["outcomes"]["redirected"]["packets"].as_u64().unwrap());
        counter.unwrap_or(0)
    };
    for &cpu in &cpus {
        assert_eq!(
            redirected(&stats, cpu),
            redirected(&before, cpu) + 1,
            "{cpu}"
        );
    }
    let interface = &stats["interfaces"][0];
    for key in ["packets", "bytes"] {
        let sum = |of: &dyn Fn(&Value) -> Value, all: &Value| -> u64 {
            let all = all["cpus"].as_array().unwrap().iter();
            all.map(|cpu| of(cpu).as_u64().unwrap()).sum()
        };
        for (action, total) in interface["actions"].as_object().unwrap() {
            let of = |cpu: &Value| cpu["actions"][action][key].clone();
            assert_eq!(
                sum(&of, interface),
                total[key].as_u64().unwrap(),
                "{action}"
            );
        }
        for (outcome, total) in interface["outcomes"].as_object().unwrap() {
            let of = |cpu: &Value| cpu["outcomes"][outcome][key].clone();
            assert_eq!(
                sum(&of, interface),
                total[key].as_u64().unwrap(),
                "{outcome}"
            );
        }
        let row = &stats["rules"][0];
        let total = &row[["forward_packages", "forward_bytes"][usize::from(key == "bytes")]];
        assert_eq!(sum(&|cpu| cpu[key].clone(), row), total.as_u64().unwrap());
    }
    let text = tool.ok("stats --per-cpu").out;
    let redirect = text.lines().find(|line| line.contains(" redirect "));
    assert!(
        redirect.is_some_and(|line| line.contains(" all ")),
        "{text}"
    );
    assert!(!tool.ok("stats").out.contains(" cpu "));
    assert!(tool.json("stats")["rules"][0].get("cpus").is_none());
}

#[test]
fn what_stats_per_cpu_print_of_rules_can_be_loaded() {
    let bed = Bed::new();
    let rows = bed.tool().json("stats --per-cpu")["rules"].to_string();
    assert!(rows.contains("cpus"), "{rows}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rows).unwrap();
    bed.tool()
        .ok(&format!("rule load {}", file.path().display()));
}

#[test]
fn stats_without_rules_or_interfaces_still_print() {
    let bed = Bed::new();
    bed.tool().ok("rule del --all");
    bed.tool().ok("detach --all --keep-rules");
    assert_eq!(bed.tool().json("stats")["interfaces"], json!([]));
    bed.tool().ok("stats");
}

#[test]
fn watched_json_is_one_flushed_object_a_line() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    lan.add_backend(0, "");
    let mut child = tool.spawn("stats --watch 50ms --json");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_shape(&next());
    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    vm.send_to(b"hello", ANYWHERE).unwrap();
    receive(&server);
    // What was being printed when the packet came may be older than it.
    let counted = (0..100).any(|_| next()["rules"][0]["forward_packages"] == 1);
    assert!(counted, "a later line counts the packet");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_watch_follows_rules_and_interfaces_that_come_and_go() {
    let bed = Bed::new();
    let tool = bed.tool();
    let mut child = tool.spawn("stats --watch 20ms --json");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |wanted: (usize, &[&str])| {
        let is_so = lines.by_ref().take(500).any(|line| {
            let stats: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let servers = stats["rules"].as_array().unwrap().iter();
            let servers: Vec<&str> = servers.map(|row| row["server"].as_str().unwrap()).collect();
            (stats["interfaces"].as_array().unwrap().len(), &*servers) == wanted
        });
        assert!(is_so, "{wanted:?}");
    };
    wait_for((2, &["10.1.1.1"]));
    tool.ok("rule add --port 1 --server 10.1.1.2 --mac 02:00:00:00:00:02 --dev v1");
    wait_for((2, &["10.1.1.2", "10.1.1.1"]));
    tool.ok("rule del --server 10.1.1.1");
    wait_for((2, &["10.1.1.2"]));
    tool.ok("detach v0");
    wait_for((1, &["10.1.1.2"]));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn watched_into_a_pipe_is_plain_blocks() {
    let bed = Bed::new();
    let mut child = bed.tool().spawn("stats --watch 100ms");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut text = String::new();
    // Two blocks and the beginning of a third.
    while text.matches("interface ").count() < 3 {
        text += &lines.next().expect("more").expect("a line");
        text.push('\n');
    }
    assert!(!text.contains('\x1b'), "{text:?}");
    assert!(text.contains("packets/s"), "{text}");
    interrupt(&child, Signal::SIGINT);
    assert_eq!(end(&mut child).code(), Some(0));
}

#[test]
fn ctrl_c_and_sigterm_end_a_watch_with_exit_0() {
    let bed = Bed::new();
    for words in ["stats --watch 1h", "stats --watch 1h --json"] {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let mut child = bed.tool().spawn(words);
            // It has begun once it prints.
            let mut byte = [0];
            child
                .stdout
                .as_mut()
                .unwrap()
                .read_exact(&mut byte)
                .unwrap();
            interrupt(&child, signal);
            assert_eq!(end(&mut child).code(), Some(0), "{words} {signal}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_watch_without_a_word() {
    let bed = Bed::new();
    for words in ["stats --watch 20ms", "stats --watch 20ms --json"] {
        let mut child = bed.tool().spawn(words);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty());
        end(&mut child);
        let mut err = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut err)
            .unwrap();
        assert_eq!(err, "", "{words}");
    }
}

#[test]
fn intervals_that_cannot_be_meant_are_refused() {
    let bed = Bed::new();
    for interval in ["0", "1ms", "soon", "-1s", "2days", "500000000000years"] {
        bed.tool()
            .run(&format!("stats --watch {interval}"))
            .fails(2, &["--"]);
    }
}

#[test]
fn a_watch_ends_when_nothing_is_attached_any_more() {
    let bed = Bed::new();
    let mut child = bed.tool().spawn("stats --watch 20ms --json");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    bed.tool().ok("detach --all");
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    assert_eq!(end(&mut child).code(), Some(3));
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert!(
        err.lines().count() == 1 && err.contains("not attached"),
        "{err}"
    );
}

/// Adds what the terminal shows until it has these characters, or for ten seconds.
fn read_until(terminal: &mut File, text: &mut String, wanted: &str) {
    while !text.contains(wanted) {
        let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::from(10_000u16)).expect("poll");
        assert_ne!(ready, 0, "{wanted:?} does not come: {text:?}");
        let mut buffer = [0; 4096];
        let size = terminal.read(&mut buffer).unwrap_or(0);
        assert_ne!(size, 0, "{wanted:?} does not come: {text:?}");
        *text += &String::from_utf8_lossy(&buffer[..size]);
    }
}

#[test]
fn on_a_terminal_a_watch_draws_on_the_other_screen_and_leaves_it() {
    const ENTER: &str = "\x1b[?1049h";
    const LEAVE: &str = "\x1b[?1049l";
    const SHOW_CURSOR: &str = "\x1b[?25h";
    let bed = Bed::new();
    let mut terminal = Terminal::new(80);
    let mut command: Command = bed.tool().command("stats --watch 50ms");
    environment(&mut command, &[("TERM", "xterm")]);
    let mut child = command
        .stdout(terminal.stdio())
        .stderr(terminal.stdio())
        .spawn()
        .expect("it runs");
    // The command's side stays open here, so that the end of the run is no error to read.
    let mut text = String::new();
    read_until(&mut terminal.reader, &mut text, ENTER);
    read_until(&mut terminal.reader, &mut text, "packets/s");
    interrupt(&child, Signal::SIGINT);
    read_until(&mut terminal.reader, &mut text, LEAVE);
    assert!(text.contains(SHOW_CURSOR), "{text:?}");
    // What was last seen stays to be read.
    let mut rest = text.split(LEAVE).nth(1).unwrap().to_string();
    read_until(&mut terminal.reader, &mut rest, "10.1.1.1");
    assert_eq!(end(&mut child).code(), Some(0));
}
