//! Interfaces, their policies and the rules change at one instant.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::lan::{ANYWHERE, Lan, mac, receive, socket};
use crate::fixture::{Pins, Run, Tool, kill};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How often the states of a test take turns under traffic.
const ROUNDS: usize = 6;

/// Of the changes of a run so many are at its end, where what was prepared takes place.
const LAST: usize = 12;

/// Files that say what there is to be.
struct Files {
    lan: Lan,
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Files {
            lan: Lan::new(false, 1),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    /// The command line that makes a state of interfaces, each with its policy, and of rules.
    fn state(&self, name: &str, interfaces: &[(&str, &str)], rules: &str) -> String {
        let interfaces = interfaces.iter().map(|(name, policy)| {
            format!(
                "[[interface]]\nname = \"{name}\"\nmode = \"skb\"\npolicy = \"{policy}\"\nledger = false\n"
            )
        });
        self.file(name, &(interfaces.collect::<String>() + rules))
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).expect("it is written");
        format!("apply {}", path.display())
    }

    /// A rule that leads to the server, with more words.
    fn rule(&self, more: &str) -> String {
        let mac = mac(&self.lan.servers[0], "eth0");
        format!(
            "[[rule]]\nport = 7999\n{more}[[rule.backend]]\nserver = \"172.17.0.2\"\n\
             mac = \"{mac}\"\ndevice = \"wan0\"\n"
        )
    }

    /// What the rule does not take is dropped by the policy that comes and goes with it.
    fn redirected(&self) -> String {
        let rule = self.rule("reply = \"none\"\n");
        self.state("redirected", &[("lan", "drop")], &rule)
    }

    fn passed(&self) -> String {
        self.state("passed", &[("lan", "pass"), ("wan0", "drop")], "")
    }

    fn nothing(&self) -> String {
        self.file("nothing", "interface = []\n")
    }

    fn ok(&self, words: &str) -> Run {
        self.lan.tool().ok(words)
    }

    /// Whether all is as `apply` would make it.
    fn is(&self, apply: &str) -> bool {
        let run = self.lan.tool().run(&apply.replacen("apply", "diff", 1));
        assert!([0, 7].contains(&run.code), "{run:?}");
        run.code == 0
    }

    fn names(&self) -> Vec<Value> {
        let status = self.lan.tool().json("status");
        let all = status["interfaces"].as_array().expect("interfaces");
        all.iter().map(|i| i["ifname"].clone()).collect()
    }

    fn has_program(&self, device: &str) -> bool {
        let link = self.lan.host.ip(&format!("link show {device}"));
        link.contains("prog/xdp")
    }

    /// Nothing is left of anything.
    fn is_clear(&self) -> bool {
        let programs = ["lan", "wan0"].map(|device| self.has_program(device));
        programs == [false, false] && self.lan.pins.left() == Vec::<PathBuf>::new()
    }

    fn hello(&self, server: &UdpSocket) {
        let vm = self.lan.vm_socket();
        vm.send_to(b"hello", ANYWHERE).expect("it is sent");
        assert_eq!(receive(server).0, "hello");
    }
}

/// So many datagrams are on their way at once: no queue overflows.
const WINDOW: u64 = 32;

/// Sends datagrams while something is done. How many were sent, and how many came.
fn under_traffic(from: &UdpSocket, to: &[UdpSocket], work: impl FnOnce()) -> (u64, u64) {
    let [ended, stopped] = [false; 2].map(AtomicBool::new);
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        for socket in to {
            let wait = Some(Duration::from_millis(20));
            socket.set_read_timeout(wait).expect("a timeout");
            scope.spawn(|| {
                let mut buffer = [0; 64];
                while !ended.load(Ordering::Relaxed) {
                    if socket.recv(&mut buffer).is_ok() {
                        received.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                if sent - received.load(Ordering::Relaxed) < WINDOW {
                    from.send_to(b"hello", ANYWHERE).expect("it is sent");
                    sent += 1;
                }
                thread::yield_now();
            }
            sent
        });
        work();
        stopped.store(true, Ordering::Relaxed);
        let sent = sender.join().expect("it sends");
        // What is lost does not come at all.
        for _ in 0..100 {
            if received.load(Ordering::Relaxed) < sent {
                thread::sleep(Duration::from_millis(10));
            }
        }
        ended.store(true, Ordering::Relaxed);
        (sent, received.load(Ordering::Relaxed))
    })
}

/// A datagram that meets the policy without the rule is lost.
#[test]
fn no_packet_meets_the_rules_of_one_state_and_the_interfaces_of_another() {
    let files = Files::new();
    let lan = &files.lan;
    lan.host.ip("addr add 11.22.33.44/32 dev lo");
    let (vm, to) = (
        lan.vm_socket(),
        [socket(&lan.host, "0.0.0.0:7999"), lan.server_socket(0)],
    );
    let redirected = files.redirected();
    let states = [&redirected, &files.passed(), &redirected, &files.nothing()];
    let (sent, received) = under_traffic(&vm, &to, || {
        for state in [states; ROUNDS].as_flattened() {
            files.ok(state);
        }
    });
    assert!(sent > 1000, "{sent} packets test too little");
    assert_eq!(received, sent);
    assert!(files.is_clear());
}

