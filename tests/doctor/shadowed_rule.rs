//! Rules that another rule hides.

use super::bed::{Bed, SERVER};

#[test]
fn a_shadowed_rule_never_sees_a_packet() {
    let bed = Bed::bare();
    bed.tool().ok("attach lan --mode skb");
    let add = |src: &str, port: u16| {
        bed.tool().ok(&format!(
            "rule add --src {src} --port {port} --server {SERVER}"
        ));
    };
    // A half of a half: three rules cover the fourth.
    for src in ["192.168.0.0/16", "192.168.0.0/17", "192.168.128.0/18"] {
        add(src, 7999);
    }
    add("192.168.192.0/18", 8000);
    bed.finds_nothing();
    add("192.168.192.0/18", 7999);
    let finding = bed.finds("shadowed-rule", "warning", &["more specific rules"]);
    let subject = finding["subject"].as_str().unwrap();
    assert!(
        subject.contains("192.168.0.0/16 udp port 7999"),
        "{subject}"
    );
}
