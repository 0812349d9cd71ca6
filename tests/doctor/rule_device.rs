//! Rules whose own devices are gone, or have no program.

use crate::bed::Bed;

#[test]
fn a_rule_says_when_its_devices_are_gone() {
    let bed = Bed::bare();
    let (tool, host) = (bed.tool(), bed.host());
    tool.ok("attach lan --mode skb");
    host.ip("link add aside type veth peer name beside");
    host.ip("link set aside up");
    tool.ok("rule add --src 10.0.0.0/8 --proto icmp --in aside --pass");
    let words = ["aside", "attach aside"];
    bed.finds("rule-interface", "warning", &words);
    tool.ok("attach aside --mode skb");
    tool.ok("rule add --src 10.0.0.0/8 --port 9 --in lan --forward aside");
    assert!(!tool.run("doctor").out.contains("rule-"));
    host.ip("link del aside");
    bed.finds("rule-interface", "warning", &["is gone", "rule del"]);
    bed.finds(
        "rule-device",
        "problem",
        &["is gone", "rule del --src 10.0.0.0/8"],
    );
}