#[test]
fn an_apply_of_interfaces_and_rules_killed_at_any_instant_leaves_the_old_state_or_the_new() {
    let files = Files::new();
    let tool = files.lan.tool();
    let (redirected, passed) = (files.redirected(), files.passed());
    files.ok(&redirected);
    for [old, new] in [[&redirected, &passed], [&passed, &redirected]] {
        let changes = kill::count_changes(&mut tool.command(new));
        files.ok(old);
        let mut waiting = 0;
        for n in kill::mostly_the_last(changes, LAST) {
            let killed = kill::before_change(&mut tool.command(new), n);
            if !killed || !files.is(old) {
                assert!(files.is(new), "{n} of {changes} changes of {new}");
                files.ok(old);
            } else if files.names().len() == 1 {
                waiting += usize::from(files.has_program("wan0"));
            }
        }
        files.ok(new);
        let is_attached = new == &passed;
        assert_eq!(waiting > 0, is_attached, "wan0 waits, and lan does not");
    }
    files.ok(&files.nothing());
    assert!(files.is_clear());
}

#[test]
fn files_that_are_applied_while_others_detach_everything_are_applied_whole() {
    let files = &Files::new();
    let (redirected, passed) = (&files.redirected(), &files.passed());
    for _ in 0..6 {
        let words = [redirected.as_str(), "detach --all", passed];
        let runs = words.map(|words| (words, files.lan.tool().spawn(words)));
        for (words, run) in runs {
            let run = Run::from(run.wait_with_output().expect("it ends"));
            assert!(run.code == 0 || words == "detach --all", "{run:?}");
            assert!([0, 3].contains(&run.code), "{run:?}");
        }
        let left = files.lan.pins.left().is_empty();
        assert!(left || files.is(redirected) || files.is(passed));
    }
    files.lan.tool().run("detach --all");
    assert!(files.is_clear());
}

#[test]
fn what_a_file_makes_of_interfaces_is_seen_with_its_rules() {
    let files = Files::new();
    let tool = files.lan.tool();
    let rule = files.rule("reply = \"none\"\n");
    let server = files.lan.server_socket(0);
    files.ok(&files.state("both", &[("lan", "pass"), ("wan0", "drop")], &rule));
    assert_eq!(files.names(), ["lan", "wan0"]);
    files.hello(&server);

    let one = files.redirected();
    files.ok(&one);
    assert_eq!(files.names(), ["lan"]);
    assert!(!files.has_program("wan0"));
    assert_eq!(tool.json("policy lan")["policy"], "drop");
    files.hello(&server);
    assert_eq!(files.lan.forwarded(0).0, 2, "what stays keeps its counter");

    // A ledger comes and goes without a frame that the program does not see.
    let with = std::fs::read_to_string(files.directory.path().join("redirected.toml"));
    let with = with
        .expect("the file")
        .replace("ledger = false", "ledger = true");
    let with = files.file("with", &with);
    for (words, state) in [(&with, "on"), (&one, "unwanted"), (&with, "on")] {
        files.ok(words);
        assert_eq!(tool.json("status")["interfaces"][0]["ledger"], state);
        files.hello(&server);
    }
    assert_eq!(files.lan.forwarded(0).0, 5);
    files.ok("detach --all");
    assert!(files.is_clear());
}

/// The programs are attached by the time at which the rules are refused.
#[test]
fn a_file_that_is_refused_late_leaves_everything_as_it_was() {
    let files = Files::new();
    let tool = files.lan.tool();
    // Answers arrive at wan0, where somebody else's program is.
    let others = Pins::new();
    let other = Tool {
        ns: &files.lan.host,
        pins: &others,
    };
    other.ok("attach wan0 --mode skb");
    let file = files.state(
        "refused",
        &[("lan", "drop")],
        &files.rule("reply = \"nat\"\n"),
    );
    tool.run(&file)
        .fails(4, &["answers arrive at wan0, unseen"]);
    assert!(!files.has_program("lan"));
    assert!(files.lan.pins.left().is_empty());

    tool.ok("attach lan");
    files.lan.add_backend(0, "--port 1 --reply none");
    let before = [tool.json("status"), tool.json("rule list")];
    tool.run(&file)
        .fails(4, &["answers arrive at wan0, unseen"]);
    assert_eq!([tool.json("status"), tool.json("rule list")], before);
    tool.ok("detach --all");
    other.ok("detach --all");
    assert!(files.is_clear());
}

/// A run that was killed may leave a program that does nothing yet. Rules that change meanwhile do not wake it.
#[test]
fn a_program_that_waits_for_a_change_that_never_came_does_nothing_and_goes() {
    let files = Files::new();
    let (lan, tool) = (&files.lan, files.lan.tool());
    tool.ok("attach wan0 --no-ledger");
    // Which would take the packet.
    lan.add_backend(0, "");
    let (vm, host) = (lan.vm_socket(), socket(&lan.host, "192.168.122.1:7999"));
    let passes = |when: &str| {
        vm.send_to(when.as_bytes(), "192.168.122.1:7999").unwrap();
        assert_eq!(receive(&host).0, when);
    };
    let mut waiting = 0;
    let words = "attach lan --policy drop --no-ledger";
    let changes = kill::count_changes(&mut tool.command(words));
    tool.ok("detach lan");
    for n in kill::mostly_the_last(changes, LAST) {
        let killed = kill::before_change(&mut tool.command(words), n);
        if !killed || files.names() != [json!("wan0")] {
            tool.ok("detach lan");
        } else if files.has_program("lan") {
            waiting += 1;
            passes("it waits");
            if waiting % 4 == 1 {
                lan.add_backend(0, "--port 1");
                passes("rules have changed");
                tool.ok("rule del --port 1");
            }
        }
    }
    assert!(waiting > 0, "no run was killed when its program was there");
    tool.ok("detach --all");
    assert!(files.is_clear());
}
