//! A file of rules: one JSON object a line or an array of them, as `rule list` prints them.

mod action;
mod backend;
mod devices;
mod read;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use anyhow::{Result, ensure};

use self::action::without_backends;
use self::backend::add_backend;
pub(super) use self::devices::Asked;
pub use self::devices::{Devices, Egress};
pub use self::read::records;
use super::validate;
use crate::error::{Coded, Exit, Failure, failure, one_line};
use crate::model::{ActionKind, Match, Rule, RuleRecord};

/// The records of a file, each with its place.
pub type Records = Vec<(Place, RuleRecord)>;

/// Where in a file a record is: the line, or the rule of an array, counted from 1.
pub type Place = (&'static str, usize);

/// The rules of a file, in the order in which they come there.
#[derive(Debug, PartialEq)]
pub struct Rules {
    pub rules: Vec<Rule>,
    /// The places of those that do not say how answers come back.
    pub open: Vec<usize>,
}

/// The same while it is read.
#[derive(Default)]
struct Reading {
    all: Vec<Rule>,
    /// Of each, whether it says how answers come back.
    says_reply: Vec<bool>,
    /// Where the rule with a match is.
    places: HashMap<Match, usize>,
}

/// Makes rules of records.
pub fn rules(records: Records, devices: &impl Devices) -> Result<Rules> {
    let mut asked = Asked::new(devices);
    let mut rules = Reading::default();
    for (place, record) in records {
        let added = add(&mut rules, record, &mut asked);
        added.map_err(|error| Failure::new(At(place, error)))?;
    }
    let open = rules.says_reply.iter().enumerate();
    let open = open.filter(|(_, says)| !**says).map(|(place, _)| place);
    Ok(Rules {
        open: open.collect(),
        rules: rules.all,
    })
}

/// An error in a record.
#[derive(Debug)]
struct At(Place, anyhow::Error);

impl Coded for At {
    fn exit(&self) -> Exit {
        crate::error::exit_code(&self.1)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.0, self.0.1, one_line(&self.1))
    }
}

pub(super) fn bad(message: String) -> anyhow::Error {
    failure(Exit::Usage, message)
}

