//! Names that somebody else chose, for a device, a namespace, a process or a file, reach neither the
//! terminal nor a shell as they are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};

use crate::fixture::{self, BINARY, Ns, Pins, Run, command};
use serde_json::Value;

/// What a shell or a terminal would obey.
const NAMES: [&str; 6] = [
    "x;id",
    "$(id)",
    "e\x1b[31mred",
    "a`id`",
    "it's\"",
    "a\u{9b}\u{202e}b",
];

/// `host NAME -- NAME server`: the host's end is attached, and its server can't be redirected to
/// natively.
struct Bed {
    name: &'static str,
    host: Ns,
    _server: Ns,
    pins: Pins,
}

fn namespace(name: String) -> Ns {
    command("ip", &["netns", "add", &name]);
    Ns { name }
}

/// `ip -n` wants the root to be a mount, which it is not in a chroot.
fn ip(netns: &str, args: &[&str]) {
    let net = format!("--net=/run/netns/{netns}");
    command("nsenter", &[&[net.as_str(), "ip"][..], args].concat());
}

impl Bed {
    fn new(name: &'static str) -> Self {
        let (host, pins) = (Ns::new("host"), Pins::new());
        let server = namespace(format!("{}-{name}", host.name));
        let (at, there) = (host.name.as_str(), server.name.as_str());
        let pair = ["type", "veth", "peer", "name", name, "netns", there];
        ip(at, &[&["link", "add", name][..], &pair].concat());
        for netns in [at, there] {
            ip(netns, &["link", "set", "dev", name, "up"]);
        }
        ip(there, &["addr", "add", "10.9.0.2/24", "dev", name]);
        ip(at, &["addr", "add", "10.9.0.1/24", "dev", name]);
        Bed {
            name,
            host,
            _server: server,
            pins,
        }
    }

    fn run(&self, words: &[&str]) -> Run {
        let mut command = Command::new(BINARY);
        command.args(["--netns", &self.host.name, "--pin-dir"]);
        command.arg(self.pin_dir()).args(words).stdin(Stdio::null());
        command.output().expect("the binary runs").into()
    }

    /// Somebody named that, too.
    fn pin_dir(&self) -> std::path::PathBuf {
        self.pins.dir().join(self.name)
    }

    fn add(&self) -> Run {
        self.run(&[
            "rule",
            "add",
            "--server",
            "10.9.0.2",
            "--dev",
            self.name,
            "--mac",
            "02:00:00:00:00:07",
        ])
    }

    fn findings(&self) -> Vec<Value> {
        let all = self.run(&["doctor", "--json"]).json();
        all.as_array().expect("an array").clone()
    }

    fn mend(&self, check: &str) -> Option<String> {
        let all = self.findings();
        let found = all.iter().find(|finding| finding["check"] == check)?;
        found["mend"].as_str().map(String::from)
    }
}

#[track_caller]
fn assert_plain(run: &Run) {
    for text in [&run.out, &run.err] {
        let obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!text.contains(obeyed), "{text:?}");
    }
}

#[test]
fn no_name_is_obeyed_by_the_terminal() {
    for name in NAMES {
        let bed = Bed::new(name);
        std::fs::create_dir(bed.pins.dir()).expect("a directory");
        let all: [&[&str]; 19] = [
            &["features"],
            &["features", name],
            &["attach", name, "--mode", "native"],
            &["status"],
            &[
                "rule",
                "add",
                "--server",
                "10.9.0.2",
                "--dev",
                name,
                "--mac",
                "02:00:00:00:00:07",
            ],
            &["rule", "list"],
            &["rule", "refresh"],
            &["stats", "--per-cpu"],
            &["explain", "--src", "10.9.0.9", "--dst", "10.9.0.8"],
            &["explain", "--in", "none", name],
            &["policy", name, "drop"],
            &["chain", "list", name],
            &["chain", "add", name, name],
            &["chain", "del", name, name],
            &["dump", name, "--queue", "7"],
            &["doctor"],
            &["rule", "load", name],
            &["attach", "none", name],
            &["detach", name, "--keep-rules"],
        ];
        for words in all {
            assert_plain(&bed.run(words));
        }
        assert_plain(&bed.run(&["--netns", name, "status"]));
        assert_plain(&bed.run(&[name]));
    }
}

