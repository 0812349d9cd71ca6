//! Interfaces that files name.

use serde_json::Value;

use super::bed::{Bed, rule};
use crate::fixture::Run;

const BOTH: &str = "snat_ports = \"20000-30000\"\n\
    [[interface]]\nname = \"in0\"\nmode = \"skb\"\npolicy = \"drop\"\nledger = false\n\
    [[interface]]\nname = \"other0\"\nmode = \"skb\"\npolicy = \"forward:out0\"\n";

/// How many lines name a place.
pub fn said(run: &Run) -> usize {
    run.err
        .lines()
        .filter(|line| line.contains(".toml:"))
        .count()
}

fn interfaces(bed: &Bed) -> Vec<(String, String)> {
    let status = bed.tool().json("status");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let all = status["interfaces"].as_array().unwrap().iter();
    all.map(|one| (text(&one["ifname"]), text(&one["policy"])))
        .collect()
}

#[test]
fn a_file_attaches_changes_policies_and_detaches() {
    let bed = Bed::detached();
    let run = bed
        .apply(&(BOTH.to_string() + &rule("10.0.0.1", "10.1.1.1")))
        .ok();
    assert!(
        run.out
            .contains("+ interface in0: ledger false, mode skb, policy drop"),
        "{run:?}"
    );
    assert_eq!(bed.rows().len(), 1);
    let pair = |name: &str, policy: &str| (name.to_string(), policy.to_string());
    assert_eq!(
        interfaces(&bed),
        [pair("in0", "drop"), pair("other0", "forward")]
    );
    let status = bed.tool().json("status");
    assert_eq!(status["interfaces"][0]["ledger"], "unwanted");
    assert_eq!(status["snat_ports"], "20000-30000");

    let exported = bed.export();
    assert!(exported.contains("policy = \"forward:out0\"") && exported.contains("ledger = false"));
    let file = bed.file("exported.toml", &exported);
    assert_eq!(
        bed.tool().ok(&format!("apply {file}")).out,
        "nothing to change: 1 rule\n"
    );

    let one = BOTH
        .split("[[interface]]\nname = \"other0\"")
        .next()
        .unwrap()
        .replace("drop", "pass");
    let run = bed.apply(&(one + &rule("10.0.0.1", "10.1.1.1"))).ok();
    assert!(
        run.out.contains("- interface other0: ") && run.out.contains("-   policy: drop"),
        "{run:?}"
    );
    assert_eq!(interfaces(&bed), [pair("in0", "pass")]);
    assert_eq!(bed.rows().len(), 1);
    let ledger = "[[interface]]\nname = \"in0\"\nledger = true\n".to_string();
    bed.apply(&(ledger + &rule("10.0.0.1", "10.1.1.1"))).ok();
    assert_eq!(bed.tool().json("status")["interfaces"][0]["ledger"], "on");
    // Where a file says nothing of interfaces, they stay.
    bed.apply(&rule("10.0.0.2", "10.1.1.1")).ok();
    assert_eq!(interfaces(&bed).len(), 1);
    bed.apply("interface = []\n").ok();
    assert!(bed.pins.left().is_empty(), "{:?}", bed.pins.left());
}

#[test]
fn what_cannot_be_changed_in_place_is_refused_before_anything_changes() {
    let bed = Bed::new();
    bed.apply(&rule("10.0.0.1", "10.1.1.1")).ok();
    let before = bed.export();
    let interface = |keys: &str| {
        format!("[[interface]]\nname = \"in0\"\n{keys}[[interface]]\nname = \"other0\"\n")
    };
    bed.apply(&interface("mode = \"native\"\n")).fails(
        4,
        &[
            "rules.toml:1:1: ",
            "in0 is attached in skb mode",
            "detach in0",
        ],
    );
    bed.apply(&interface("policy = \"forward:in0\"\n"))
        .fails(2, &["in0"]);
    bed.apply(&interface("policy = \"forward:none\"\n"))
        .fails(3, &["rules.toml:1:1: ", "none"]);
    bed.ns.ip("link property add dev in0 altname uplink");
    bed.apply("[[interface]]\nname = \"in0\"\n[[interface]]\nname = \"uplink\"\n")
        .fails(
            2,
            &["rules.toml:3:1: interface uplink is said twice, first at "],
        );
    assert_eq!(bed.export(), before);
}

#[test]
fn an_interface_that_is_missing_does_not_stop_the_rest_where_that_is_allowed() {
    let bed = Bed::detached();
    let text = "[[interface]]\nname = \"in0\"\n[[interface]]\nname = \"late0\"\n".to_string()
        + &rule("10.0.0.1", "10.1.1.1")
        + "[[rule]]\nin = \"late0\"\nproto = \"any\"\naction = \"drop\"\n";
    bed.apply(&text)
        .fails(3, &["rules.toml:3:1: ", "late0", "named 2 times"]);
    assert!(bed.pins.left().is_empty());
    let file = bed.path("rules.toml");
    let apply = format!("apply --partial {}", file.display());
    for changed in [true, false] {
        let run = bed.tool().run(&apply);
        assert_eq!((run.code, said(&run)), (1, 1), "{run:?}");
        assert!(run.err.contains("late0"), "{run:?}");
        assert_eq!(run.out.starts_with('+'), changed, "{run:?}");
        assert_eq!((interfaces(&bed).len(), bed.rows().len()), (1, 1));
    }
    bed.ns.ip("link add late0 type veth peer name late1");
    bed.tool().ok(&apply);
    assert_eq!((interfaces(&bed).len(), bed.rows().len()), (2, 3));
    bed.ns.ip("link del late0");
    // What is attached to a device that is gone stays until a file does without.
    let run = bed.tool().run(&apply);
    assert_eq!(run.code, 1, "{run:?}");
}
