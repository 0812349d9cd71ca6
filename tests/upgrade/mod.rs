//! One version of the command takes over what another one attached, and the other way round.

mod other;

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::foreign::{Foreign, XDP};
use crate::fixture::guest::{modes_and_kernels, without_tcx};
use crate::fixture::lan::socket;
use crate::fixture::other_kernel::Kernel;
use crate::fixture::routed::{Between, Routed, V4};
use crate::fixture::{self, Ns, Run, kill};
use nix::libc::EACCES;
use other::{Version, other_name};
use serde_json::{Value, json};
use xdpredir::datapath::VERSION;

const ECHO: u16 = 80;
const ONE_WAY: u16 = 7999;
const XDP_DROP: i32 = 1;

/// So that traffic leaves a CPU to the versions.
const PAUSE: Duration = Duration::from_micros(500);

/// The program is attached where requests and where answers arrive.
struct Bed {
    routed: Routed,
    this: Version,
    other: Version,
}

impl Bed {
    fn new(mode: &str, other: Version) -> Self {
        let routed = Routed::new(Between::Veth);
        if mode == "native" {
            routed.client.exec("ethtool -K eth0 gro on");
            routed.server.exec("ethtool -K eth0 gro on");
        }
        let bed = Bed {
            routed,
            this: Version::this(),
            other,
        };
        bed.other(&format!("attach lan wan --mode {mode}")).ok();
        let (server, elsewhere) = (V4.server, V4.elsewhere);
        for (port, reply) in [(ECHO, "nat"), (ONE_WAY, "none")] {
            bed.other(&format!(
                "rule add --dst {elsewhere} --port {port} --reply {reply} --server {server} --to-port {port}"
            ))
            .ok();
        }
        bed
    }

    fn host(&self) -> &Ns {
        &self.routed.host
    }

    fn this(&self, words: &str) -> Run {
        self.this.run(self.host(), &self.routed.pins, words)
    }

    fn other(&self, words: &str) -> Run {
        self.other.run(self.host(), &self.routed.pins, words)
    }

    fn json(&self, words: &str) -> Value {
        self.this(&format!("{words} --json")).ok().json()
    }

    /// The versions of the interfaces.
    fn versions(&self) -> Vec<Value> {
        let status = self.json("status");
        let all = status["interfaces"].as_array().expect("interfaces");
        all.iter().map(|i| i["version"].clone()).collect()
    }

    fn pin(&self, path: &str) -> PathBuf {
        self.routed.pins.namespace().join("state").join(path)
    }

    /// The directory of an interface's pins.
    fn pins_of(&self, device: &str) -> String {
        format!("if-{}", self.host().ifindex(device))
    }

    /// Packets that rules have redirected at lan.
    fn redirected(&self) -> u64 {
        let stats = self.json("stats");
        let mut all = stats["interfaces"].as_array().expect("interfaces").iter();
        let lan = all.find(|i| i["ifname"] == "lan").expect("it is attached");
        lan["outcomes"]["redirected"]["packets"]
            .as_u64()
            .expect("a number")
    }

    /// A client of the echo, which remembers one connection.
    fn client(&self) -> UdpSocket {
        let client = socket(&self.routed.client, "192.168.122.10:40000");
        client.connect((V4.elsewhere, ECHO)).expect("an address");
        client
    }

    fn server(&self, port: u16) -> UdpSocket {
        let server = socket(&self.routed.server, &format!("0.0.0.0:{port}"));
        // Runs that are killed take their time.
        let minutes = Some(Duration::from_secs(300));
        server.set_read_timeout(minutes).expect("a timeout");
        server
    }
}

/// Sends back what comes, until that is empty.
fn echo(server: &UdpSocket) {
    let mut buffer = [0; 100];
    loop {
        let (size, from) = server.recv_from(&mut buffer).expect("somebody asks");
        server.send_to(&buffer[..size], from).expect("sent");
        if size == 0 {
            return;
        }
    }
}