#[test]
fn what_is_hidden_is_shown_by_its_number() {
    let bed = Bed::new("e\x1b[31mred");
    let run = bed.run(&["features"]);
    assert!(run.out.contains("\ne\\x1b[31mred "), "{run:?}");
    let listed = bed.run(&["features", "--json"]).json();
    let names = listed.as_array().expect("an array");
    assert!(
        names
            .iter()
            .any(|device| device["ifname"] == "e\x1b[31mred")
    );
}

/// The first command of a finding does what it says: a shell sees the name as one word.
#[test]
fn what_is_suggested_can_be_pasted_whatever_the_names() {
    for name in NAMES {
        let bed = Bed::new(name);
        std::fs::create_dir(bed.pins.dir()).expect("a directory");
        bed.run(&["attach", name, "--mode", "native"]).ok();
        bed.add().ok();
        let mend = bed.mend("peer-napi").expect("the peer has no GRO");
        let (pasted, _) = mend[1..].split_once("`, or").expect("a command first");
        let run: Run = Command::new("sh")
            .args(["-c", pasted])
            .output()
            .expect("sh")
            .into();
        assert_eq!((run.code, run.out.as_str()), (0, ""), "{pasted}: {run:?}");
        assert_eq!(bed.mend("peer-napi"), None, "{pasted}");

        ip(&bed.host.name, &["link", "set", "dev", name, "down"]);
        let mend = bed.mend("link").expect("it is down");
        let run: Run = Command::new("sh")
            .args(["-c", mend.trim_matches('`')])
            .output()
            .expect("sh")
            .into();
        assert_eq!((run.code, run.out.as_str()), (0, ""), "{mend}: {run:?}");
        assert_eq!(bed.mend("link"), None, "{mend}");
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A container's process has whatever name it likes.
#[test]
fn a_process_s_name_is_not_obeyed_by_the_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("s\x1b[31mred");
    std::fs::copy("/bin/sleep", &program).expect("a copy");
    let host = Ns::new("host");
    let mut container = Command::new("unshare");
    container.arg("--net").arg(&program).arg("60");
    let container = Process(container.spawn().expect("it runs"));
    let comm = format!("/proc/{}/comm", container.0.id());
    fixture::eventually("it runs", || {
        std::fs::read_to_string(&comm).is_ok_and(|name| name.contains("red"))
    });
    let pid = container.0.id().to_string();
    let pair = ["type", "veth", "peer", "name", "p0", "netns", &pid];
    ip(&host.name, &[&["link", "add", "v0"][..], &pair].concat());
    let run: Run = Command::new(BINARY)
        .args(["--netns", &host.name, "features", "v0"])
        .output()
        .expect("it runs")
        .into();
    assert!(run.out.contains("(s\\x1b[31mred)"), "{run:?}");
    assert_plain(&run);
}

/// The kernel takes any bytes but a few for a device's name.
#[test]
fn a_name_that_is_no_text_keeps_nobody_from_the_other_devices() {
    let host = Ns::new("host");
    let netns = format!("--net={}", host.path().display());
    let mut add = Command::new("nsenter");
    add.arg(netns)
        .args(["ip", "link", "add"])
        .arg(OsStr::from_bytes(b"a\xff"));
    let added = add
        .args(["type", "veth", "peer", "name", "b0"])
        .status()
        .expect("ip");
    assert!(added.success());
    let run: Run = Command::new(BINARY)
        .args(["--netns", &host.name, "features"])
        .output()
        .expect("it runs")
        .into();
    assert!(run.ok().out.contains("\nb0 "));
}
