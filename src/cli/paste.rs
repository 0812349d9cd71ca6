//! Commands in messages, completed so that they do what is meant where they are pasted.

use super::grammar::Global;
use xdpredir::host::netns;
use xdpredir::model::Finding;
use xdpredir::view;

/// Of this host's devices.
const TOOLS: [&str; 3] = ["ip", "ethtool", "sysctl"];

/// They get the global options of this run, or enter its network namespace.
pub fn complete(global: &Global, text: &str) -> String {
    view::commands::map(text, |words| {
        let each = words.split(" && ").map(|words| command(global, words));
        each.collect::<Vec<_>>().join(" && ")
    })
}

pub fn complete_mends(global: &Global, findings: &mut [Finding]) {
    for finding in findings {
        finding.mend = complete(global, &finding.mend);
    }
}

fn command(global: &Global, words: &str) -> String {
    match words.split_once(' ') {
        Some(("xdpredir", rest)) => format!("xdpredir{} {rest}", options(global)),
        Some((tool, _)) if TOOLS.contains(&tool) => enter(global) + words,
        _ => words.to_string(),
    }
}

fn options(global: &Global) -> String {
    let netns = global.netns.as_ref();
    let netns = netns.map(|netns| format!(" --netns {netns}"));
    let pin_dir = global.pin_dir.as_ref();
    let pin_dir = pin_dir.map(|dir| format!(" --pin-dir {}", dir.display()));
    netns.unwrap_or_default() + &pin_dir.unwrap_or_default()
}

fn enter(global: &Global) -> String {
    let net = |name: &String| format!("nsenter --net={} ", netns::path(name).display());
    global.netns.as_ref().map(net).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn completed(netns: Option<&str>, pin_dir: Option<&str>, text: &str) -> String {
        let global = Global {
            netns: netns.map(String::from),
            pin_dir: pin_dir.map(PathBuf::from),
            json: false,
            verbose: false,
        };
        complete(&global, text)
    }

    #[test]
    fn commands_get_the_options_of_the_run() {
        let text = "`xdpredir detach a && xdpredir attach a`, or `ip link set a up`; `rule add` it";
        assert_eq!(completed(None, None, text), text);
        assert_eq!(
            completed(Some("n"), Some("/b/p"), text),
            "`xdpredir --netns n --pin-dir /b/p detach a && xdpredir --netns n --pin-dir /b/p attach a`, \
             or `nsenter --net=/run/netns/n ip link set a up`; `rule add` it"
        );
        let there = "`nsenter --net=/run/netns/s ip link set b up`";
        assert_eq!(completed(Some("n"), None, there), there);
        assert_eq!(
            completed(Some("/proc/7/ns/net"), None, "`ethtool -K a gro on`"),
            "`nsenter --net=/proc/7/ns/net ethtool -K a gro on`"
        );
    }
}
