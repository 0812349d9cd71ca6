//! What others do: to directories and maps, to devices, with frames that no device carries.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fixture::lan::{ANYWHERE, HEADERS, Lan, mac, receive, socket};
use crate::fixture::{self, Run};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown};
use serde_json::{Value, json};
use xdpredir::datapath::{self, Lock, RuleStore};
use xdpredir::model::{Mac, Plan};

const NOBODY: u32 = 65534;

fn pinned(lan: &Lan, name: &str) -> MapHandle {
    fixture::run::pinned(&lan.pins, name)
}

#[test]
fn a_pin_directory_of_somebody_else_is_not_trusted() {
    let lan = Lan::new(false, 0);
    let decoy = tempfile::NamedTempFile::new().unwrap();
    let before = fs::metadata(decoy.path()).unwrap();
    let root = lan.pins.dir();
    fs::create_dir(&root).unwrap();
    symlink(decoy.path(), root.join("if-decoy")).unwrap();
    chown(
        &root,
        Some(Uid::from_raw(NOBODY)),
        Some(Gid::from_raw(NOBODY)),
    )
    .unwrap();

    for words in [
        "attach lan",
        "attach lan --group users",
        "attach lan --force",
    ] {
        lan.tool()
            .run(words)
            .fails(4, &[&root.to_string_lossy(), "trusted", "65534"]);
    }
    let after = fs::metadata(decoy.path()).unwrap();
    assert_eq!((before.mode(), before.gid()), (after.mode(), after.gid()));
}

#[test]
fn a_namespaces_directory_of_somebody_else_is_not_trusted() {
    let lan = Lan::new(false, 0);
    let tool = lan.tool();
    tool.ok("attach lan");
    let namespace = lan.pins.namespace();
    tool.ok("detach lan");
    fs::create_dir_all(&namespace).unwrap();
    chown(&namespace, Some(Uid::from_raw(NOBODY)), None).unwrap();
    for words in ["attach lan", "rule list", "status", "detach --all"] {
        tool.run(words).fails(4, &["netns-", "trusted"]);
    }
}

#[test]
fn a_symbolic_link_in_place_of_the_pin_directory_is_refused() {
    let lan = Lan::new(false, 0);
    symlink(lan.pins.dir().with_file_name("nowhere"), lan.pins.dir()).unwrap();
    lan.tool().run("attach lan").fails(4, &["trusted"]);
}

/// The kernel would drop it and tell nobody.
#[test]
fn a_frame_that_the_egress_device_does_not_carry_passes() {
    for mode in ["skb", "native"] {
        let lan = Lan::new(false, 1);
        lan.tool().ok(&format!("attach lan --mode {mode}"));
        lan.add_backend(0, "");
        lan.host.ip("link set wan0 mtu 1000");
        let (host, server) = (
            socket(&lan.host, "192.168.122.1:7999"),
            lan.server_socket(0),
        );
        // The sender lets others divide its packets.
        lan.vm.sysctl("net/ipv4/ip_no_pmtu_disc", "1");
        let vm = lan.vm_socket();
        let (most, more) = ("m".repeat(1000 - 28), "m".repeat(1000 - 27));
        vm.send_to(most.as_bytes(), "192.168.122.1:7999").unwrap();
        assert_eq!(receive(&server).0, most, "{mode}");
        vm.send_to(more.as_bytes(), "192.168.122.1:7999").unwrap();
        assert_eq!(receive(&host).0, more, "{mode}");
        assert_eq!(lan.forwarded(0), (1, (most.len() + HEADERS) as u64));
    }
}

/// A bridge sends on through the stack, which completes the checksum whatever the bridge says.
#[test]
fn a_bridge_serves_as_egress_with_and_without_checksum_offload() {
    for offload in ["on", "off"] {
        let lan = Lan::new(false, 1);
        lan.host.ip("link add docker0 type bridge");
        lan.host.ip("link set wan0 master docker0");
        lan.host.ip("link set docker0 up");
        lan.host.exec(&format!("ethtool -K docker0 tx {offload}"));
        lan.host.exec(&format!("ethtool -K wan0 tx {offload}"));
        lan.tool().ok("attach lan --mode skb");
        let mac = mac(&lan.servers[0], "eth0");
        lan.tool().ok(&format!(
            "rule add --server 172.17.0.2 --mac {mac} --dev docker0"
        ));
        let (vm, server) = (lan.vm_socket(), lan.server_socket(0));
        vm.send_to(b"hello", ANYWHERE).unwrap();
        assert_eq!(receive(&server).0, "hello", "offload {offload}");
    }
}

