//! The program joins libxdp's dispatcher, which a real xdp-loader has made, and others go on changing that. It needs a
//! kernel with freplace, and libxdp's pins are the machine's: the guests of `make test` and `make kernels` run it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use crate::chain::bed::Bed;
use crate::fixture::foreign::of_xdp_tools;
use crate::fixture::{Run, chmod, eventually, guest};
use serde_json::Value;

/// The port that somebody's filter drops.
const FILTERED: u16 = 7001;

/// `lan` with a filter of somebody else, with priority 10 in libxdp's dispatcher.
struct Host(Bed);

impl Host {
    fn new(mode: &str) -> Self {
        assert!(guest::in_guest(), "libxdp's pins are the machine's");
        // Since then, stable kernels want of a function what they want of the program that takes its place.
        if guest::is_kernel(6, 2) && libxdp() < [1, 5, 5] {
            guest::not_applicable(
                "this kernel lets few programs into dispatchers of libxdp before 1.5.5",
            );
        }
        let host = Host(Bed::without_rules());
        host.exec(&format!("xdp-filter load lan --mode {mode} --features udp"));
        host.exec(&format!(
            "xdp-filter port {FILTERED} --mode dst --proto udp"
        ));
        assert_eq!(host.programs(), ["xdpfilt_alw_udp"]);
        host
    }

    fn exec(&self, words: &str) -> String {
        self.0.lan.host.exec(words)
    }

    fn attach(&self, words: &str) -> String {
        let out = self.0.tool().ok(&format!("attach lan {words}")).out;
        if self.0.tool().json("status")["rules"] == 0 {
            self.0.add_rule();
        }
        out
    }

    /// What the dispatcher calls, in its order, as xdp-loader says it.
    fn programs(&self) -> Vec<String> {
        let said = self.exec("xdp-loader status lan");
        let all = said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("=>"));
        all.map(|line| line.split_whitespace().nth(1).expect("a name").into())
            .collect()
    }

    fn status(&self) -> Value {
        self.0.tool().json("status")["interfaces"][0].clone()
    }

    /// Loads another program of somebody, which passes all; its number.
    fn load(&self, priority: u32) -> String {
        let object = of_xdp_tools("xdpfilt_alw_all.o");
        let mode = self.status()["mode"].as_str().expect("a mode").to_string();
        let object = object.display();
        self.exec(&format!(
            "xdp-loader load --mode {mode} --prio {priority} lan {object}"
        ));
        let said = self.exec("xdp-loader status lan");
        let line = said.lines().find(|line| line.contains("xdpfilt_alw_all"));
        let mut words = line.expect("it is loaded").split_whitespace();
        words.nth(3).expect("a number").into()
    }
}

impl Drop for Host {
    /// What is pinned outlives the namespace.
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all("/sys/fs/bpf/xdp-filter");
        let _ = std::fs::remove_dir_all("/sys/fs/bpf/xdp");
    }
}

/// The version of libxdp.
fn libxdp() -> [u32; 3] {
    // It exits with 1.
    let said = Command::new("xdp-loader")
        .args(["load", "--version"])
        .output();
    let said = String::from_utf8(said.expect("it runs").stdout).expect("text");
    let version = said.split_whitespace().nth(2).expect("a version");
    let mut numbers = version.split('.').map(|number| number.parse());
    std::array::from_fn(|_| numbers.next().and_then(Result::ok).expect("a number"))
}

#[test]
#[ignore = "wants a guest whose kernel has freplace"]
fn ours_runs_where_its_priority_says_and_leaves_the_others() {
    let host = Host::new("skb");
    let bed = &host.0;
    let run = bed.tool().run("attach lan --mode native");
    run.fails(4, &["xdp_dispatcher", "that mode"]);

    let out = host.attach("");
    let said = "in skb mode (in libxdp's dispatcher, with priority 50)";
    assert!(out.contains(said), "{out}");
    assert!(out.contains("no ledger of lost frames"), "{out}");
    assert_eq!(host.programs(), ["xdpfilt_alw_udp", "xdpredir_join"]);
    assert_eq!(bed.dropped(&[FILTERED, 7002]), [FILTERED]);
    let status = host.status();
    assert_eq!(status["priority"], 50);
    assert_eq!(status["link_id"], Value::Null);
    assert_eq!(status["state"], "attached");
    let text = bed.tool().ok("status").out;
    assert!(
        text.contains("lan: in libxdp's dispatcher, with priority 50"),
        "{text}"
    );
    bed.tool().ok("attach lan");
    bed.tool()
        .run("attach lan --priority 5")
        .fails(4, &["priority 5", "detach lan"]);
    let pin = bed.pin(7002);
    bed.tool()
        .run(&format!("chain add lan {pin}"))
        .fails(6, &["libxdp's dispatcher", "xdp-loader"]);
    bed.tool().ok("detach lan --keep-rules");
    assert_eq!(host.programs(), ["xdpfilt_alw_udp"]);

    // What ours redirects does not come to the filter.
    host.attach("--priority 5 --no-ledger");
    assert_eq!(host.programs(), ["xdpredir_join", "xdpfilt_alw_udp"]);
    assert_eq!(bed.dropped(&[FILTERED]), [0u16; 0]);

    // Alone, and then taken away by somebody.
    host.exec("xdp-filter unload lan");
    assert_eq!(host.status()["priority"], 5);
    assert_eq!(bed.dropped(&[FILTERED]), [0u16; 0]);
    host.exec("xdp-loader unload lan --all");
    assert_eq!(host.status()["state"], "detached");
    bed.tool().ok("detach lan");
    bed.tool()
        .run("attach lan --priority 5")
        .fails(3, &["none calls ours there"]);
    let left = bed.lan.pins.left();
    assert_eq!(left, [Path::new(&pin)]);
}

