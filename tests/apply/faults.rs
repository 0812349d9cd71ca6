//! What is wrong in files is named with its place, and nothing changes.

use super::bed::{Bed, rule};

const REACHED: &str = "server = \"10.1.1.1\"\nmac = \"02:00:00:00:00:01\"\ndevice = \"out0\"\n";

/// A file of each kind of fault: its name, its text, and the place and the words that the error has.
fn faults() -> Vec<(&'static str, String, &'static str, &'static str)> {
    let backend = |more: &str| format!("[[rule]]\nsrc = \"10.0.0.1\"\n[[rule.backend]]\n{more}");
    let twice = rule("10.0.0.1", "10.1.1.1");
    vec![
        ("a.toml", "[[rule]]\nsrc = \"10.0.0.1\"\nactoin = \"drop\"\n".into(), "3:1", "unknown key actoin: did you mean action?"),
        ("a.toml", "rulez = []\n".into(), "1:1", "unknown key rulez: did you mean rule?"),
        ("a.toml", backend("wieght = 3\n"), "4:1", "unknown key wieght: did you mean weight?"),
        ("a.toml", backend("weight = 70000\n"), "4:10", "weight 70000: weights are 0 to 65535"),
        ("a.toml", "[[rule]]\nsrc = \"10.0.0.1/8\"\n".into(), "2:7", "10.0.0.0/8"),
        ("a.toml", "[[rule]]\nport = -1\n".into(), "2:8", "a port, a range"),
        ("a.toml", "[[rule]]\nproto = \"quic\"\n".into(), "2:9", "unknown variant quic"),
        ("a.toml", "[[rule]\n".into(), "1:8", ""),
        ("a.toml", backend("server = \"224.0.0.1\"\n"), "4:10", "server 224.0.0.1: not the unicast address"),
        ("a.toml", backend("server = \"fd00::1\"\n"), "3:1", "src 10.0.0.1/32: server fd00::1 has the other IP version"),
        ("a.toml", backend("container = \"a\"\nnetns = \"b\"\n"), "3:1", "container and netns: a backend is found in one way"),
        ("a.toml", backend("started = 5\nserver = \"10.1.1.1\"\n"), "3:1", "pid is missing"),
        ("a.toml", backend(""), "3:1", "which backend?"),
        ("a.toml", "[[rule]]\nsrc = \"10.0.0.1\"\n".into(), "1:1", "which backend?"),
        ("a.toml", "[[rule]]\naction = \"forward\"\n".into(), "1:1", "to which device?"),
        ("a.toml", "[[rule]]\naction = \"drop\"\nsticky = true\n".into(), "1:1", "action drop: takes no backend"),
        ("a.toml", "[[rule]]\naction = \"drop\"\ndevice = \"out0\"\n".into(), "1:1", "action drop: takes no device"),
        ("a.toml", "[[rule]]\nproto = \"icmp\"\nport = 5\naction = \"drop\"\n".into(), "3:8", "ICMP has no ports"),
        ("a.toml", "[[rule]]\nreply = \"direct\"\nsnat = \"10.1.1.9\"\n[[rule.backend]]\n".to_string() + REACHED, "2:9", "reply direct: the packets keep"),
        ("a.toml", "[[rule]]\nproto = \"sctp\"\n[[rule.backend]]\n".to_string() + REACHED, "3:1", "SCTP packets are not rewritten"),
        ("a.toml", format!("[[rule]]\nreply = \"nat\"\n[[rule.backend]]\n{REACHED}pop_vlans = 2\n"), "3:1", "two are removed from the packets"),
        ("a.toml", twice.clone() + &twice, "8:1", "rule src 10.0.0.1/32 udp port 7999 is said twice, first at "),
        ("a.toml", rule("10.0.0.1", "10.1.1.1") + "[[rule.backend]]\n" + REACHED, "8:1", "the rule has this backend twice"),
        ("a.toml", "[[interface]]\nname = \"in0\"\n[[interface]]\nname = \"in0\"\n".into(), "3:1", "interface in0 is said twice, first at "),
        ("a.toml", "[[interface]]\nname = \"in0\"\npolicy = \"reject\"\n".into(), "3:10", "policy reject: it is one of pass, drop and forward:DEV"),
        ("a.toml", "connections = 0\nrule = []\n".into(), "1:15", "a number from 1 to"),
        ("a.json", "{\"rule\": [{\"src\": \"10.0.0.1\",\n \"sorce\": 4}]}".into(), "2:2", "unknown key sorce: did you mean src?"),
        ("a.json", "{\"rule\": [\n{\"src\": \"10.0.0.1\", \"port\": 99999}]}".into(), "2:29", "port 99999"),
        ("a.json", "{\"rule\": [\n{\"src\": \"10.0.0.1\", \"action\": \"drop\"}\n".into(), "2:38", "EOF while parsing"),
        ("a.json", "{\"rule\": [{\"backend\": [{\"server\": \"10.1.1.1\"},\n {\"server\": \"224.1.1.1\"}]}]}".into(), "2:13", "server 224.1.1.1"),
        ("a.json", "[{\"src\":\"10.0.0.1\",\"proto\":\"udp\",\"port\":9,\n\"action\":\"drop\",\"server\":\"10.1.1.1\"}]".into(), "1:2", "action drop: takes no server"),
        ("a.json", "{\"src\":\"10.0.0.1\",\"proto\":\"udp\",\"port\":9,\"action\":\"drop\"}\n{\"src\":\"10.0.0.1\",\"prot\":\"udp\"}\n".into(), "2:19", "unknown key prot: did you mean proto?"),
        ("a.json", "[7]".into(), "1:2", "invalid type"),
    ]
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_nothing_changes() {
    let bed = Bed::new();
    bed.apply(&rule("10.9.0.1", "10.1.1.1")).ok();
    let before = bed.export();
    for (name, text, place, words) in faults() {
        let file = bed.file(name, &text);
        for verb in ["apply", "diff"] {
            let run = bed.tool().run(&format!("{verb} {file}"));
            run.fails(2, &[&format!("{file}:{place}: "), words]);
        }
    }
    assert_eq!(bed.export(), before);
}

#[test]
fn a_broken_file_in_a_directory_keeps_the_others_from_being_applied() {
    let bed = Bed::new();
    bed.apply(&rule("10.9.0.1", "10.1.1.1")).ok();
    let before = bed.export();
    let directory = bed.path("set");
    let apply = format!("apply {}", directory.display());
    bed.file("set/10.toml", &rule("10.0.0.1", "10.1.1.1"));
    let broken = bed.file("set/20.toml", "[[rule]]\nsrc = 10.0.0.2\n");
    bed.tool()
        .run(&apply)
        .fails(2, &[&format!("{broken}:2:11: ")]);
    assert_eq!(bed.export(), before);
    bed.file("set/20.toml", &rule("10.0.0.1", "10.1.1.2"));
    let first = directory.join("10.toml").display().to_string();
    let twice = format!("is said twice, first at {first}:1:1");
    bed.tool()
        .run(&apply)
        .fails(2, &[&format!("{broken}:1:1: "), &twice]);
    bed.file(
        "set/20.toml",
        "group = \"root\"\nsnat_ports = \"2000-3000\"\n",
    );
    bed.file("set/30.toml", "snat_ports = \"2000-3000\"\n");
    bed.tool().run(&apply).fails(
        2,
        &[
            "30.toml:1:14: snat_ports is said twice, first at",
            "20.toml:2:14",
        ],
    );
    assert_eq!(bed.export(), before);
}

#[test]
fn what_says_nothing_deletes_nothing() {
    let bed = Bed::new();
    bed.apply(&rule("10.9.0.1", "10.1.1.1")).ok();
    let before = bed.export();
    for text in ["", "# nothing\n", "snat_ports = \"10000-32767\"\n"] {
        bed.apply(text)
            .fails(2, &["rules.toml: ", "no rule and no interface"]);
    }
    // A program that failed has printed nothing to standard input.
    bed.tool().run("apply -").fails(2, &["standard input: "]);
    bed.tool()
        .run(&format!(
            "apply {}",
            bed.directory.path().join("none").display()
        ))
        .fails(1, &["none"]);
    let empty = bed.path("empty");
    std::fs::create_dir(&empty).unwrap();
    bed.tool()
        .run(&format!("apply {}", empty.display()))
        .fails(2, &["empty: ", "*.toml"]);
    let path = bed.path("a.toml");
    std::fs::write(&path, [0xff]).unwrap();
    bed.tool()
        .run(&format!("apply {}", path.display()))
        .fails(2, &["UTF-8"]);
    assert_eq!(bed.export(), before);
    bed.apply("rule = []\n").ok();
    assert!(bed.rows().is_empty());
}

#[test]
fn names_that_a_terminal_obeys_are_shown_escaped() {
    let bed = Bed::new();
    let name = "e\\u001b[31mx";
    let file = bed.file(
        "a.toml",
        &format!("[[rule]]\nin = \"{name}\"\naction = \"drop\"\n"),
    );
    for words in ["", "--partial"] {
        let run = bed.tool().run(&format!("apply {file} {words}"));
        assert!(
            run.err.contains("e\\x1b[31mx") && !run.err.contains('\u{1b}'),
            "{run:?}"
        );
    }
    let key = bed.file("b.toml", "\"k\\u001b[31m\" = 1\n");
    let run = bed.tool().run(&format!("apply {key}"));
    assert!(run.code == 2 && !run.err.contains('\u{1b}'), "{run:?}");
    let red = bed.directory.path().join("e\u{1b}[31mx.toml");
    std::fs::write(&red, "nonsense").unwrap();
    let run = bed
        .tool()
        .run(&format!("apply {}", bed.directory.path().display()));
    assert!(run.code == 2 && !run.err.contains('\u{1b}'), "{run:?}");
}
