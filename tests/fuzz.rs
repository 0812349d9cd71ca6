//! Parsers of what others wrote take any bytes without a panic, and what they take means the same once it is written
//! and read again. `make fuzz TIME=600` tries for longer. Needs no root.

use std::fmt::{Debug, Display};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use xdpredir::control::ruleset_file::{self, Devices, Egress};
use xdpredir::control::wanted::{self, Sought, Source, Sources};
use xdpredir::datapath::connection;
use xdpredir::host::genetlink;
use xdpredir::host::netlink::Answer;
use xdpredir::model::{
    Adjacency, Change, ConnectionFilter, ConnectionState, Locator, Mac, Rule, RuleEntry,
    RuleRecord, RuleSet,
};

/// Tries inputs for `FUZZ_SECONDS`, one if that is not set. What fails is made as small as it gets, and printed.
fn fuzz<S: Strategy>(inputs: &S, check: impl Fn(S::Value) -> TestCaseResult) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(1, |text| text.parse().expect("a number"));
    let until = Instant::now() + Duration::from_secs(seconds);
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 100_000,
        ..Config::default()
    };
    while Instant::now() < until {
        let tried = TestRunner::new(config.clone()).run(inputs, &check);
        tried.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Put(Index, u8),
    Insert(Index, Vec<u8>),
    Cut(Index, usize),
    Repeat(Index, Index),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        match self {
            Edit::Put(at, byte) if len > 0 => bytes[at.index(len)] = *byte,
            Edit::Insert(at, new) => {
                let at = at.index(len + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Cut(at, count) if len > 0 => {
                let at = at.index(len);
                bytes.drain(at..(at + count).min(len));
            }
            Edit::Repeat(from, to) if len > 0 => {
                let (from, to) = (from.index(len), to.index(len));
                let part = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(to..to, part);
            }
            _ => {}
        }
    }
}

/// Good inputs, some of them damaged.
fn damaged(good: Vec<Vec<u8>>, words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let word = select(words).prop_map(|word| word.as_bytes().to_vec());
    let insert = prop_oneof![word, vec(any::<u8>(), 1..9)];
    let edit = prop_oneof![
        any::<(Index, u8)>().prop_map(|(at, byte)| Edit::Put(at, byte)),
        (any::<Index>(), insert).prop_map(|(at, new)| Edit::Insert(at, new)),
        (any::<Index>(), 1usize..40).prop_map(|(at, count)| Edit::Cut(at, count)),
        any::<(Index, Index)>().prop_map(|(from, to)| Edit::Repeat(from, to)),
    ];
    (select(good), vec(edit, 0..6)).prop_map(|(mut bytes, edits)| {
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        bytes
    })
}

fn damaged_text(
    good: &[&str],
    words: &'static [&'static str],
) -> impl Strategy<Value = String> + use<> {
    let good = good.iter().map(|text| text.as_bytes().to_vec()).collect();
    damaged(good, words).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// What is read, written and read again is the same. True if it could be read.
fn survives_as_text<T>(text: &str) -> Result<Option<T>, TestCaseError>
where
    T: FromStr<Err: Debug> + Display + Debug + PartialEq,
{
    let Ok(value) = text.parse::<T>() else {
        return Ok(None);
    };
    let again = value.to_string().parse::<T>();
    prop_assert_eq!(&value, &again.expect("what was written can be read"));
    Ok(Some(value))
}

fn survives_as_json<T>(text: &str) -> TestCaseResult
where
    T: DeserializeOwned + Serialize + Debug + PartialEq,
{
    if let Ok(value) = serde_json::from_str::<T>(text) {
        let json = serde_json::to_string(&value).expect("what was read can be written");
        let again = serde_json::from_str::<T>(&json);
        prop_assert_eq!(value, again.expect("what was written can be read"));
    }
    Ok(())
}

#[test]
fn mac_addresses() {
    let good = ["02:42:ac:11:00:02", "2-42-AC-11-0-2"];
    fuzz(&damaged_text(&good, &[":", "00", "ff", "+1"]), |text| {
        let mac = survives_as_text::<Mac>(&text)?;
        prop_assert!(mac.is_none_or(Mac::is_unicast));
        Ok(())
    });
}

#[test]
fn locators() {
    let good = [
        "route",
        "device wan0",
        "pid 4711",
        "netns /run/netns/blue",
        "container web",
    ];
    let words = &[" ", "/", "\u{1b}[31m", "pid ", "18446744073709551616"];
    fuzz(&damaged_text(&good, words), |text| {
        let locator = survives_as_text::<Locator>(&text)?;
        let written = locator.map(|locator| locator.to_string());
        prop_assert!(
            written.is_none_or(|text| !text.contains(char::is_control)),
            "a terminal would obey it"
        );
        Ok(())
    });
}

#[test]
fn the_journal() {
    let device = r#"{"ifindex":3,"ifname":"eth0","cookie":7,"netns":"/run/netns/blue"}"#;
    let adjacency = r#"{"server":"172.17.0.2","mac":"02:42:ac:11:00:02","ifindex":25,"source_mac":"02:00:00:00:00:01","completes_checksum":true,"origin":"route"}"#;
    let matches = r#"{"src":"10.0.0.0/8","proto":"udp","port":7999,"vlan":5}"#;
    let good = [
        format!(r#"{{"Gro":{device}}}"#),
        format!(r#"{{"LinkUp":{device}}}"#),
        format!(
            r#"{{"Backend":{{"matches":{matches},"before":{adjacency},"after":{adjacency}}}}}"#
        ),
    ];
    let good = good.each_ref().map(String::as_str);
    let words = &["null", "{", "\"", "-1", "65536", "1e9", "\\u0000"];
    fuzz(&damaged_text(&good, words), |text| {
        if let Ok(change) = serde_json::from_str::<Change>(&text) {
            let _ = (change.to_string(), change.undone());
        }
        survives_as_json::<Change>(&text)
    });
}

fn read_rules(text: &str) -> anyhow::Result<Vec<Rule>> {
    Ok(ruleset_file::rules(ruleset_file::records(text)?, &Host)?.rules)
}

/// All devices are wan0, with the index 25.
struct Host;

impl Devices for Host {
    fn egress(&self, _: u32) -> anyhow::Result<Egress> {
        Ok(Egress {
            name: "wan0".into(),
            source_mac: Mac([2, 0, 0, 0, 0, 1]),
            completes_checksum: true,
        })
    }

    fn ifindex(&self, _: &str) -> anyhow::Result<u32> {
        Ok(25)
    }

    fn name(&self, _: u32) -> anyhow::Result<String> {
        Ok("wan0".into())
    }

    fn source(&self, server: IpAddr) -> anyhow::Result<IpAddr> {
        Ok(match server {
            IpAddr::V4(_) => [192, 0, 2, 254].into(),
            IpAddr::V6(_) => "2001:db8::fe".parse()?,
        })
    }
}

#[test]
fn rule_files() {
    let one = r#"{"src":"10.0.0.0/8","proto":"udp","port":7999,"server":"172.17.0.2","mac":"02:42:ac:11:00:02","ifindex":25}"#;
    let two = r#"{"src":"::/0","proto":"tcp","port":80,"server":"fd00::2","mac":"02:42:ac:11:00:02","ifindex":25,"ifname":"wan0","weight":3,"forward_packages":1,"forward_bytes":60,"vlan":5,"to_port":8080,"snat":"fd00::9","snat_auto":true,"reply":"nat","keep_ip":false,"decrement_ttl":false,"push_vlan":7,"pop_vlan":true,"state":"up","origin":"container web"}"#;
    let three = r#"{"src":"::/0","dst":"fd00::/8","proto":"any","port":"any","vlan":5,"inner_vlan":6,"in":"lan0","in_ifindex":25,"action":"forward","mac":"02:42:ac:11:00:02","ifindex":26,"too_long":"drop"}"#;
    let four =
        r#"{"src":"::/0","proto":"sctp","port":"7000-7010","in_ifindex":25,"action":"drop"}"#;
    let good = [
        one.to_string(),
        format!("{one}\n{two}\n"),
        format!("{three}\n{four}\n"),
        format!("[{one},{two}]"),
        one.replace("}", r#","keep_ip":true}"#),
    ];
    let good = good.each_ref().map(String::as_str);
    let words = &[
        "null", "\n", "[", "{", "\"", "-1", "65536", "/33", "1e9", "\\u001b", "true",
    ];
    fuzz(&damaged_text(&good, words), |text| {
        let Ok(rules) = read_rules(&text) else {
            return Ok(());
        };
        let records = rules.iter().flat_map(|rule| {
            let backends = rule.backends.iter();
            let backends = backends.map(move |backend| RuleRecord::new(rule, backend));
            let alone = rule.backends.is_empty().then(|| RuleRecord::of(rule));
            backends.chain(alone)
        });
        let line = |record| serde_json::to_string(&record).expect("a rule can be written");
        let records = records.map(line);
        let again = read_rules(&records.collect::<Vec<_>>().join("\n"));
        prop_assert_eq!(rules, again.expect("what was written can be read"));
        Ok(())
    });
}

/// Each server is behind wan0.
impl wanted::Host for Host {
    fn find(&self, sought: &Sought) -> anyhow::Result<Adjacency> {
        let egress = self.egress(25)?;
        Ok(Adjacency {
            server: sought.server.unwrap_or([192, 0, 2, 7].into()),
            mac: sought.mac.unwrap_or(Mac([2, 0, 0, 0, 0, 7])),
            source_mac: egress.source_mac,
            ifindex: 25,
            completes_checksum: egress.completes_checksum,
        })
    }

    fn started(&self, _: u32) -> anyhow::Result<u64> {
        Ok(9)
    }
}

/// The rules that a text wants.
fn understand(name: &str, text: String) -> anyhow::Result<Vec<Rule>> {
    let name = name.to_string();
    let sources = Sources(vec![Source { name, text }]);
    let src = "10.0.0.0/8".parse().ok();
    let wanted = wanted::understand(&sources, src, &Host, |_, _| ())?;
    Ok(wanted.rules.into_iter().map(|wanted| wanted.rule).collect())
}

#[test]
fn rule_sets_in_files() {
    let toml = r#"group = "netops"
connections = 9000
snat_ports = "2000-3000"
[[interface]]
name = "wan0"
mode = "skb"
policy = "forward:wan0"
[[rule]]
dst = "fd00::/8"
src = "::/0"
proto = "tcp"
port = "7000-7010"
vlan = 5
inner_vlan = 6
in = "lan0"
reply = "nat"
snat = "auto"
sticky = true
[[rule.backend]]
server = "fd00::2"
container = "web"
weight = 2
to_port = 80
[[rule.backend]]
server = "fd00::3"
mac = "02:42:ac:11:00:02"
device = "wan0"
[[rule]]
action = "forward"
device = "wan0"
[[rule]]
dst = "10.0.0.0/8"
[[rule.backend]]
pid = 5
"#;
    let json = r#"{"interface":[{"name":"a"}],"rule":[{"src":"10.0.0.0/8","backend":[{"server":"172.17.0.2","netns":"x"}],"reply":"direct"}]}"#;
    let row = r#"{"src":"10.0.0.0/8","proto":"udp","port":7999,"server":"172.17.0.2","mac":"02:42:ac:11:00:02","ifindex":25,"origin":"pid 5 started 9"}"#;
    let demo = r#"[{"server": "172.17.0.2", "mac": "02:42:ac:11:00:02", "ifindex": 25}]"#;
    let rows = format!("{row}\n{}\n", row.replace("0.2", "0.3"));
    let good = [toml, json, row, demo, &rows];
    assert!(
        good.iter()
            .all(|text| understand("-", text.to_string()).is_ok())
    );
    let words = &[
        "null",
        "\n",
        "[",
        "[[rule]]",
        "{",
        "\"",
        "-1",
        "65536",
        "/33",
        "1e9",
        "\\u001b",
        "true",
        "route = true",
        "\u{fffd}",
        "''",
        "#",
        "\"keep_ip\":true,",
    ];
    fuzz(&damaged_text(&good, words), |text| {
        for name in ["a.toml", "a.json", "-"] {
            let rules = match understand(name, text.clone()) {
                Ok(rules) => rules,
                Err(error) => {
                    let line = format!("{error:#}");
                    prop_assert!(line.starts_with(name), "{}", line);
                    continue;
                }
            };
            let device = |ifindex: u32| (ifindex == 25).then(|| "wan0".to_string());
            let entries = rules.iter().map(|rule| RuleEntry::of(rule, device));
            let whole = RuleSet {
                rule: Some(entries.collect()),
                ..RuleSet::default()
            };
            let toml = toml::to_string(&whole).expect("it can be written");
            let json = serde_json::to_string(&whole).expect("it can be written");
            for (name, text) in [("again.toml", toml), ("again.json", json)] {
                let again = understand(name, text);
                prop_assert_eq!(&rules, &again.expect("what was written can be read"));
            }
        }
        Ok(())
    });
}

/// What this kernel answers to questions for links, addresses, routes and neighbours.
fn answers() -> Vec<Vec<u8>> {
    const QUESTIONS: [u16; 4] = [18, 22, 26, 30]; // RTM_GETLINK, _GETADDR, _GETROUTE, _GETNEIGH
    const DUMP: u16 = 0x301; // NLM_F_REQUEST | NLM_F_DUMP
    let mut answers = Vec::new();
    for question in QUESTIONS {
        let socket = Socket::new(NETLINK_ROUTE).expect("a socket");
        let mut request = 36u32.to_ne_bytes().to_vec();
        request.extend(question.to_ne_bytes());
        request.extend(DUMP.to_ne_bytes());
        request.resize(36, 0);
        socket.send(&request, 0).expect("the kernel listens");
        socket.set_non_blocking(true).expect("a plain socket");
        loop {
            match socket.recv_from_full() {
                Ok((answer, _)) => answers.push(answer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    answers
}

#[test]
fn netlink_answers() {
    fuzz(&damaged(answers(), &["\0\0\0\0", "\u{7f}"]), |answer| {
        let _ = Answer::<RouteNetlinkMessage>::to(0, true).take(&answer);
        let _ = Answer::<genetlink::Message>::to(0, true).take(&answer);
        Ok(())
    });
}

/// An entry of the table of connections: see bpf/abi/connection.h.
fn entry(way: u8, family: u8, ports: [u16; 2], addrs: &[u8]) -> Vec<u8> {
    let mut bytes = 7_000_000_000u64.to_ne_bytes().to_vec();
    bytes.extend(ports.map(u16::to_be_bytes).concat());
    bytes.extend(
        (u32::from(family) << 24 | 6 << 16 | 5)
            .to_ne_bytes()
            .as_slice(),
    );
    bytes.extend(addrs);
    bytes.resize(60, 0);
    bytes.extend([4, way]);
    bytes.resize(80, 0);
    bytes.extend(8u32.to_ne_bytes());
    bytes.resize(128, 0);
    bytes
}

/// Whoever may change rules can write anything there.
#[test]
fn entries_of_connections() {
    let (v4, v6): (Vec<u8>, Vec<u8>) = ((1..9).collect(), (1..33).collect());
    let pair = |family, addrs: &[u8]| {
        let request = entry(0, family, [40000, 80], addrs);
        [request, entry(1, family, [8080, 40000], addrs)].concat()
    };
    let good = vec![pair(4, &v4), pair(6, &v6), pair(132, &v4)];
    let read = |bytes: &[u8]| {
        let (request, answer) = bytes.split_at(128);
        let now = Duration::from_secs(10);
        connection(request.try_into().unwrap(), answer.try_into().unwrap(), now)
    };
    let found = read(&good[0]).expect("it is good");
    assert_eq!((found.src, found.src_port), ([1, 2, 3, 4].into(), 40000));
    assert_eq!((found.dst, found.port), ([5, 6, 7, 8].into(), 80));
    assert_eq!((found.server_port, found.snat_port), (8080, 40000));
    assert_eq!(found.state, ConnectionState::Established);
    assert_eq!((found.age, found.idle), (3, 2));
    assert!(read(&good[2]).expect("it is good").reply.is_none());
    fuzz(&damaged(good, &["\0\0\0\0", "\u{7f}"]), |mut bytes| {
        bytes.resize(256, 0);
        if let Some(found) = read(&bytes) {
            prop_assert!(found.idle <= 7440);
            prop_assert!(ConnectionState::ALL.contains(&found.state));
            serde_json::to_string(&found).expect("it can be written");
            prop_assert!(ConnectionFilter::default().selects(&found));
        }
        Ok(())
    });
}
