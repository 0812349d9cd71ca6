//! Runs that are killed, run at once, or may not do what they want.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::fixture::kill;
use crate::fixture::lan::Lan;
use crate::fixture::{self, BINARY, Ns, Pins, Run, Tool, chmod, install};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Bed {
    ns: Ns,
    pins: Pins,
}

impl Bed {
    /// Nothing is done to pins of another version, and all verbs say these words.
    fn is_refused(&self, said: &[&str]) {
        for words in [
            "attach v0",
            "detach --all",
            "status",
            "rule list",
            "stats",
            "rule del --all",
            &add("10.1.1.1"),
        ] {
            self.tool().run(words).fails(4, said);
        }
    }

    fn new() -> Self {
        let ns = Ns::new("host");
        ns.ip("link add v0 type veth peer name v1");
        Bed {
            ns,
            pins: Pins::new(),
        }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn add(&self, server: &str) {
        self.tool().ok(&add(server));
    }

    fn servers(&self) -> Vec<String> {
        let rows = self.tool().json("rule list");
        let server = |row: &Value| row["server"].as_str().unwrap().to_string();
        rows.as_array().unwrap().iter().map(server).collect()
    }

    /// Detaches whatever is attached; then nothing may be left.
    fn clear(&self) {
        let run = self.tool().run("detach --all");
        assert!([0, 3].contains(&run.code), "{run:?}");
        assert_eq!(self.pins.left(), Vec::<PathBuf>::new(), "{run:?}");
        let links = self.ns.ip("link show");
        assert!(!links.contains("prog/xdp"), "{links}");
    }
}

fn add(server: &str) -> String {
    format!("rule add --server {server} --mac 02:00:00:00:00:01 --dev v1")
}

/// Kills runs of these words before their first change, their second, and so on, until one makes all of its changes.
/// `look` sees what each has left and makes it as it was before.
fn kill_at_each_change(tool: &Tool, words: &str, mut look: impl FnMut()) {
    let mut n = 0;
    while kill::before_change(&mut tool.command(words), n) {
        look();
        n += 1;
    }
    look();
    assert!(n > 3, "{words:?} made {n} changes: too few to be all");
}

#[test]
fn an_attach_killed_at_any_instant_leaves_all_or_nothing() {
    let bed = Bed::new();
    let tool = bed.tool();
    let mut again = false;
    kill_at_each_change(&tool, "attach v0 v1", || {
        let status = tool.json("status");
        let attached = status["interfaces"].as_array().unwrap().len();
        assert!([0, 2].contains(&attached), "{attached} of both");
        again = !again;
        if again {
            tool.ok("attach v0");
            bed.add("10.1.1.1");
            tool.ok("stats");
            assert_eq!(bed.servers(), ["10.1.1.1"]);
        }
        bed.clear();
    });
}

#[test]
fn an_attach_of_a_further_interface_killed_at_any_instant_leaves_the_first_alone() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    bed.add("10.1.1.1");
    let first = tool.json("status")["interfaces"][0].clone();
    kill_at_each_change(&tool, "attach v1", || {
        let interfaces = tool.json("status")["interfaces"].clone();
        assert!(interfaces.as_array().unwrap().contains(&first));
        assert_eq!(bed.servers(), ["10.1.1.1"]);
        tool.ok("attach v1");
        tool.ok("detach v1");
    });
    bed.clear();
}

#[test]
fn a_rule_add_killed_at_any_instant_leaves_the_old_rules_or_the_new() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    bed.add("10.1.1.1");
    kill_at_each_change(&tool, &add("10.1.1.2"), || {
        let servers = bed.servers();
        assert!(
            servers == ["10.1.1.1"] || servers == ["10.1.1.1", "10.1.1.2"],
            "{servers:?}"
        );
        tool.ok("stats");
        bed.add("10.1.1.2");
        tool.ok("rule del --server 10.1.1.2");
        assert_eq!(bed.servers(), ["10.1.1.1"]);
    });
    bed.clear();
}

#[test]
fn a_rule_del_killed_at_any_instant_leaves_the_old_rules_or_the_new() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    bed.add("10.1.1.1");
    bed.add("10.1.1.2");
    kill_at_each_change(&tool, "rule del --server 10.1.1.1", || {
        let servers = bed.servers();
        assert!(
            servers == ["10.1.1.2"] || servers == ["10.1.1.1", "10.1.1.2"],
            "{servers:?}"
        );
        tool.ok("rule del --server 10.1.1.1 --if-exists");
        assert_eq!(bed.servers(), ["10.1.1.2"]);
        bed.add("10.1.1.1");
    });
    bed.clear();
}

