//! What `explain` says of packets is what then becomes of them, and saying it changes nothing.

use std::collections::{BTreeSet, HashSet};

use fastrand::Rng;
use serde_json::Value;

use super::bed::{Bed, may_be_an_skb};
use super::{INTERFACES, ONE_BUFFER, hex};
use crate::fixture::model::Mode;

/// Packets that are explained at a time. The program answers so many in a second.
pub const EXPLAINED: usize = 24;

impl Bed<'_> {
    /// Has packets explained that arrive at one interface, one after the other, and then arrive.
    pub fn explain(&mut self, rng: &mut Rng, packets: Vec<Vec<u8>>) {
        let at = rng.usize(..INTERFACES.len());
        let (name, mode, _) = INTERFACES[at];
        let mut packets = packets;
        packets.retain(|packet| {
            let is_late = self.model.comes_late(packet);
            let is_possible = mode != Mode::Tc || may_be_an_skb(packet);
            packet.len() <= ONE_BUFFER && is_possible && !is_late
        });
        let packets: Vec<_> = packets
            .iter()
            .map(|packet| self.addressed(at, packet))
            .collect();
        let explained = self.explanations(name, &packets);
        self.forget_answers();
        let mut met = HashSet::new();
        for (packet, explained) in packets.iter().zip(explained) {
            if self.model.comes_late(packet) {
                return; // the model has no clock, and what is explained has
            }
            // An earlier one may have changed its connection: its state, or whence its requests come.
            let is_known = !explained["connection"].is_null();
            let explained = match !met.insert(connection_of(&explained)) && is_known {
                true => self
                    .explanations(name, std::slice::from_ref(packet))
                    .remove(0),
                false => explained,
            };
            let (outcome, out) = self.agree(at, packet);
            let said = (explained["outcome"].as_str(), explained["after"].as_str());
            let text: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(
                said,
                (Some(outcome), Some(&*text)),
                "{name}: {}\n{explained:#}",
                hex(packet)
            );
            is_reasonable(&explained);
        }
    }

    fn explanations(&self, name: &str, packets: &[Vec<u8>]) -> Vec<Value> {
        let frame = |packet: &Vec<u8>| {
            let bytes = packet.iter().map(|byte| format!("{byte:02x}"));
            bytes.collect::<String>() + "\n\n"
        };
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text: String = packets.iter().map(frame).collect();
        std::fs::write(file.path(), text).expect("it is written");
        let run = self.tool.run(&format!(
            "--json explain --in {name} {}",
            file.path().display()
        ));
        assert!([0, 7].contains(&run.code), "{}", run.err);
        let lines = run.out.lines();
        let all: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(all.len(), packets.len(), "{}", run.err);
        all
    }
}

/// What tells the connection of a packet from others.
fn connection_of(explained: &Value) -> String {
    let connection = &explained["connection"];
    let keys = ["proto", "src", "src_port", "dst", "port"];
    keys.map(|key| connection[key].to_string()).join(" ")
}

/// The rule that takes the packet, by what the program says, is the first one that matches.
fn is_reasonable(explained: &Value) {
    let rules = explained["rules"].as_array().expect("rules");
    let takes: BTreeSet<usize> = (0..rules.len())
        .filter(|&n| rules[n]["takes"] == true)
        .collect();
    assert!(takes.len() <= 1, "{explained:#}");
    let is_new = explained["connection"].is_null();
    let by_rule = [
        "redirected",
        "forwarded",
        "passed_by_rule",
        "dropped_by_rule",
        "no_reader",
    ];
    let outcome = explained["outcome"].as_str().expect("a name");
    let is_later = explained["parsed"]["ip"]["later_fragment"] == true;
    let is_error = explained["parsed"]["ip"]["proto"] == "icmp";
    if is_new && by_rule.contains(&outcome) && !is_later && !is_error {
        assert_eq!(takes, BTreeSet::from([0]), "{explained:#}");
    }
    if outcome == "no_rule" {
        assert!(rules.is_empty(), "{explained:#}");
    }
}