fn add(rules: &mut Reading, mut record: RuleRecord, asked: &mut Asked<impl Devices>) -> Result<()> {
    record.in_ifindex = asked.ingress(&record)?;
    let matches = record.matches();
    validate::matches(&matches)?;
    let place = rules.places.entry(matches);
    let is_new = matches!(place, Entry::Vacant(_));
    let place = *place.or_insert(rules.all.len());
    if record.action == ActionKind::Redirect {
        if is_new {
            rules.all.push(Rule::new(matches));
            rules.says_reply.push(false);
        }
        let says_reply = &mut rules.says_reply[place];
        return add_backend(&mut rules.all[place], says_reply, record, asked);
    }
    let twice = || format!("{}: this rule is in the file twice", record.matches_text());
    ensure!(is_new, bad(twice()));
    rules.all.push(without_backends(matches, &record, asked)?);
    rules.says_reply.push(true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::{Mac, Reply, Snat, TooLong};

    fn line(server: &str, more: &str) -> String {
        format!(
            r#"{{"src":"10.0.0.0/8","proto":"udp","port":53,"server":"{server}","mac":"2:0:0:0:0:1","ifindex":4{more}}}"#
        )
    }

    /// All egress devices are out0, and the interface in0 has index 3.
    struct Host;

    impl Devices for Host {
        fn egress(&self, _: u32) -> Result<Egress> {
            Ok(Egress {
                name: "out0".into(),
                source_mac: Mac([2, 0, 0, 0, 0, 9]),
                completes_checksum: true,
            })
        }

        fn ifindex(&self, name: &str) -> Result<u32> {
            ensure!(name == "in0", bad(format!("no device {name}")));
            Ok(3)
        }

        fn name(&self, ifindex: u32) -> Result<String> {
            ensure!(ifindex == 3, bad(format!("no ifindex {ifindex}")));
            Ok("in0".into())
        }

        fn source(&self, _: IpAddr) -> Result<IpAddr> {
            Ok([10, 1, 1, 254].into())
        }
    }

    fn parse(text: &str) -> Result<Vec<Rule>> {
        Ok(rules(records(text)?, &Host)?.rules)
    }

    #[test]
    fn how_answers_come_back_may_be_left_open() {
        let (open, nat) = (line("10.1.1.1", ""), r#","reply":"nat""#);
        let read = |lines: &[String]| rules(records(&lines.join("\n")).unwrap(), &Host).unwrap();
        assert_eq!(read(std::slice::from_ref(&open)).open, [0]);
        for pair in [
            [open.clone(), line("10.1.1.2", nat)],
            [line("10.1.1.2", nat), open.clone()],
        ] {
            let read = read(&pair);
            assert_eq!(
                (read.open.len(), read.rules[0].reply),
                (0, crate::model::Reply::Nat)
            );
        }
        refused(
            &[
                line("10.1.1.2", nat),
                line("10.1.1.3", r#","reply":"none""#),
            ],
            "line 2: src 10.0.0.0/8 udp port 53: backends with different reply",
        );
    }

    fn refused(lines: &[String], said: &str) {
        let error = parse(&lines.join("\n")).expect_err(said);
        let text = one_line(&error);
        assert!(text.starts_with(said), "{text}");
        assert_eq!(crate::error::exit_code(&error), Exit::Usage);
    }

    #[test]
    fn lines_and_an_array_are_the_same_rules() {
        let lines = [line("10.1.1.2", ""), String::new(), line("10.1.1.1", "")];
        let array = format!(" [{},{}]", lines[2], lines[0]);
        let rules = parse(&lines.join("\n")).unwrap();
        assert_eq!(rules, parse(&array).unwrap());
        assert_eq!((rules.len(), rules[0].backends.len()), (1, 2));
        assert_eq!(rules[0].backends[0].source_mac, Mac([2, 0, 0, 0, 0, 9]));
    }

    #[test]
    fn what_belongs_to_the_rule_is_the_same_for_all_its_backends() {
        let (one, snat) = (line("10.1.1.1", ""), r#","snat":"10.1.1.9""#);
        refused(
            &[one.clone(), line("10.1.1.2", snat)],
            "line 2: src 10.0.0.0/8 udp port 53: backends with different snat",
        );
        refused(
            &[one, line("10.1.1.2", r#","decrement_ttl":false"#)],
            "line 2: src 10.0.0.0/8 udp port 53: backends with different decrement_ttl",
        );
        let sticky = line("10.1.1.2", r#","sticky":true"#);
        refused(
            &[line("10.1.1.1", r#","keep_ip":true"#), sticky],
            "line 2: src 10.0.0.0/8 udp port 53: backends with different sticky",
        );
        let keeps = line("10.1.1.1", r#","keep_ip":true"#);
        let rules = parse(&format!("{keeps}\n{}", line("10.1.1.2", snat))).unwrap();
        assert_eq!(rules[0].snat, Some(Snat::Address([10, 1, 1, 9].into())));
        assert_eq!(rules[0].snat_of(&rules[0].backends[0]), None);
    }

    #[test]
    fn a_source_that_was_found_is_kept_or_found_again() {
        let auto = r#","snat_auto":true"#;
        let kept = line("10.1.1.1", &format!(r#"{auto},"snat":"10.1.1.9""#));
        let rules = parse(&format!("{kept}\n{}", line("10.1.1.2", auto))).unwrap();
        assert_eq!(
            (rules[0].snat, rules[0].reply),
            (Some(Snat::Auto), Reply::Nat)
        );
        let source = |n: usize| rules[0].snat_of(&rules[0].backends[n]);
        assert_eq!(source(0), Some([10, 1, 1, 9].into()));
        assert_eq!(source(1), Some([10, 1, 1, 254].into()));
        let none = line("10.1.1.1", &format!(r#"{auto},"reply":"none""#));
        refused(
            &[none],
            "line 1: reply none: with snat auto the server answers",
        );
        let keeps = line("10.1.1.1", &format!(r#"{auto},"keep_ip":true"#));
        refused(&[keeps], "line 1: keep_ip with to_port or snat");
    }

    #[test]
    fn rules_without_backends_are_read_and_written() {
        let lines = [
            r#"{"src":"::/0","proto":"icmp","port":"any","action":"pass","in":"in0"}"#,
            r#"{"src":"::/0","proto":"tcp","port":"1-9","action":"drop","in_ifindex":3}"#,
            r#"{"src":"::/0","dst":"fd00::/8","proto":"any","port":"any","action":"forward","ifindex":4,
                "mac":"2:0:0:0:0:1","too_long":"drop"}"#,
        ];
        let lines = lines.map(|line| line.replace('\n', ""));
        let rules = parse(&lines.join("\n")).unwrap();
        let kinds: Vec<ActionKind> = rules.iter().map(|rule| rule.action.kind()).collect();
        let in_order = [ActionKind::Pass, ActionKind::Drop, ActionKind::Forward];
        assert_eq!(kinds, in_order);
        assert_eq!(rules[2].too_long, TooLong::Drop);
        let in0 = [0, 1].map(|number: usize| rules[number].matches.ingress);
        assert_eq!(in0, [Some(3), Some(3)]);
        let json = |rule| serde_json::to_string(&RuleRecord::of(rule)).unwrap();
        let again: Vec<String> = rules.iter().map(json).collect();
        assert_eq!(parse(&again.join("\n")).unwrap(), rules);
    }

    #[test]
    fn what_an_action_does_not_take_is_refused() {
        let line = |proto: &str, more: &str| {
            format!(r#"{{"src":"10.0.0.0/8","proto":"{proto}","port":"any",{more}}}"#)
        };
        let udp = |more: &str| line("udp", more);
        let backend = r#""server":"10.1.1.1","mac":"2:0:0:0:0:1","ifindex":4"#;
        for (line, said) in [
            (udp(r#""action":"redirect""#), "redirect without server"),
            (udp(r#""action":"forward""#), "forward without ifindex"),
            (
                udp(r#""action":"pass","weight":2"#),
                "action pass: takes no server",
            ),
            (
                udp(r#""action":"pass","marked_down":true"#),
                "action pass: takes no server",
            ),
            (
                udp(r#""action":"drop","pop_vlan":true"#),
                "action drop: takes no server",
            ),
            (
                udp(r#""action":"pass","reply":"nat""#),
                "action pass: takes no server",
            ),
            (
                udp(r#""action":"drop","reply":"none""#),
                "action drop: takes no server",
            ),
            (
                udp(r#""action":"forward","ifindex":4,"reply":"nat""#),
                "action forward: takes no server",
            ),
            (
                udp(&format!(
                    r#"{backend},"reply":"nat","pop_vlan":true,"pop_vlans":2"#
                )),
                "reply nat: answers get one tag back",
            ),
            (
                udp(&format!(r#"{backend},"reply":"none","keep_ip":true"#)),
                "keep_ip and reply contradict",
            ),
            (
                udp(r#""action":"pass","sticky":true"#),
                "action pass: takes no server",
            ),
            (
                line("any", &format!(r#"{backend},"keep_ip":true,"sticky":true"#)),
                "proto any: only flows of UDP and TCP are remembered",
            ),
            (
                udp(r#""action":"drop","hash":"source""#),
                "action drop: takes no server",
            ),
            (
                udp(&format!(r#"{backend},"hash":"packet","reply":"nat""#)),
                "hash packet: no flow has a backend then whose answers",
            ),
            (
                udp(&format!(r#"{backend},"hash":"packet","sticky":true"#)),
                "hash packet: no flow has a backend then that it could keep",
            ),
            (
                line("tcp", &format!(r#"{backend},"hash":"packet""#)),
                "hash packet: only datagrams of UDP",
            ),
            (
                udp(r#""action":"drop","ifindex":4"#),
                "action drop: takes no mac",
            ),
            (
                udp(r#""action":"drop","too_long":"pass""#),
                "action drop: takes no too_long",
            ),
            (
                udp(r#""action":"drop","inner_vlan":4"#),
                "inner_vlan 4: a frame",
            ),
            (
                udp(r#""action":"drop","dst":"::/0""#),
                "dst ::/0: the source",
            ),
            (udp(r#""action":"drop","in":"in1""#), "no device in1"),
            (udp(r#""action":"drop","in_ifindex":4"#), "no ifindex 4"),
            (
                udp(r#""action":"drop","in":"in0","in_ifindex":4"#),
                "in in0: its ifindex is 3",
            ),
            (
                udp(r#""action":"forward","ifindex":3,"in":"in0""#),
                "ifindex out0: packets",
            ),
            (line("sctp", backend), "proto sctp: SCTP packets are not"),
            (line("icmp", backend), "proto icmp: ICMP packets are not"),
            (line("any", backend), "proto any: packets of any"),
            (
                line("any", &format!(r#"{backend},"pop_vlans":1"#)),
                "pop_vlan and pop_vlans",
            ),
        ] {
            refused(&[line], &format!("line 1: {said}"));
        }
        let port = r#"{"src":"10.0.0.0/8","proto":"icmp","port":5,"action":"drop"}"#;
        refused(&[port.into()], "line 1: port 5: ICMP has no ports");
        let pair = [udp(r#""action":"drop""#), udp(r#""action":"pass""#)];
        refused(
            &pair,
            "line 2: src 10.0.0.0/8 udp any port: this rule is in the file twice",
        );
        let mixed = [udp(r#""action":"drop""#), udp(backend)];
        refused(
            &mixed,
            "line 2: src 10.0.0.0/8 udp any port: this rule is in the file twice",
        );
    }

    #[test]
    fn errors_name_the_place() {
        refused(&[line("10.1.1.1", ""), "{".into()], "line 2, column 1: EOF");
        let weight = line("10.1.1.1", r#","weight":"x""#);
        let said = "column 108: weight: invalid type: string \"x\", expected a number";
        refused(std::slice::from_ref(&weight), &format!("line 1, {said}"));
        refused(&[format!("[\n{weight}]")], &format!("line 2, {said}"));
        // Named already.
        let weight = line("10.1.1.1", r#","weight":65536"#);
        refused(&[weight], "line 1, column 111: weight 65536: ");
        refused(
            &[line("127.0.0.1", "")],
            "line 1: server 127.0.0.1: not the",
        );
        refused(
            &[line("10.1.1.1", r#","ifname":"out1""#)],
            "line 1: ifname out1: ifindex 4 is out0 now",
        );
        let twice = [line("10.1.1.1", ""), line("10.1.1.1", "")];
        refused(
            &twice,
            "line 2: src 10.0.0.0/8 udp port 53 -> 10.1.1.1: this backend is in the file twice",
        );
        let array = format!("[{}]", twice.join(","));
        refused(&[array], "rule 2: ");
    }
}