#[test]
fn a_port_and_its_bridge_are_attached_in_one_go() {
    let lan = Lan::new(true, 0);
    let tool = lan.tool();
    tool.ok("attach virbr0 lan");
    tool.ok("detach lan");
    tool.run("attach lan").fails(4, &["virbr0", "--keep-rules"]);
}

/// The kernel forgets a device that goes; another one with its index is not the same.
#[test]
fn a_device_that_comes_back_under_its_index_is_gone_until_it_is_added_again() {
    let lan = Lan::new(false, 0);
    let tool = lan.tool();
    let make = || {
        lan.host
            .ip("link add out index 777 type veth peer name outp");
        lan.host.ip("link set out up");
        lan.host.ip("link set outp up");
    };
    make();
    tool.ok("attach lan");
    let add = "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --ifindex 777";
    assert_eq!(tool.json(add)["ifname"], "out");
    lan.host.ip("link del out");
    assert_eq!(tool.json("rule list")[0]["ifname"], json!(null));
    make();
    assert_eq!(tool.json("rule list")[0]["ifname"], json!(null));
    assert!(tool.ok("rule list").out.contains("777 (gone)"));
    // Nor does another rule bring it back.
    tool.ok(&format!("{add} --port 53"));
    let rows = tool.json("rule list");
    assert_eq!(rows[0]["ifname"], "out", "{rows}");
    assert_eq!(rows[1]["ifname"], json!(null), "{rows}");
    tool.ok(add);
    assert_eq!(tool.json("rule list")[1]["ifname"], "out");

    // Nor another backend of the same rule.
    let second = "rule add --server 10.1.1.2 --mac 02:00:00:00:00:01 --ifindex 777";
    tool.ok(second);
    lan.host.ip("link del out");
    make();
    tool.ok(second);
    let rows = tool.json("rule list");
    assert_eq!(rows[1]["ifname"], json!(null), "{rows}");
    assert_eq!(rows[2]["ifname"], "out", "{rows}");
}

#[test]
fn a_device_that_is_down_is_warned_of() {
    let lan = Lan::new(false, 1);
    lan.tool().ok("attach lan");
    lan.host.ip("link set wan0 down");
    let run = lan
        .tool()
        .ok("rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev wan0");
    assert!(
        run.err
            .contains("wan0: what is redirected to it is lost (it is down)"),
        "{run:?}"
    );
}

/// A member of the group may write anything to the maps.
#[test]
fn a_rule_that_somebody_broke_can_be_seen_past_mended_and_deleted() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    let break_it = || {
        lan.add_backend(0, "");
        let lines = pinned(&lan, "line-bank");
        for key in lines.keys() {
            let mut line = lines.lookup(&key, MapFlags::ANY).unwrap().unwrap();
            // The address of a backend.
            if line[24..28] == [172, 17, 0, 2] {
                line[0] = 99;
                lines.update(&key, &line, MapFlags::ANY).unwrap();
            }
        }
        assert_eq!(tool.json("rule list"), json!([]));
        tool.ok("stats");
    };
    break_it();
    lan.add_backend(0, "");
    let (vm, server) = (lan.vm_socket(), lan.server_socket(0));
    vm.send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "hello");
    break_it();
    tool.ok("rule del");
    tool.run("rule del").fails(3, &[]);
    break_it();
    tool.ok("rule del --all");
    assert_eq!(tool.json("status")["rules"], 0);
}

/// Has all numbers taken of the banks that there are, as runs that are killed again and again would leave
/// them.
fn fill(lan: &Lan, bitmaps: &str, bank: &str) -> u32 {
    let (bitmaps, state) = (pinned(lan, bitmaps), lan.pins.namespace().join("state"));
    let full = vec![0xff; bitmaps.value_size() as usize];
    let is_there = |number: &u32| state.join(format!("{bank}-{number}")).exists();
    let banks = (0..).take_while(is_there);
    for number in banks.clone() {
        bitmaps
            .update(&number.to_ne_bytes(), &full, MapFlags::ANY)
            .unwrap();
    }
    banks.count() as u32
}

const BITMAPS: [[&str; 2]; 2] = [
    ["line_bitmaps", "line-bank"],
    ["counter_bitmaps", "counter-bank"],
];

