//! What is too long for a terminal is broken between words, and what does not fit is named.

mod fixture;

use fixture::lan::{ANYWHERE, Lan};
use fixture::terminal::{complains, shows};

const COLUMNS: u16 = 80;
const RULE: &str = "rule add --src 192.168.122.10 --server 172.17.0.2";

/// A server whose veth takes no native redirect.
fn deaf() -> Lan {
    let lan = Lan::new(false, 1);
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    lan.host.sysctl("net/ipv4/ip_forward", "1");
    lan.servers[0].ip("route add default via 172.17.0.1");
    lan.servers[0].exec("ethtool -K eth0 gro off");
    lan.tool().ok("attach lan --mode native");
    lan
}

/// The long line in a text, from its first words on, put together again.
#[track_caller]
fn unwrapped(text: &str, starts: &str, indent: usize) -> String {
    for line in text.lines() {
        // A command that is too long stays whole, to be copied.
        let is_command = line.trim_start().starts_with('`');
        let fits = line.len() <= usize::from(COLUMNS);
        assert!(fits || is_command, "{line:?} in {text}");
    }
    let indent = " ".repeat(indent);
    let mut lines = text.lines().skip_while(|line| !line.starts_with(starts));
    let first = lines
        .next()
        .unwrap_or_else(|| panic!("no {starts}: {text}"));
    let further: Vec<&str> = lines.map_while(|line| line.strip_prefix(&indent)).collect();
    assert!(!further.is_empty(), "one line: {text}");
    assert!(further.iter().all(|line| !line.starts_with(' ')), "{text}");
    format!("{first} {}", further.join(" "))
}

#[test]
fn findings_are_broken_between_words_on_a_terminal_and_one_line_in_a_pipe() {
    let lan = deaf();
    let tool = lan.tool();
    tool.ok(RULE);
    let plain = tool.run("doctor").out;
    let plain = plain.lines().next().expect("a finding");
    assert!(plain.len() > 160, "{plain}");
    let shown = shows(tool.command("doctor"), COLUMNS);
    assert_eq!(unwrapped(&shown, "problem", 9), plain);
}

#[test]
fn warnings_are_broken_by_the_width_of_standard_errors_own_terminal() {
    let lan = deaf();
    let tool = lan.tool();
    let plain = tool.ok(RULE).err;
    assert_eq!(plain.lines().count(), 1, "{plain}");
    let shown = complains(tool.command(RULE), COLUMNS);
    assert_eq!(
        unwrapped(&shown, "xdpredir: warning: ", 10),
        plain.trim_end()
    );
}

#[test]
fn losses_in_words_are_broken_between_words() {
    let lan = deaf();
    let tool = lan.tool();
    tool.ok(RULE);
    lan.vm_socket()
        .send_to(b"lost", ANYWHERE)
        .expect("it is sent");
    let plain = tool.ok("stats").out;
    let plain = plain.lines().find(|line| line.starts_with("1 frame lost"));
    let shown = shows(tool.command("stats"), COLUMNS);
    assert_eq!(unwrapped(&shown, "1 frame lost", 2), plain.expect("a loss"));
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let lan = deaf();
    let tool = lan.tool();
    tool.ok(RULE);
    let shown = shows(tool.command("rule list"), 64);
    assert!(!shown.contains("02:"), "{shown}");
    let said = "not shown for want of width: mac, weight; --json has all\n";
    assert!(shown.ends_with(said), "{shown}");
    let wide = shows(tool.command("rule list"), 120);
    assert!(
        wide.contains("weight") && !wide.contains("not shown"),
        "{wide}"
    );
    assert!(!tool.ok("rule list").out.contains("not shown"));
}
