//! `attach --group`: members work without root, by the default path, and nobody else does.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::fixture::foreign::{Foreign, XDP};
use crate::fixture::lan::{ANYWHERE, Lan, receive};
use crate::fixture::{self, Run, Tool, chmod, install};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Group;
use serde_json::json;

/// A group of every Debian, of which neither root nor nobody is a member.
const GROUP: &str = "users";
const BPFFS: &str = "/sys/fs/bpf";
const DOOR: &str = "/run/xdpredir";
/// On the tmpfs, where every user can run it.
const BINARY_FOR_ALL: &str = "/run/xdpredir-under-test";

/// This thread's own mounts: a bpffs that only root can pass, as systemd mounts it, and an empty /run.
struct Mounts;

impl Mounts {
    fn new() -> Self {
        let nothing: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).expect("mounts of its own");
        // Fails in a chroot whose / is no mount point; then the drop below undoes what others see.
        let _ = mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        );
        mount(
            Some("bpf"),
            BPFFS,
            Some("bpf"),
            MsFlags::empty(),
            Some("mode=0700"),
        )
        .expect("a bpffs");
        mount(
            Some("tmpfs"),
            "/run",
            Some("tmpfs"),
            MsFlags::empty(),
            Some("mode=0755"),
        )
        .expect("a tmpfs");
        install(Path::new(BINARY_FOR_ALL));
        Mounts
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in [DOOR, "/run", BPFFS] {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}

fn run(before: &[&str], words: &str) -> Run {
    let mut all = before.to_vec();
    all.push(BINARY_FOR_ALL);
    all.extend(words.split_whitespace());
    Command::new(all[0])
        .args(&all[1..])
        .output()
        .expect("it runs")
        .into()
}

fn root(words: &str) -> Run {
    run(&[], words)
}

fn member(words: &str) -> Run {
    member_with("-all", words)
}

fn member_with(capabilities: &str, words: &str) -> Run {
    let gid = Group::from_name(GROUP)
        .unwrap()
        .expect("the group is there")
        .gid;
    let groups = gid.to_string();
    run(
        &[
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--groups",
            &groups,
            "--inh-caps",
            capabilities,
            "--ambient-caps",
            capabilities,
        ],
        words,
    )
}

fn outsider(words: &str) -> Run {
    run(
        &[
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
        ],
        words,
    )
}

/// A process in a network namespace of its own, with an interface attached there, until it is dropped.
struct Elsewhere(Child);