/// Killed runs leave lines and counters that no rule has. Before there is much of it, they go; what is in
/// use stays, and so does what is about to be.
#[test]
fn garbage_gives_way_to_rules() {
    let lan = Lan::new(false, 2);
    let tool = lan.tool();
    tool.ok("attach lan");
    for words in ["--port 1", "--port 2"] {
        lan.add_backend(0, words);
        lan.add_backend(1, words);
    }
    // First the one, then the other.
    for [bitmaps, bank] in BITMAPS.iter().flat_map(|kind| [kind; 5]) {
        let banks = fill(&lan, bitmaps, bank);
        assert!(banks <= 3, "{banks} of {bitmaps}");
        lan.add_backend(0, "");
        lan.add_backend(1, "");
        let vm = lan.vm_socket();
        let servers = [lan.server_socket(0), lan.server_socket(1)];
        vm.send_to(b"hello", ANYWHERE).unwrap();
        let received = servers.iter().filter(|server| {
            let mut bytes = [0; 9];
            eventually_receives(server, &mut bytes)
        });
        assert_eq!(received.count(), 1);
        let rows = tool.json("rule list");
        assert_eq!(rows.as_array().unwrap().len(), 6);
        let of = |row: usize| rows[row]["forward_packages"].as_u64().unwrap();
        assert_eq!((0..4).map(of).sum::<u64>(), 0, "of ports 1 and 2: {rows:#}");
        assert_eq!(of(4) + of(5), 1, "{rows:#}");
        tool.ok("rule del");
    }
}

fn eventually_receives(socket: &std::net::UdpSocket, bytes: &mut [u8]) -> bool {
    let timeout = std::time::Duration::from_millis(200);
    socket.set_read_timeout(Some(timeout)).unwrap();
    socket.recv(bytes).is_ok()
}

/// They also leave probes that no rule has.
#[test]
fn probes_without_rules_give_way_to_others() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    lan.add_backend(0, "--port 1");
    let probes = pinned(&lan, "probes");
    let live = pinned(&lan, "live")
        .lookup(&[0; 4], MapFlags::ANY)
        .unwrap()
        .unwrap()[0];
    // A rule of the slot that is not live.
    let mut value = vec![0; probes.value_size() as usize];
    value[usize::from(1 - live) * 4] = 1;
    let full = (0..=u32::MAX).any(|number| {
        let key = [&number.to_ne_bytes()[..], &[99, 0, 0, 0]].concat();
        probes.update(&key, &value, MapFlags::ANY).is_err()
    });
    assert!(full);

    lan.add_backend(0, "");
    let server = lan.server_socket(0);
    lan.vm_socket().send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "hello");
    assert_eq!(tool.json("rule list").as_array().unwrap().len(), 2);
    assert_eq!(probes.keys().count(), 2);
}

/// While one backend stands, no packet sees a rule that is half changed: each is redirected.
#[test]
fn no_packet_is_missed_while_the_rules_change() {
    for mode in ["skb", "native"] {
        let lan = Lan::new(false, 2);
        let tool = lan.tool();
        tool.ok(&format!("attach lan --mode {mode}"));
        lan.add_backend(0, "");
        let vm = lan.vm_socket();
        vm.send_to(b"", ANYWHERE).unwrap();
        let before = tool.json("stats")["interfaces"][0]["actions"].clone();

        let done = AtomicBool::new(false);
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0u64;
                while !done.load(Ordering::Relaxed) {
                    vm.send_to(b"hello", ANYWHERE).unwrap();
                    sent += 1;
                }
                sent
            });
            for weight in 1..8 {
                lan.add_backend(1, &format!("--weight {weight}"));
                lan.add_backend(1, "--src 192.168.122.0/24");
                lan.add_backend(0, &format!("--weight {}", 9 - weight));
                tool.ok("rule del --src 192.168.122.0/24");
                tool.ok("rule del --server 172.17.0.3");
            }
            done.store(true, Ordering::Relaxed);
            sender.join().unwrap()
        });
        let after = tool.json("stats")["interfaces"][0]["actions"].clone();
        let grown = |action: &str| {
            let count = |stats: &serde_json::Value| stats[action]["packets"].as_u64().unwrap();
            count(&after) - count(&before)
        };
        assert!(sent > 1000, "{sent} packets test too little");
        // What a full queue of the sender's device dropped, the program never saw.
        assert_eq!(grown("redirect") + dropped_by_sender(&lan), sent, "{mode}");
    }
}