#[test]
fn a_detach_killed_at_any_instant_can_be_done_again() {
    let bed = Bed::new();
    let tool = bed.tool();
    let attach = || {
        tool.ok("attach v0");
        bed.add("10.1.1.1");
    };
    attach();
    let mut again = false;
    kill_at_each_change(&tool, "detach --all", || {
        tool.ok("status");
        again = !again;
        if again {
            tool.ok("attach v0");
            tool.ok("rule list");
        }
        bed.clear();
        attach();
    });
    bed.clear();
}

#[test]
fn rules_added_at_once_are_all_there() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    let runs: Vec<_> = (1..=20)
        .map(|n| tool.spawn(&add(&format!("10.1.1.{n}"))))
        .collect();
    for run in runs {
        Run::from(run.wait_with_output().expect("it ends")).ok();
    }
    let expected: Vec<String> = (1..=20).map(|n| format!("10.1.1.{n}")).collect();
    assert_eq!(bed.servers(), expected);
    bed.clear();
}

#[test]
fn attach_and_detach_at_once_end_in_one_or_the_other() {
    let bed = Bed::new();
    let tool = bed.tool();
    for _ in 0..15 {
        let runs =
            ["attach v0", "detach --all", "attach v1", "detach v0"].map(|words| tool.spawn(words));
        for (index, run) in runs.into_iter().enumerate() {
            let run = Run::from(run.wait_with_output().expect("it ends"));
            let allowed: &[i32] = if index % 2 == 0 { &[0] } else { &[0, 3] };
            assert!(allowed.contains(&run.code), "{run:?}");
        }
        tool.ok("status");
        tool.ok("attach v0");
        tool.ok("rule list");
    }
    bed.clear();
}

/// The binary where every user can run it.
fn for_everybody() -> (TempDir, PathBuf) {
    let dir = tempfile::Builder::new()
        .prefix("xdpredir-")
        .tempdir()
        .expect("a directory");
    chmod(dir.path(), 0o755);
    let binary = dir.path().join("xdpredir");
    install(&binary);
    (dir, binary)
}

/// A run as a user without any rights, in the namespace.
fn as_nobody(bed: &Bed, binary: &Path, words: &str) -> Run {
    let output: Output = Command::new("nsenter")
        .arg(format!("--net={}", bed.ns.path().display()))
        .args("setpriv --reuid 65534 --regid 65534 --clear-groups".split(' '))
        .arg(binary)
        .arg("--pin-dir")
        .arg(bed.pins.dir())
        .args(words.split_whitespace())
        .output()
        .expect("nsenter runs");
    output.into()
}

#[test]
fn a_user_without_rights_is_told_so_in_one_line() {
    let bed = Bed::new();
    let (_dir, binary) = for_everybody();
    as_nobody(&bed, &binary, "attach v0").fails(5, &["ermission"]);
    assert!(bed.pins.left().is_empty());

    bed.tool().ok("attach v0");
    bed.add("10.1.1.1");
    let before = (bed.tool().json("status"), bed.tool().json("rule list"));
    for words in [
        "attach v1",
        "attach v0 --force",
        "detach v0",
        "detach --all",
        "status",
        "rule list",
        "rule del",
        "rule add --server 10.1.1.2 --mac 02:00:00:00:00:01 --dev v1",
        "stats",
        "stats --watch",
        "stats --watch --json",
    ] {
        as_nobody(&bed, &binary, words).fails(5, &["ermission"]);
    }
    let after = (bed.tool().json("status"), bed.tool().json("rule list"));
    assert_eq!(after, before);

    let net = bed.ns.name.as_str();
    let output = Command::new("setpriv")
        .args("--reuid 65534 --regid 65534 --clear-groups".split(' '))
        .arg(&binary)
        .args(["--netns", net, "status"])
        .output();
    Run::from(output.expect("setpriv runs")).fails(5, &[net, "root"]);
}

/// A run as that user with these capabilities alone, as `setpriv` writes them.
fn as_nobody_with(bed: &Bed, binary: &Path, capabilities: &str, words: &str) -> Run {
    let only = |set: &str| format!("--{set}-caps=-all{capabilities}");
    let output = Command::new("nsenter")
        .arg(format!("--net={}", bed.ns.path().display()))
        .args("setpriv --reuid 65534 --regid 65534 --clear-groups".split(' '))
        .args([only("inh"), only("ambient")])
        .arg(format!("--bounding-set=-all{capabilities}"))
        .arg(binary)
        .arg("--pin-dir")
        .arg(bed.pins.dir())
        .args(words.split_whitespace())
        .output();
    output.expect("nsenter runs").into()
}