impl Elsewhere {
    fn attached() -> Self {
        let script = format!(
            "ip link set lo up && {BINARY_FOR_ALL} attach lo >/dev/null && echo && read end; {BINARY_FOR_ALL} detach --all"
        );
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare runs");
        let out = child.stdout.as_mut().expect("a pipe");
        out.read_exact(&mut [0]).expect("it is attached");
        Elsewhere(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

const RULE_VERBS: [&str; 5] = [
    "rule list",
    "rule del --all",
    "rule mark down --server 10.1.1.9",
    "rule add --server 10.1.1.9 --mac 02:00:00:00:00:09 --dev wan0",
    "stats",
];

#[test]
fn members_use_the_default_pins_without_root_and_nobody_else_does() {
    let lan = Lan::new(false, 1);
    let mac = fixture::lan::mac(&lan.servers[0], "eth0");
    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        root(&format!("attach lan --group {GROUP}")).ok();

        member(&format!(
            "rule add --server 172.17.0.2 --mac {mac} --dev wan0 --reply none"
        ))
        .ok();
        vm.send_to(b"hello", ANYWHERE).unwrap();
        assert_eq!(receive(&server).0, "hello");
        let stats = member("stats --json").ok().json();
        assert_eq!(stats["interfaces"][0]["actions"]["redirect"]["packets"], 1);
        let rules = member("rule list --json").ok().json();
        assert_eq!(rules[0]["forward_packages"], 1);
        assert_eq!(root("rule list --json").ok().json(), rules);
        // A file that names the interfaces that there are, too.
        std::fs::write("/run/exported.toml", member("export").ok().out).unwrap();
        let applied = member("apply /run/exported.toml").ok();
        assert_eq!(applied.out, "nothing to change: 1 rule\n");

        // What a member changes is the member's, and a member takes it back.
        member("rule add --port 1 --drop").ok();
        let history = member("history --json").ok().json();
        assert_eq!(
            (&history[0]["uid"], &history[0]["added"]),
            (&json!(65534), &json!(2))
        );
        member("rollback").ok();
        assert_eq!(member("rule list --json").ok().json(), rules);
        // So is a policy, which is a change, too.
        let policy = || member("policy lan --json").ok().json()["policy"].clone();
        let before = policy();
        member("policy lan drop").ok();
        assert_eq!(policy(), "drop");
        member("rollback").ok();
        assert_eq!(policy(), before);

        for words in RULE_VERBS {
            outsider(words).fails(5, &["ermission"]);
        }
        // Looking into other network namespaces stays root's, as attaching and detaching do.
        for words in ["--dev wan0", "--pid 1"] {
            member(&format!("rule add {words}")).fails(5, &["only root"]);
        }
        for words in [
            "attach wan0",
            "attach lan --force",
            "detach lan",
            "detach --all",
        ] {
            member(words).fails(5, &["root"]);
        }
        assert_eq!(root("rule list --json").ok().json(), rules);
        let ids = |run: Run| {
            let status = run.ok().json();
            assert_eq!(status["interfaces"][0]["ifname"], "lan");
            ["program_id", "link_id"].map(|key| status["interfaces"][0][key].is_u64())
        };
        assert_eq!(ids(root("status --json")), [true; 2]);
        // Links stay root's.
        assert_eq!(ids(member("status --json")), [false; 2]);

        // Interfaces that come later are the group's, too.
        root("attach wan0").ok();
        let stats = member("stats --json").ok().json();
        assert_eq!(stats["interfaces"].as_array().unwrap().len(), 2);

        member("rule mark down --server 172.17.0.2").ok();
        member("rule mark up --server 172.17.0.2").ok();
        root(&format!(
            "rule add --port 9 --server 172.17.0.2 --mac {mac} --dev wan0 --reply nat"
        ))
        .ok();
        let drain = "rule drain --server 172.17.0.2 --port 9";
        outsider(drain).fails(5, &["ermission"]);
        member(drain).ok();
        assert_eq!(
            member("rule del --all --json").ok().json(),
            json!({"deleted": 1, "attached": [], "detached": []})
        );
        root("detach --all").ok();
        assert!(!Path::new(DOOR).exists());
        assert!(!Path::new(BPFFS).join("xdpredir").exists());
        // Whether anything is attached is again behind a door that is shut.
        member("rule list").fails(5, &["ermission"]);
    });
}

#[test]
fn members_find_backends_in_namespaces_with_just_the_capabilities_that_a_refusal_names() {
    let lan = Lan::new(false, 1);
    let mut server = lan.servers[0].enter(|| {
        let sleep = Command::new("sleep").arg("60").spawn();
        sleep.expect("sleep runs")
    });
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        root(&format!("attach lan --group {GROUP}")).ok();
        let by_pid = format!("rule add --pid {}", server.id());
        let named = ["CAP_NET_ADMIN", "CAP_SYS_PTRACE"];
        member("rule add --dev wan0").fails(5, &named);
        member_with("+sys_admin,+sys_ptrace", &by_pid).fails(5, &named);
        member_with("+net_admin", "rule add --dev wan0").ok();
        member_with("+net_admin,+sys_ptrace", &by_pid).ok();
        root("detach --all").ok();
    });
    server.kill().expect("it runs");
    server.wait().expect("it ends");
}

#[test]
fn what_a_member_cannot_check_is_a_warning() {
    let lan = Lan::new(false, 1);
    let mac = fixture::lan::mac(&lan.servers[0], "eth0");
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        let checks = |run: Run, code: i32| {
            assert_eq!(run.code, code, "{run:?}");
            let all = run.json();
            let all = all.as_array().expect("an array").iter();
            let words = all.map(|f| format!("{} {}", f["severity"], f["check"]));
            words.collect::<Vec<_>>().join(", ").replace('"', "")
        };
        root(&format!("attach lan --group {GROUP}")).ok();
        // Members don't see that somebody lives in another namespace.
        let elsewhere = Elsewhere::attached();
        member(&format!(
            "rule add --server 172.17.0.2 --mac {mac} --dev wan0 --reply none"
        ))
        .ok();
        let found = checks(member("doctor --json"), 0);
        assert_eq!(found, "warning capabilities");
        fixture::command("ip", &["link", "set", "wan0", "down"]);
        let found = checks(member("doctor --json"), 7);
        assert_eq!(found, "problem link, warning capabilities");
        outsider("doctor").fails(5, &["ermission"]);
        drop(elsewhere);
        root("detach --all").ok();
        member("doctor").fails(5, &["ermission"]);
    });
}