#[test]
#[ignore = "wants a guest whose kernel has freplace"]
fn no_packet_is_lost_while_others_or_we_change_what_the_dispatcher_calls() {
    let host = Host::new("native");
    let bed = &host.0;
    host.attach("--no-ledger");
    // Another program of ours takes the place of the one.
    let file = tempfile::NamedTempFile::new().expect("a file");
    let rules = bed.tool().ok("export").out;
    let with_ledger = rules.replace("ledger = false", "ledger = true");
    assert_ne!(rules, with_ledger);
    std::fs::write(&file, with_ledger).expect("it is written");
    let before = host.status()["program_id"].clone();
    bed.under_traffic(FILTERED, || {
        let number = host.load(60);
        assert_eq!(
            host.programs(),
            ["xdpfilt_alw_udp", "xdpredir_join", "xdpfilt_alw_all"]
        );
        bed.tool().ok(&format!("apply {}", file.path().display()));
        host.exec(&format!("xdp-loader unload lan --id {number}"));
    });
    let status = host.status();
    assert_ne!(status["program_id"], before);
    assert_eq!(status["ledger"], "unavailable");
    assert_eq!(status["priority"], 50);

    // A stand-in takes the program's place while packets are captured.
    let mut capture = bed.tool().spawn("capture lan --proto udp --count 1");
    let mut said = String::new();
    let mut messages = BufReader::new(capture.stderr.take().expect("a pipe"));
    messages.read_line(&mut said).expect("a line");
    assert!(said.starts_with("capturing at lan"), "{said}");
    bed.dropped(&[7002]);
    let run: Run = capture.wait_with_output().expect("it ends").into();
    assert_eq!(run.ok().out.matches("arrived lan").count(), 1);
}

/// When a run is killed: just before it has the dispatcher changed, which goes on, or just after.
const KILLED: [&str; 2] = ["before", "after"];

/// Has the run killed that is about to have xdp-loader change something.
fn killed(host: &Host, when: &str, words: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let (script, done) = (
        directory.path().join("xdp-loader"),
        directory.path().join("done"),
    );
    let kill = |now| if now == when { "kill -9 $PPID\n" } else { "" };
    let body = format!(
        "#!/bin/sh\nPATH=${{PATH#*:}}\n{}xdp-loader \"$@\"\n{}:>{}\n",
        kill("before"),
        kill("after"),
        done.display()
    );
    std::fs::write(&script, body).expect("it is written");
    chmod(&script, 0o755);
    let path = std::env::var("PATH").expect("it is set");
    let path = format!("{}:{path}", directory.path().display());
    let status = host.0.tool().command(words).env("PATH", path).status();
    assert_eq!(status.expect("it runs").signal(), Some(9));
    eventually("xdp-loader has ended", || done.exists());
}

#[test]
#[ignore = "wants a guest whose kernel has freplace"]
fn a_run_that_is_killed_leaves_ours_joined_or_not() {
    let host = Host::new("skb");
    let bed = &host.0;
    for when in KILLED {
        killed(&host, when, "attach lan");
        // The filter stands, and ours does nothing.
        assert_eq!(host.programs(), ["xdpfilt_alw_udp", "xdpredir_join"]);
        assert_eq!(host.status(), Value::Null);
        host.attach("");
        assert_eq!(host.programs(), ["xdpfilt_alw_udp", "xdpredir_join"]);
        assert_eq!(bed.dropped(&[FILTERED, 7002]), [FILTERED]);

        killed(&host, when, "detach lan");
        assert_eq!(host.programs(), ["xdpfilt_alw_udp"]);
        bed.tool().ok("detach --all --if-exists");
        assert_eq!(host.programs(), ["xdpfilt_alw_udp"]);
        assert!(bed.lan.pins.left().is_empty());
    }
}