fn dropped_by_sender(lan: &Lan) -> u64 {
    let links = lan.vm.exec("ip -s -j link show dev eth0");
    let links: serde_json::Value = serde_json::from_str(&links).expect("JSON of ip");
    links[0]["stats64"]["tx"]["dropped"]
        .as_u64()
        .expect("a number")
}

/// What runs that were killed have left takes all the room there is, and goes.
#[test]
fn garbage_of_all_kinds_gives_way_at_once() {
    let lan = Lan::new(false, 2);
    let tool = lan.tool();
    tool.ok("attach lan");
    for [bitmaps, bank] in BITMAPS {
        fill(&lan, bitmaps, bank);
    }
    let origins = pinned(&lan, "locators");
    let value = vec![0; origins.value_size() as usize];
    for counter in 1_000_000..1_000_000 + origins.max_entries() {
        let key = counter.to_ne_bytes();
        origins.update(&key, &value, MapFlags::ANY).unwrap();
    }
    let ifindex = lan.host.ifindex("wan0");
    let line = |port: u16, server: &str| {
        json!({"src": "0.0.0.0/0", "proto": "udp", "port": port, "server": server, "ifindex": ifindex,
               "mac": "02:00:00:00:00:01", "origin": "route"})
    };
    let lines = (1..100).flat_map(|port| [line(port, "10.1.1.1"), line(port, "10.1.1.2")]);
    let rules: Vec<String> = lines.map(|line| line.to_string()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules.join("\n")).unwrap();
    tool.ok(&format!("rule load {}", file.path().display()));
    assert_eq!(tool.json("rule list").as_array().unwrap().len(), 198);
    assert_eq!(origins.keys().count(), 198);
}

/// The sweep for a locator comes before the rule is written.
#[test]
fn garbage_among_the_locators_gives_way_and_what_is_about_to_be_stays() {
    let lan = Lan::new(false, 2);
    let tool = lan.tool();
    tool.ok("attach lan");
    let locators = pinned(&lan, "locators");
    let value = vec![0; locators.value_size() as usize];
    for counter in 1_000_000..1_000_000 + locators.max_entries() {
        let key = counter.to_ne_bytes();
        locators.update(&key, &value, MapFlags::ANY).unwrap();
    }
    for server in ["172.17.0.2", "172.17.0.3"] {
        lan.host.ip(&format!(
            "neigh replace {server} lladdr 02:00:00:00:00:01 dev wan0 nud permanent"
        ));
    }
    tool.ok("rule add --server 172.17.0.2 --dev wan0 --snat 10.9.9.9");
    assert_eq!(tool.json("rule list").as_array().unwrap().len(), 1);
    assert_eq!(locators.keys().count(), 1);
}

/// Devices that packets were once redirected to give way to others.
#[test]
fn egress_devices_without_rules_give_way_to_others() {
    let lan = Lan::new(false, 2);
    let tool = lan.tool();
    tool.ok("attach lan");
    lan.add_backend(0, "");
    let egress = pinned(&lan, "egress");
    let wan0 = lan.host.ifindex("wan0").to_ne_bytes();
    let full = || {
        (1_000_000u32..1_100_000).any(|ifindex| {
            egress
                .update(&ifindex.to_ne_bytes(), &wan0, MapFlags::ANY)
                .is_err()
        })
    };
    assert!(lan.host.enter(full));
    lan.add_backend(1, "--port 1");
    assert_eq!(egress.keys().count(), 2);
    let server = lan.server_socket(0);
    lan.vm_socket().send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&server).0, "hello");
}

/// Whoever reads waits for nobody: not for a writer that is stopped either.
#[test]
fn readers_do_not_wait_for_a_lock() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    lan.add_backend(0, "");
    let held = fs::File::open(lan.pins.namespace()).unwrap();
    held.lock().unwrap();
    assert_eq!(tool.json("rule list").as_array().unwrap().len(), 1);
    assert_eq!(tool.json("stats")["rules"].as_array().unwrap().len(), 1);
    assert_eq!(tool.json("status")["rules"], 1);
    let run = tool.run("doctor");
    assert!(run.out.contains("1 rule,"), "{run:?}");
    held.unlock().unwrap();
}