fn asks(client: &UdpSocket, number: u64) {
    let mut buffer = [0; 100];
    client.send(&number.to_ne_bytes()).expect("sent");
    let size = client.recv(&mut buffer).expect("the answer arrives");
    assert_eq!(buffer[..size], number.to_ne_bytes());
}

/// While a client asks and waits for each answer, and another one sends without waiting.
#[test]
fn programs_are_replaced_both_ways_under_traffic_and_no_packet_is_lost_or_misdelivered() {
    let others = || [Version::renamed()].into_iter().chain(Version::released());
    for (mode, kernel) in modes_and_kernels() {
        for other in others() {
            let is_mutual = other.takes_over();
            if !is_mutual && kernel.is_some() {
                continue; // that release had no filters
            }
            let bed = Bed::new(mode, other);
            let ids = |bed: &Bed| ["lan", "wan"].map(|name| id(&bed.json("status"), name));
            let (answering, taking) = (bed.server(ECHO), bed.server(ONE_WAY));
            let (client, sender) = (bed.client(), socket(&bed.routed.client, "0.0.0.0:0"));
            let done = AtomicBool::new(false);
            let (asked, sent) = (AtomicU64::new(0), AtomicU64::new(0));
            let mut keeps = true;
            let received = thread::scope(|scope| {
                scope.spawn(|| echo(&answering));
                let taking = scope.spawn(|| take_all(&taking));
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        asks(&client, asked.fetch_add(1, Ordering::Relaxed));
                        thread::sleep(PAUSE);
                    }
                    client.send(&[]).expect("sent");
                });
                scope.spawn(|| {
                    let to = (V4.elsewhere, ONE_WAY);
                    while !done.load(Ordering::Relaxed) {
                        sender.send_to(b"one way", to).expect("sent");
                        if sent.fetch_add(1, Ordering::Relaxed) % 20 == 0 {
                            thread::sleep(PAUSE);
                        }
                    }
                    sender.send_to(b"", to).expect("sent");
                });
                let end = End(&done);
                let mut before = None;
                for _ in 0..if is_mutual { 2 } else { 1 } {
                    keeps &= keeps_outcomes(&bed.this("upgrade --json").ok());
                    let now = ids(&bed);
                    assert_ne!(before.replace(now), Some(now), "{mode}");
                    let again = bed.other(if is_mutual { "upgrade" } else { "status" });
                    assert_eq!(again.code, if is_mutual { 0 } else { 4 }, "{again:?}");
                }
                bed.this("attach lan").ok();
                drop(end);
                taking.join().expect("it takes all")
            });
            let (asked, sent) = (asked.into_inner(), sent.into_inner());
            assert!(
                asked > 100 && sent > 1000,
                "{asked} and {sent} test too little"
            );
            // What a full queue of a device or socket dropped is not the program's.
            assert!(received <= sent, "{received} of {sent}");
            let dropped = dropped_by(&bed.routed.client);
            let rows = bed.json("rule list");
            let counted = |row: usize| rows[row]["forward_packages"].as_u64().expect("a count");
            let all = counted(0) + counted(1);
            assert_eq!(all + dropped, asked + 1 + sent + 1, "{mode}: {rows}");
            assert!(bed.redirected() == all || !keeps && bed.redirected() < all);
            let flows = bed.json("flow list");
            assert_eq!(flows.as_array().expect("connections").len(), 1, "{flows}");
        }
    }
}

/// Whether the counters of outcomes are those of the version before.
fn keeps_outcomes(upgrade: &Run) -> bool {
    let report = upgrade.json();
    let all = report["taken_over"].as_array().expect("interfaces");
    all.iter().all(|i| i["counters_kept"] == true)
}

/// Ends the traffic, and also where the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many came until an empty one, each as it was sent.
fn take_all(server: &UdpSocket) -> u64 {
    let mut buffer = [0; 100];
    let mut count = 0;
    loop {
        let size = server.recv(&mut buffer).expect("more comes");
        match &buffer[..size] {
            b"" => return count,
            bytes => assert_eq!(bytes, b"one way"),
        }
        count += 1;
    }
}