#[test]
fn a_group_can_be_named_later_and_the_door_is_opened_again_after_a_detach() {
    let lan = Lan::new(false, 1);
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        root("attach lan").ok();
        for words in RULE_VERBS {
            member(words).fails(5, &["ermission"]);
        }
        for _ in 0..2 {
            root(&format!("attach lan --group {GROUP}")).ok();
            member("stats").ok();
            member("rule list").ok();
            root("detach --all").ok();
            assert!(!Path::new(DOOR).exists());
        }
    });
}

/// Whether the table of connections was made before the directory was the group's, or after it.
#[test]
fn members_list_and_end_connections() {
    for is_group_first in [true, false] {
        let lan = Lan::new(false, 1);
        let mac = fixture::lan::mac(&lan.servers[0], "eth0");
        let vm = lan.vm_socket();
        lan.host.enter(|| {
            let _mounts = Mounts::new();
            let group = || root(&format!("attach lan --group {GROUP}")).ok();
            match is_group_first {
                true => group(),
                false => root("attach lan").ok(),
            };
            let rule = format!("--server 172.17.0.2 --mac {mac} --dev wan0 --reply nat");
            root(&format!("rule add {rule}")).ok();
            if !is_group_first {
                member("flow list").fails(5, &["ermission"]);
                group();
            }
            vm.send_to(b"hello", ANYWHERE).unwrap();
            let count = || member("flow count --json").ok().json()["connections"].clone();
            fixture::eventually("it is remembered", || count() == 1);
            let list = member("flow list --json").ok().json();
            assert_eq!(list[0]["server"], "172.17.0.2");
            assert_eq!(member("status --json").ok().json()["connections"]["now"], 1);
            for words in ["flow list", "flow count", "flow del --all"] {
                outsider(words).fails(5, &["ermission"]);
            }
            let ended = member("flow del --all --json").ok().json();
            assert_eq!(ended, json!({"ended": 1}));
            assert_eq!(count(), 0);
            root("detach --all").ok();
        });
    }
}

#[test]
fn members_see_chains_and_change_none() {
    let lan = Lan::new(false, 1);
    let vm = lan.vm_socket();
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        root("attach lan --mode skb").ok();
        let pin = Path::new(BPFFS).join("pass");
        Foreign::returning("pass", 2, XDP).pin(&pin);
        let add = format!("chain add lan {}", pin.display());
        root(&add).ok();
        // Opened to them when it is there, and then made anew.
        for _ in 0..2 {
            root(&format!("attach lan --group {GROUP}")).ok();
            vm.send_to(b"hello", ANYWHERE).unwrap();
            let list = member("chain list --json").ok().json();
            let program = &list[0]["programs"][0];
            assert_eq!(
                (&program["name"], &program["program_id"]),
                (&json!("pass"), &json!(null))
            );
            let status = member("status --json").ok().json();
            assert_eq!(status["interfaces"][0]["chain"], list[0]["programs"]);
            let stats = member("stats --json").ok().json();
            assert!(stats["interfaces"][0]["chain"][0]["pass"].as_u64() > Some(0));
            for words in [&add, "chain del lan pass"] {
                member(words).fails(5, &["ermission"]);
            }
            root("chain del lan pass").ok();
            root(&add).ok();
        }
        root("detach --all").ok();
    });
}