/// The first line that a run says on standard error.
fn first_line(run: &mut Child) -> String {
    let mut line = String::new();
    let stderr = run.stderr.as_mut().expect("a pipe");
    BufReader::new(stderr).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_run_that_waits_says_for_whom() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    let namespace = lan.pins.namespace();
    let held = fs::File::open(&namespace).unwrap();
    held.lock().unwrap();
    let mut waiting = tool.spawn("rule del --if-exists");
    let said = first_line(&mut waiting);
    let pid = format!("pid {} (", std::process::id());
    for word in ["waiting", &pid, "suite", &namespace.to_string_lossy()] {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    held.unlock().unwrap();
    let run = Run::from(waiting.wait_with_output().unwrap()).ok();
    // Once is enough.
    assert_eq!(run.err, "");
}

/// Its words may be anybody's, and end at no terminal as they are.
#[test]
fn a_holder_that_is_stopped_is_told_from_one_that_works() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    let namespace = lan.pins.namespace();
    let mut holder = Command::new("flock")
        .arg(&namespace)
        .args(["sh", "-c", "echo locked; read _", "\x1b[2J"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = BufReader::new(holder.stdout.take().unwrap());
    out.read_line(&mut said).unwrap();
    let signal = |signal| kill(Pid::from_raw(holder.id() as i32), signal).unwrap();
    signal(Signal::SIGSTOP);
    let mut waiting = tool.spawn("rule del --if-exists");
    let said = first_line(&mut waiting);
    let remedy = format!("stopped: `kill -CONT {}`", holder.id());
    for word in ["(flock ", "echo locked", &remedy, r"\u{1b}[2J"] {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
    assert!(!said.contains('\x1b'), "{said:?}");
    signal(Signal::SIGCONT);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    Run::from(waiting.wait_with_output().unwrap()).ok();
}

/// Changes all rules, as fast as can be: all backends of a rule have the same new MAC address.
fn storm(lan: &Lan, done: &AtomicBool) {
    let pins = datapath::locate(Some(&lan.pins.dir())).expect("a pin directory");
    let lock = Lock::take(&pins).expect("the lock");
    let store = RuleStore::open(&pins).expect("the maps");
    let mut version = 0u32;
    while !done.load(Ordering::Relaxed) {
        let mut rules = store.list().expect("the rules");
        version += 1;
        let [a, b, c, d] = version.to_be_bytes();
        let backends = rules.iter_mut().flat_map(|rule| &mut rule.backends);
        backends.for_each(|backend| backend.adjacency.mac = Mac([2, 0, a, b, c, d]));
        let transaction = store.begin(&lock, &BTreeSet::new()).expect("it begins");
        let staged = transaction.stage(Plan::put(rules)).expect("there is room");
        staged.publish().expect("it is published");
    }
}

/// Each is as it was at one moment, with its own backends and all of them.
#[test]
fn rules_that_are_listed_while_they_change_are_whole() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan");
    for port in 1..6 {
        for server in 1..4 {
            let server = format!("10.1.{port}.{server}");
            tool.ok(&format!(
                "rule add --port {port} --server {server} --mac 02:00:00:00:00:01 --dev wan0"
            ));
        }
    }
    let done = AtomicBool::new(false);
    let listed = std::thread::scope(|scope| {
        scope.spawn(|| lan.host.enter(|| storm(&lan, &done)));
        let list = |_| tool.run("rule list --json");
        let listed: Vec<Run> = (0..50).map(list).collect();
        done.store(true, Ordering::Relaxed);
        listed
    });
    for run in listed {
        let rows = run.ok().json();
        let rows: Vec<&Value> = rows.as_array().unwrap().iter().collect();
        assert_eq!(rows.len(), 15, "{rows:#?}");
        for (rule, port) in rows.chunks(3).zip(1..) {
            for (row, server) in rule.iter().zip(1..) {
                assert_eq!(row["server"], format!("10.1.{port}.{server}"), "{rule:#?}");
                assert_eq!(row["mac"], rows[0]["mac"], "{rows:#?}");
            }
        }
    }
}

/// What is read while another run detaches was there, or is not attached.
#[test]
fn what_is_read_during_a_detach_was_there_or_is_gone() {
    let lan = &Lan::new(false, 2);
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        for words in ["rule list", "stats", "status", "doctor"] {
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let run = lan.tool().run(words);
                    match run.code {
                        0 => {}
                        7 if words == "doctor" => {}
                        _ => drop(run.fails(3, &["not attached in this network namespace"])),
                    }
                }
            });
        }
        for _ in 0..10 {
            lan.tool().ok("attach lan wan1 --no-ledger");
            lan.add_backend(0, "");
            lan.add_backend(1, "");
            lan.tool().ok("detach wan1");
            lan.tool().ok("detach --all");
        }
        done.store(true, Ordering::Relaxed);
    });
}