/// What the queue of its device had no room for.
fn dropped_by(ns: &Ns) -> u64 {
    let link: Value = serde_json::from_str(&ns.ip("-s -j link show eth0")).expect("JSON of ip");
    link[0]["stats64"]["tx"]["dropped"]
        .as_u64()
        .expect("a number")
}

fn id(status: &Value, name: &str) -> u64 {
    u64::from(fixture::run::on_interface(status, name))
}

#[test]
fn status_says_which_version_attached_what_and_attach_takes_over_as_well() {
    let bed = Bed::new("skb", Version::renamed());
    let (ours, others) = (json!(VERSION), json!(other_name()));
    assert_eq!(bed.versions(), [&others, &others].map(Clone::clone));
    assert_eq!(bed.json("status")["version"], ours);
    let said = bed.this("status").ok().out;
    let line = format!("lan: attached by another version, {}", other_name());
    assert!(said.contains(&line) && said.contains("upgrade"), "{said}");

    let links = |bed: &Bed| {
        let status = bed.json("status");
        [0, 1].map(|i: usize| status["interfaces"][i]["link_id"].clone())
    };
    let before = links(&bed);
    let taken = bed.json("upgrade");
    assert_eq!(taken["version"], ours);
    assert_eq!(
        taken["taken_over"][0],
        json!({"ifname": "lan", "ifindex": bed.host().ifindex("lan"), "mode": "skb", "from": others, "counters_kept": true})
    );
    assert_eq!(taken["taken_over"].as_array().expect("an array").len(), 2);
    assert_eq!(bed.versions(), [&ours, &ours].map(Clone::clone));
    assert_eq!(links(&bed), before);
    assert_eq!(bed.json("upgrade")["taken_over"], json!([]));
    assert!(!bed.this("status").ok().out.contains("another version"));

    let again = bed.other("attach lan").ok();
    assert!(
        again.out.contains("wan: taken over") && again.out.contains("already attached"),
        "{again:?}"
    );
    assert_eq!(bed.versions(), [&others, &others].map(Clone::clone));
    bed.this("detach --all").ok();
    assert!(bed.routed.pins.left().is_empty());
    bed.this("upgrade").fails(3, &["not attached", "attach"]);
}

/// Also where a program of others was taken in, whose link is theirs.
#[test]
fn a_chain_stays_where_another_version_takes_over() {
    let bed = Bed::new("skb", Version::renamed());
    bed.other("detach lan --keep-rules").ok();
    let theirs = bed.routed.pins.dir().with_file_name("theirs");
    Foreign::of_port("taken_in", 7001, XDP_DROP).link(bed.host(), "lan", "skb", &theirs);
    bed.other("attach lan --chain-foreign").ok();
    let path = bed.routed.pins.dir().with_file_name("pass");
    Foreign::returning("pass", 2, XDP).pin(&path);
    bed.other(&format!("chain add lan {}", path.display())).ok();
    let server = bed.server(ECHO);
    let client = bed.client();
    let chain = |bed: &Bed| {
        let list = bed.json("chain list lan");
        let all = list[0]["programs"].as_array().expect("programs").clone();
        all.into_iter()
            .map(|p| p["name"].clone())
            .collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        scope.spawn(|| echo(&server));
        let mut passed = 0;
        for turn in 0..4 {
            asks(&client, turn);
            match turn % 2 {
                0 => bed.this("upgrade").ok(),
                _ => bed.other("upgrade").ok(),
            };
            assert_eq!(chain(&bed), ["taken_in", "pass"]);
            let stats = bed.json("stats");
            let now = stats["interfaces"][0]["chain"][1]["pass"].as_u64();
            assert!(now > Some(passed), "counts go on: {stats:#}");
            passed = now.expect("a number");
        }
        client.send(&[]).expect("sent");
    });
    bed.this("upgrade").ok();
    bed.this("detach --all").ok();
    let link = bed.host().ip("-d link show lan");
    assert!(link.contains("taken_in"), "{link}");
    assert_eq!(bed.routed.pins.left(), [path, theirs]);
}

