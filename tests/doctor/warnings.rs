//! `attach` and `rule add` warn of what doctor finds.

use super::bed::{Bed, CLIENT, SERVER, assert_finding};
use crate::fixture::tap::Tap;
use serde_json::Value;

#[test]
fn attach_and_rule_add_warn_in_the_same_words() {
    let bed = Bed::bare();
    bed.gro_off();
    bed.tool().ok("attach lan --mode native");
    let run = bed
        .tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    let line = run.err.trim_end().strip_prefix("xdpredir: warning: ");
    let said = line.expect("one warning").to_string();
    assert!(said.contains("neither GRO"), "{said}");
    let doctor = bed.tool().run("doctor").out;
    assert!(doctor.contains(&said), "{doctor}");
    // Without state, as before the first attach, there is nothing to say.
    bed.tool().ok("detach lan --keep-rules");
    let run = bed.tool().ok("attach lan --mode native");
    assert!(run.err.contains(&said), "{run:?}");
    bed.tool().ok("detach lan --keep-rules");
    let run = bed.tool().ok("attach lan --mode skb");
    assert_eq!(run.err, "");
}

#[test]
fn attach_and_rule_add_have_their_warnings_in_json_too() {
    let bed = Bed::bare();
    bed.gro_off();
    let attached = bed.tool().json("attach lan --mode native");
    assert_eq!(attached[0]["warnings"], serde_json::json!([]));
    let add = format!("rule add --src {CLIENT} --server {SERVER} --json");
    let run = bed.tool().ok(&add);
    assert!(run.err.contains("neither GRO"), "{run:?}");
    let added = run.json();
    assert_eq!(added["server"], SERVER);
    let found = bed.findings();
    assert_eq!(added["warnings"], Value::from(found.clone()));

    bed.tool().ok("detach lan --keep-rules");
    let run = bed.tool().ok("attach lan --mode native --json");
    assert!(run.err.contains("neither GRO"), "{run:?}");
    assert_eq!(run.json()[0]["warnings"], Value::from(found));
    // Again: no change, and nothing new to warn of.
    let again = bed.tool().json("attach lan --mode native");
    assert_eq!(again[0]["warnings"], serde_json::json!([]));
}

#[test]
fn each_attached_interface_has_its_own_warnings() {
    let bed = Bed::bare();
    let _tap = Tap::new(bed.host(), "tap0", false);
    bed.host().ip("link set tap0 down");
    let attached = bed.tool().json("attach lan tap0 --mode skb");
    for interface in attached.as_array().expect("a list") {
        let warnings = interface["warnings"].as_array().expect("a list");
        if interface["ifname"] == "tap0" {
            assert_eq!(warnings.len(), 1, "{attached:#}");
            assert_finding(&warnings[0], "link", "problem", &["it is down"]);
        } else {
            assert_eq!(warnings.len(), 0, "{attached:#}");
        }
    }
}

#[test]
fn attach_says_that_nothing_arrives() {
    let bed = Bed::bare();
    bed.host().ip("link set lan down");
    let run = bed.tool().ok("attach lan");
    assert!(run.err.contains("lan: nothing arrives there"), "{run:?}");
    bed.host().ip("link add br9 type bridge");
    bed.host().ip("link add p0 type veth peer name p1");
    bed.host().ip("link set p0 master br9");
    bed.host().ip("link set br9 up");
    let run = bed.tool().ok("attach br9");
    assert!(run.err.contains("none of its ports"), "{run:?}");
}
