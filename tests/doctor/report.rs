//! What doctor says as a whole, to people and in JSON.

use super::bed::{Bed, CLIENT, SERVER, assert_finding};
use crate::fixture::{Ns, guest};

#[test]
fn where_all_is_well_it_says_so_and_what_it_looked_at() {
    let bed = Bed::bare();
    let run = bed.tool().ok("doctor");
    assert!(run.out.starts_with("no problems found"), "{run:?}");
    assert!(run.out.contains("nothing is attached"), "{run:?}");
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        assert!(bed.arrives());
        bed.finds_nothing();
        let run = bed.tool().ok("doctor");
        let looked = "1 interface, 1 rule, 1 server and 1 egress device";
        assert!(run.out.contains(looked), "{run:?}");
        let run = bed.tool().ok("doctor --fix --yes");
        let last = run.out.lines().last().expect("a line");
        assert!(last.starts_with("no problems found"), "{run:?}");
        bed.tool().ok("detach --all");
        assert!(bed.lan.pins.left().is_empty());
    }
}

#[test]
fn json_says_what_was_fixed() {
    let bed = Bed::new("native");
    bed.gro_off();
    let all = bed.findings_of("doctor --fix --yes --json");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_finding(&all[0], "peer-napi", "problem", &[]);
    assert_eq!(all[0]["fixed"], true);
    let keys: Vec<&String> = all[0].as_object().expect("an object").keys().collect();
    assert_eq!(
        keys,
        [
            "check",
            "consequence",
            "evidence",
            "fixable",
            "fixed",
            "mend",
            "severity",
            "subject"
        ]
    );
    let undone = bed.tool().json("doctor --undo");
    assert_eq!(undone["undone"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_namespace_is_looked_at_by_its_name() {
    guest::needs_kernel(6, 3, "what drivers say of XDP");
    let bed = Bed::new("native");
    bed.gro_off();
    let run = bed.tool().run("doctor");
    assert_eq!(run.code, 7);
    // Each finding is one line, with consequence, evidence and mend, and a last one counts them.
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 2, "{run:?}");
    assert!(
        lines[0].starts_with("problem  wan0: what lan redirects"),
        "{run:?}"
    );
    let command = format!(
        "`nsenter --net={} ethtool -K eth0 gro on`",
        bed.server().path().display()
    );
    assert!(lines[0].contains(&command), "{run:?}");
    let (netns, pins) = (&bed.host().name, bed.lan.pins.dir());
    let fix = format!(
        "`xdpredir --netns {netns} --pin-dir {} doctor --fix`",
        pins.display()
    );
    assert_eq!(lines[1], format!("1 problem; {fix} can fix 1"));
}

#[test]
fn several_interfaces_redirect_where_one_redirects() {
    let bed = Bed::bare();
    bed.gro_off();
    let other = Ns::new("other");
    bed.host().veth("lan2", &other, "eth0");
    bed.tool().ok("attach lan lan2 --mode native");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    let finding = bed.finds("peer-napi", "problem", &[]);
    assert_eq!(
        finding["consequence"],
        "what lan and lan2 redirect to it in native mode is lost"
    );
}