/// Each interface has a whole program, on the same maps: by a filter the one, by a link the other.
#[test]
fn an_upgrade_killed_at_any_instant_leaves_programs_that_work_and_is_done_again() {
    let _kernel = without_tcx().next();
    let bed = Bed::new("tc", Version::renamed());
    bed.other("detach wan").ok();
    bed.other("attach wan --mode skb").ok();
    let server = bed.server(ECHO);
    let client = bed.client();
    let ours = || {
        bed.versions()
            .iter()
            .filter(|version| **version == VERSION)
            .count()
    };
    thread::scope(|scope| {
        scope.spawn(|| echo(&server));
        let mut seen = [0; 3];
        let upgrade = || bed.this.command(bed.host(), &bed.routed.pins, "upgrade");
        let changes = kill::count_changes(&mut upgrade());
        bed.other("upgrade").ok();
        for n in kill::mostly_the_last(changes, 20) {
            assert!(kill::before_change(&mut upgrade(), n), "{n} of {changes}");
            asks(&client, n as u64);
            let replaced = ours();
            seen[replaced] += 1;
            // What was not done is not much else than before.
            if replaced > 0 || seen[0] % 4 == 0 {
                bed.this("upgrade").ok();
                assert_eq!(bed.versions(), [VERSION, VERSION]);
                asks(&client, n as u64);
            }
            // This removes what else the killed run has left.
            bed.other("upgrade").ok();
        }
        assert!(seen.iter().all(|&times| times > 0), "{seen:?}");
        client.send(&[]).expect("sent");
    });
    let flows = bed.json("flow list");
    assert_eq!(flows.as_array().expect("connections").len(), 1, "{flows}");
    bed.this("detach --all").ok();
    assert!(bed.routed.pins.left().is_empty());
}

/// Maps of other schemas: those that an interface can have anew, and those that the rules are in.
#[test]
fn maps_of_other_schemas_are_made_anew_or_the_upgrade_is_refused() {
    let bed = Bed::new("skb", Version::renamed());
    let lan = bed.pins_of("lan");
    let renamed = |map: &str, to: &str| {
        let (at, name) = map
            .rsplit_once('/')
            .map_or(("", map), |(at, name)| (at, name));
        let directory = bed.pin(at);
        let mut names = fs::read_dir(&directory)
            .expect("pins")
            .flatten()
            .map(|pin| pin.file_name().into_string().unwrap());
        let is_it = |pin: &String| {
            pin.rsplit_once('-')
                .is_some_and(|(map, number)| map == name && number.parse::<u32>().is_ok())
        };
        let pin = names.find(is_it).expect("it is pinned");
        fs::rename(directory.join(&pin), directory.join(to)).expect("pins can be renamed");
        (directory.join(to), directory.join(pin))
    };
    let server = bed.server(ECHO);
    let client = bed.client();
    let works = || {
        thread::scope(|scope| {
            scope.spawn(|| echo(&server));
            asks(&client, 7);
            client.send(&[]).expect("sent");
            client.recv(&mut [0; 9]).expect("the last answer");
        });
    };
    works();
    assert_eq!(bed.redirected(), 2);

    // Both ways: a newer one, and the oldest that says enough.
    for config in ["config-99", "config-6"] {
        renamed(&format!("{lan}/config"), config);
        for words in ["status", "rule list", "stats", "rule del --all"] {
            bed.this(words).fails(
                4,
                &["another version", "the map config has schema", "upgrade"],
            );
        }
        let doctor = bed.this("doctor");
        assert!(
            doctor.code == 7 && doctor.out.contains("upgrade"),
            "{doctor:?}"
        );
        bed.this("upgrade").ok();
        assert_eq!(bed.versions(), [VERSION, VERSION]);
        works();
        bed.other("upgrade").ok();
    }
    assert_eq!(bed.redirected(), 6);

    renamed(&format!("{lan}/outcomes"), "outcomes-99");
    let said = bed.this("upgrade").ok().out;
    assert!(
        said.contains("its counters of outcomes begin at zero"),
        "{said}"
    );
    assert_eq!(bed.redirected(), 0);
    works();
    assert_eq!(bed.redirected(), 2);
    bed.other("upgrade").ok();

    fs::remove_file(renamed("paired", "gone").0).expect("it is there");
    bed.this("status")
        .fails(4, &["another version", "it has no map paired", "upgrade"]);
    bed.this("upgrade").ok();
    works();
    bed.other("upgrade").ok();

    bed.this("detach --all --keep-rules").ok();
    fs::remove_file(renamed("paired", "gone").0).expect("it is there");
    bed.this("upgrade").fails(4, &["the map paired", "attach"]);
    bed.this("attach lan wan --mode skb").ok();
    works();
    bed.other("upgrade").ok();

    let ids = [0, 1].map(|i: usize| bed.json("status")["interfaces"][i]["program_id"].clone());
    for (map, to) in [
        ("ports", "ports-99"),
        (&format!("{lan}/policy"), "policy-99"),
    ] {
        let (now, was) = renamed(map, to);
        for words in ["upgrade", "attach lan", "detach --all", "status"] {
            bed.this(words)
                .fails(4, &["another version", "schema 99", "rule list --json"]);
        }
        fs::rename(now, was).expect("and back");
    }
    let now = [0, 1].map(|i: usize| bed.json("status")["interfaces"][i]["program_id"].clone());
    assert_eq!(now, ids);
    works();
}