#[test]
fn with_another_pin_directory_members_name_it() {
    let lan = Lan::new(false, 1);
    lan.tool().ok(&format!("attach lan --group {GROUP}"));
    let dir = lan.pins.dir();
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        let with_dir = |words: &str| format!("--pin-dir {} {words}", dir.display());
        for words in RULE_VERBS.iter().rev() {
            member(&with_dir(words)).ok();
        }
        for words in RULE_VERBS {
            outsider(&with_dir(words)).fails(5, &["ermission"]);
        }
    });
    lan.tool().ok("detach --all");
    assert!(lan.pins.left().is_empty());
}

#[test]
fn a_directory_that_members_cannot_pass_is_refused() {
    let lan = Lan::new(false, 1);
    let dir = lan.pins.dir();
    let above = dir.parent().unwrap();
    chmod(above, 0o700);
    let tool: Tool = lan.tool();
    tool.run(&format!("attach lan --group {GROUP}"))
        .fails(1, &["--group", above.to_str().unwrap()]);
    assert!(lan.pins.left().is_empty());
}

#[test]
fn a_group_does_not_help_with_files() {
    let lan = Lan::new(false, 0);
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        let secret = "/run/secret";
        fs::write(secret, "").unwrap();
        chmod(Path::new(secret), 0o600);
        for words in [
            "apply FILE",
            "rule load FILE",
            "explain FILE",
            "capture --write FILE",
        ] {
            let run = outsider(&words.replace("FILE", secret));
            assert_eq!(run.code, 5, "{words}: {run:?}");
            let said = format!("{secret}: Permission denied (os error 13)");
            assert!(run.err.trim().ends_with(&said), "{words}: {run:?}");
        }
    });
}

#[test]
fn an_unknown_group_is_named() {
    let lan = Lan::new(false, 0);
    lan.tool()
        .run("attach lan --group no-such-group")
        .fails(2, &["no-such-group"]);
    assert!(lan.pins.left().is_empty());
}

/// Only root can make room for more than 4,096 backends. A member who asks for more has the others
/// still to give.
#[test]
fn a_member_who_loads_too_many_rules_can_go_on_with_fewer() {
    let lan = Lan::new(false, 1);
    let index = lan.host.ifindex("wan0");
    let rules = |count: u32| {
        let lines = (0..count).map(|number| {
            let src = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            json!({"src": format!("{src}/32"), "proto": "udp", "port": 1, "server": "10.1.1.1",
                   "mac": "02:00:00:00:00:01", "ifindex": index})
            .to_string()
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        root(&format!("attach lan --group {GROUP}")).ok();
        let load = |count: u32| {
            let file = format!("/run/rules-{count}");
            std::fs::write(&file, rules(count)).unwrap();
            member(&format!("rule load {file}"))
        };
        load(5000).fails(5, &["only root can make room"]);
        assert_eq!(member("rule list --json").ok().json(), json!([]));
        load(4096).ok();
        member("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev wan0")
            .fails(5, &["only root can make room"]);
        root("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev wan0 --reply none").ok();
        member("rule del --all").ok();
        root("detach --all").ok();
    });
}

#[test]
fn what_a_member_s_rule_needs_attached_root_attaches() {
    let lan = Lan::new(false, 1);
    let mac = fixture::lan::mac(&lan.servers[0], "eth0");
    lan.host.enter(|| {
        let _mounts = Mounts::new();
        root(&format!("attach lan --group {GROUP}")).ok();
        let add = format!("rule add --server 172.17.0.2 --mac {mac} --dev wan0 --reply nat");
        member(&add).fails(5, &["answers arrive at wan0", "root", "attach wan0"]);
        assert_eq!(root("status --json").ok().json()["rules"], 0);
        // Where nobody asks for that, they are not translated.
        let added = member(&add.replace("--reply nat", "")).ok();
        let said = "answers leave with the server's own address";
        assert!(
            added.err.contains(said) && added.err.contains("attach wan0"),
            "{added:?}"
        );
        member("rule del --all").ok();

        root(&add).ok();
        member(&format!("{add} --weight 2")).ok();
        let deleted = member("rule del --all").ok();
        let stays = "wan0 stays attached for answers, which no rule needs any more";
        assert!(deleted.err.contains(stays), "{deleted:?}");
        // The next change by root takes it away.
        let added = root("rule add --pass").ok();
        assert!(added.out.contains("detached from wan0"), "{added:?}");
        root("detach --all").ok();
    });
}