#[test]
fn who_has_just_the_capabilities_that_are_named_can_do_all_of_it() {
    let bed = Bed::new();
    let (_dir, binary) = for_everybody();
    let top = bed.pins.dir().parent().unwrap().to_path_buf();
    std::os::unix::fs::chown(&top, Some(65534), Some(65534)).expect("chown");
    // As the rules have it for the other end of v1.
    bed.ns.ip("link set v0 address 02:00:00:00:00:01 up");
    bed.ns.ip("link set v1 up");

    let refused = |capabilities: &str, lacking: &str, words: &str| {
        let run = as_nobody_with(&bed, &binary, capabilities, words);
        run.fails(
            5,
            &[
                &format!("lacks {lacking}:"),
                "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
            ],
        );
        assert_eq!(bed.pins.left(), Vec::<PathBuf>::new());
    };
    refused(",+bpf,+net_admin", "CAP_PERFMON", "attach v0");
    refused(",+bpf,+net_admin", "CAP_PERFMON", "attach v0 --no-ledger");
    refused(",+bpf,+perfmon", "CAP_NET_ADMIN", "attach v0");
    refused(",+net_admin,+perfmon", "CAP_BPF", "attach v0");
    let run = as_nobody_with(&bed, &binary, ",+bpf,+net_admin", "doctor --json");
    assert_eq!(run.code, 7, "{run:?}");
    let finding = run.json()[0].clone();
    assert_eq!(finding["check"], "capabilities");
    let consequence = finding["consequence"].as_str().unwrap();
    assert!(consequence.contains("was not tried"), "{finding}");

    for mode in ["skb", "native"] {
        let all =
            |words: &str| as_nobody_with(&bed, &binary, ",+bpf,+net_admin,+perfmon", words).ok();
        all(&format!("attach v0 --mode {mode}"));
        let status = all("status --json").json();
        assert_eq!(status["interfaces"][0]["mode"], mode);
        assert_eq!(status["interfaces"][0]["ledger"], "on");
        all(&add("10.1.1.1"));
        all(&add("10.1.1.2"));
        let doctor = all("doctor --json").json();
        assert_eq!(doctor[0]["check"], "capabilities", "{doctor}");
        assert!(!doctor.to_string().contains("refused"), "{doctor}");
        // To detach, to change rules and to read, the pins are enough.
        let none = |words: &str| as_nobody_with(&bed, &binary, "", words).ok();
        none("rule del --server 10.1.1.1");
        none("rule list");
        none("stats");
        none("detach --all");
        assert_eq!(bed.pins.left(), Vec::<PathBuf>::new());
        let links = bed.ns.ip("link show");
        assert!(!links.contains("prog/xdp"), "{links}");
    }
}

#[test]
fn to_replace_a_foreign_program_without_cap_sys_admin_is_no_permission() {
    let bed = Bed::new();
    let (_dir, binary) = for_everybody();
    let top = bed.pins.dir().parent().unwrap().to_path_buf();
    std::os::unix::fs::chown(&top, Some(65534), Some(65534)).expect("chown");
    let others = Pins::new();
    let other = Tool {
        ns: &bed.ns,
        pins: &others,
    };
    other.ok("attach v0");
    for words in ["attach v0", "attach v0 --force"] {
        let run = as_nobody_with(&bed, &binary, ",+bpf,+net_admin,+perfmon", words);
        run.fails(5, &["v0", "another XDP program", "CAP_SYS_ADMIN"]);
    }
    assert_eq!(bed.pins.left(), Vec::<PathBuf>::new());
    other.ok("detach v0");
}

#[test]
fn a_pin_directory_that_is_not_on_a_bpffs_is_named_with_the_remedy() {
    let bed = Bed::new();
    let elsewhere = tempfile::tempdir().expect("a directory");
    let run = |dir: &Path| {
        let mut command = Command::new(BINARY);
        command
            .args(["--netns", &bed.ns.name, "--pin-dir"])
            .arg(dir)
            .args(["attach", "v0"]);
        Run::from(command.output().expect("it runs"))
    };
    let pins = elsewhere.path().join("pins");
    run(&pins).fails(1, &[pins.to_str().unwrap(), "bpffs"]);
    assert!(!pins.exists());
    let dotted = bed.pins.dir().with_file_name("v1.2");
    run(&dotted).fails(2, &[dotted.to_str().unwrap(), "dot"]);
    assert!(bed.pins.left().is_empty());
}