#[test]
fn an_upgrade_that_the_kernel_refuses_changes_nothing() {
    let bed = Bed::new("skb", Version::renamed());
    let (before, pins) = (bed.json("status"), bed.routed.pins.left());
    let kernel = Kernel::refusing("xdpredir", EACCES, "R4 invalid zero-sized read").played();
    for words in ["upgrade", "attach lan"] {
        bed.this(words).fails(6, &["xdpredir", "R4 invalid"]);
    }
    drop(kernel);
    assert_eq!(bed.json("status"), before);
    assert_eq!(bed.routed.pins.left(), pins);
}

#[test]
fn interfaces_whose_program_is_not_there_stay_or_go_with_their_device() {
    let bed = Bed::new("skb", Version::renamed());
    let elsewhere = Ns::new("elsewhere");
    let lan = bed.pins_of("lan");
    bed.host()
        .ip(&format!("link set lan netns {}", elsewhere.name));
    let taken = bed.json("upgrade");
    assert_eq!(taken["taken_over"].as_array().expect("an array").len(), 1);
    let status = bed.json("status");
    let states = [0, 1].map(|i: usize| {
        [
            &status["interfaces"][i]["state"],
            &status["interfaces"][i]["version"],
        ]
        .map(Clone::clone)
    });
    assert!(
        states.contains(&[json!("moved"), json!(other_name())]),
        "{status}"
    );
    assert!(
        states.contains(&[json!("attached"), json!(VERSION)]),
        "{status}"
    );

    let directory = bed.pin(&lan);
    let pins = fs::read_dir(&directory)
        .expect("pins")
        .flatten()
        .map(|pin| pin.path());
    let config = pins
        .into_iter()
        .find(|pin| pin.to_string_lossy().contains("/config-"));
    fs::rename(config.expect("it is pinned"), directory.join("config-99")).expect("it is renamed");
    bed.this("upgrade")
        .fails(4, &["lan", "no longer there", "detach lan"]);
    bed.this("detach lan").ok();
    bed.this("status").ok();

    bed.other("upgrade").ok();
    bed.host().ip("link del wan");
    assert_eq!(bed.json("upgrade")["taken_over"], json!([]));
    assert_eq!(bed.json("status")["interfaces"], json!([]));
}
