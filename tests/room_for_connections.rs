//! How many connections there is room for: `attach --connections`.

use crate::fixture::other_kernel::Kernel;
use crate::fixture::packet::Frame;
use crate::fixture::run::{Loaded, pinned};
use crate::fixture::{Host, Run, Tool};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::libc::ENOMEM;
use serde_json::json;

const MAC: &str = "02:00:00:00:00:01";

struct Bed(Host);

impl Bed {
    fn new() -> Self {
        let host = Host::new();
        for name in ["in0", "in1", "out0"] {
            host.ns
                .ip(&format!("link add {name} type veth peer name p{name}"));
            host.ns.ip(&format!("link set {name} up"));
            host.ns.ip(&format!("link set p{name} up"));
        }
        Bed(host)
    }

    fn tool(&self) -> Tool<'_> {
        self.0.tool()
    }

    fn attach(&self, words: &str) -> Run {
        self.tool().run(&format!("attach --mode skb {words}"))
    }

    fn rule(&self) -> String {
        format!("rule add --server 10.1.1.1 --mac {MAC} --dev out0 --reply none --sticky")
    }

    /// Of those that the program may use.
    fn buckets(&self) -> u32 {
        let table = pinned(&self.0.pins, "flow_table");
        let table = table.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap();
        u32::from_ne_bytes(table[4..8].try_into().unwrap())
    }

    /// How many different ones there are of a kind.
    fn banks(&self, kind: &str) -> usize {
        let outer: MapHandle = pinned(&self.0.pins, kind);
        let bank = |number: u32| outer.lookup(&number.to_ne_bytes(), MapFlags::ANY).unwrap();
        let mut ids: Vec<Vec<u8>> = (0..outer.max_entries()).filter_map(bank).collect();
        ids.sort();
        ids.dedup();
        ids.len()
    }

    fn has_table_of(&self, banks: usize) {
        assert_eq!(self.buckets(), 1024 * banks as u32);
        assert_eq!(
            [self.banks("flow_tags"), self.banks("flow_entries")],
            [banks; 2]
        );
    }
}

#[test]
fn the_room_is_said_with_its_memory_and_taken_when_a_rule_first_remembers() {
    let bed = Bed::new();
    let run = bed.attach("in0 --connections 20000").ok();
    let said = "room for 32,768 connections, 8.2 MiB";
    assert_eq!(run.out.lines().last(), Some(said), "{run:?}");
    bed.has_table_of(0);
    let status = |connections| {
        assert_eq!(bed.tool().json("status")["connections"], connections);
        bed.tool().ok("status").out
    };
    let text = status(json!({ "now": 0, "most": 32768, "bytes": 0 }));
    assert!(
        text.contains("\n0 connections of 32,768 at most\n"),
        "{text}"
    );
    bed.tool().ok(&bed.rule());
    bed.has_table_of(4);
    let text = status(json!({ "now": 0, "most": 32768, "bytes": 4 * 2_162_688 }));
    assert!(
        text.contains("\n0 connections of 32,768 at most, in 8.2 MiB\n"),
        "{text}"
    );
    let again = bed.attach("in0 in1 --json").ok().json();
    let room = json!({ "most": 32768, "bytes": 4 * 2_162_688 });
    assert_eq!(
        [&again[0]["connections"], &again[1]["connections"]],
        [&room; 2]
    );
    bed.tool().ok("detach --all");
    let usual = bed.attach("in0 --json").ok().json();
    let room = json!({ "most": 262_144, "bytes": 32 * 2_162_688 });
    assert_eq!(usual[0]["connections"], room);
    assert!(!bed.attach("in1").ok().out.contains("room"));
}

#[test]
fn a_number_that_is_none_is_refused_in_a_line() {
    let bed = Bed::new();
    for number in ["0", "4194305", "-5", "many", "1e6"] {
        let run = bed.attach(&format!("in0 --connections={number}"));
        run.fails(2, &["--connections", number, "from 1 to 4,194,304"]);
    }
    assert!(bed.0.pins.left().is_empty());
}

#[test]
fn the_room_can_be_changed_while_no_rule_remembers() {
    let bed = Bed::new();
    bed.attach("in0 --connections 1").ok();
    bed.attach("in0 --connections 16384").ok();
    bed.tool().ok(&bed.rule());
    bed.has_table_of(2);
    bed.attach("in0 in1 --connections 16384").ok();
    bed.tool().ok("detach in1");
    for number in [1, 32768] {
        let run = bed.attach(&format!("in1 --connections {number}"));
        run.fails(4, &["16,384 connections", "rules use it", "rule del"]);
    }
    let status = bed.tool().json("status");
    assert_eq!(status["interfaces"].as_array().unwrap().len(), 1);
    bed.has_table_of(2);
    let program = Loaded::on(&bed.tool().json("status"), "in0");
    bed.0.ns.enter(|| program.run(&Frame::default().bytes()));
    bed.tool().ok("rule del --all");
    let run = bed.attach("in0 --connections 1");
    run.fails(
        4,
        &[
            "16,384 connections",
            "1 of its connections would be lost",
            "flow del --all",
        ],
    );
    bed.tool().ok("flow del --all");
    for banks in [8, 1, 2] {
        bed.attach(&format!("in0 --connections {}", banks * 8192))
            .ok();
        bed.has_table_of(banks);
    }
    bed.tool().ok(&bed.rule());
    bed.has_table_of(2);
    // It outlives the interfaces.
    bed.tool().ok("detach --all --keep-rules");
    bed.attach("in0 --connections 1").fails(4, &["16,384"]);
    bed.attach("in0").ok();
    bed.has_table_of(2);
}

#[test]
fn where_there_is_no_memory_for_the_room_nothing_changes() {
    let bed = Bed::new();
    bed.attach("in0 --connections 16384").ok();
    let full = Kernel::without_map("flow_entries", ENOMEM);
    let run = full.run(&bed.tool(), &bed.rule());
    run.fails(1, &["table of connections", "4.1 MiB", "not enough memory"]);
    assert_eq!(bed.tool().json("rule list"), json!([]));
    bed.has_table_of(0);
    bed.tool().ok(&bed.rule());
    bed.tool().ok("rule del --all");
    let run = full.run(&bed.tool(), "attach in0 --connections 1");
    run.fails(1, &["table of connections", "not enough memory"]);
    bed.has_table_of(2);
}
