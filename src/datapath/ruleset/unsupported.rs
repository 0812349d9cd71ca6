//! What rules may say, and the maps have no room for.

use anyhow::{Result, bail};

use crate::error::{Exit, failure};
use crate::model::{Action, Match, Proto, Rule, TooLong};

/// Whether the maps can have a rule for the match.
pub fn has(matches: &Match) -> bool {
    reason(matches).is_none()
}

/// Exit 6 for a rule that they cannot have.
pub fn refuse(rule: &Rule) -> Result<()> {
    let twice = rule.backends.iter().any(|b| b.rewrite.pops.get() > 1);
    let what = match rule.action {
        Action::Redirect if rule.too_long != TooLong::Icmp => Some("what is too long"),
        Action::Redirect if twice => Some("two removed tags"),
        Action::Redirect => reason(&rule.matches),
        other => Some(other.kind().name()),
    };
    match what {
        None => Ok(()),
        Some(what) => bail!(failure(
            Exit::Unsupported,
            format!("{}: {what} is not supported by this version", rule.matches)
        )),
    }
}

fn reason(matches: &Match) -> Option<&'static str> {
    match matches {
        _ if matches.dst.prefix_len() > 0 => Some("a destination"),
        _ if matches.ports.one().is_none() => Some("more than one port"),
        _ if !matches!(matches.proto, Proto::Udp | Proto::Tcp) => Some("the protocol"),
        _ if matches.inner_vlan.is_some() => Some("an inner tag"),
        _ if matches.ingress.is_some() => Some("an interface"),
        _ => None,
    }
}