#[test]
fn pins_of_another_version_are_named_and_left_alone() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    let namespace = std::fs::read_dir(bed.pins.dir())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    tool.ok("detach v0");

    let other = namespace.join("abi-999");
    std::fs::create_dir_all(&other).expect("a directory on the bpffs");
    bed.is_refused(&["abi-999", "another version"]);
    assert!(other.is_dir());
    std::fs::remove_dir(&other).unwrap();
    tool.ok("attach v0");
    bed.clear();
}

#[test]
fn state_whose_maps_have_the_same_schemas_is_taken_over_and_all_other_is_refused_by_the_maps_name()
{
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    bed.add("10.1.1.1");
    tool.ok("detach v0 --keep-rules");
    let state = bed.pins.namespace().join("state");
    let other = |pin: &str, other: &str, said: &str| {
        std::fs::rename(state.join(pin), state.join(other)).expect("pins can be renamed");
        bed.is_refused(&[state.to_str().unwrap(), "another version", said]);
        std::fs::rename(state.join(other), state.join(pin)).unwrap();
    };
    let said = "the map ports has schema 2, and this version wants 1";
    other("ports-1", "ports-2", said);
    other("egress-1", "connections-1", "no map connections");

    tool.ok("attach v0");
    assert_eq!(tool.json("rule list").as_array().unwrap().len(), 1);
    bed.clear();
}

#[test]
fn what_killed_runs_have_left_is_swept_up_by_the_next_attach_or_detach() {
    let bed = Bed::new();
    let tool = bed.tool();
    tool.ok("attach v0");
    let namespace = std::fs::read_dir(bed.pins.dir())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let state = std::fs::read_dir(&namespace)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let orphan = state.join("if-4711");
    std::fs::create_dir(&orphan).unwrap();
    std::fs::create_dir(namespace.join("staged")).unwrap();
    assert_eq!(
        tool.json("status")["interfaces"].as_array().unwrap().len(),
        1
    );
    tool.ok("attach v1");
    assert!(!orphan.exists() && !namespace.join("staged").exists());
    bed.clear();

    std::fs::create_dir_all(namespace.join("staged")).unwrap();
    assert_eq!(tool.json("status")["interfaces"], json!([]));
    bed.clear();
    std::fs::create_dir(bed.pins.dir()).unwrap();
    bed.clear();
}

#[test]
fn pins_are_for_root_alone_unless_a_group_is_named() {
    let bed = Bed::new();
    bed.tool().ok("attach v0");
    bed.add("10.1.1.1");
    for path in bed.pins.left() {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        let expected = if path == bed.pins.dir() {
            0o755
        } else if path.is_dir() {
            0o700
        } else {
            0o600
        };
        assert_eq!(mode, expected, "{}", path.display());
    }
}

#[test]
fn what_cannot_be_written_is_an_error_of_one_line() {
    let lan = Lan::new(false, 1);
    lan.tool().ok("attach lan");
    lan.add_backend(0, "");
    for words in [
        "status",
        "rule list",
        "stats",
        "stats --json",
        "features",
        "doctor",
    ] {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let output = lan.tool().command(words).stdout(full).output().unwrap();
        Run::from(output).fails(1, &["cannot write to standard output"]);
    }
}

#[test]
fn warnings_that_cannot_be_written_change_nothing() {
    let lan = Lan::new(false, 1);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let run = |words: &str| -> Run {
        let mut command = lan.tool().command(words);
        command.stderr(full().unwrap()).output().unwrap().into()
    };
    assert_eq!(run("attach lan --mode native").code, 0);
    // Its peer has no GRO: that would be said.
    lan.servers[0].exec("ethtool -K eth0 gro off");
    let mac = fixture::lan::mac(&lan.servers[0], "eth0");
    let row = run(&format!(
        "rule add --server 172.17.0.2 --mac {mac} --dev wan0 --json"
    ));
    assert_eq!(row.code, 0, "{row:?}");
    assert_ne!(row.json()["warnings"], serde_json::json!([]));
    assert_eq!(run("rule del --port 1").code, 3);
    assert_eq!(run("bogus").code, 2);
}
