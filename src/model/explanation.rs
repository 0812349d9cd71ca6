//! What becomes of a packet, and why.

use serde::{Serialize, Serializer};

use super::{Connection, Finding, Mode, Packet, RuleRecord};

/// A packet's way through the program.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The interface where it arrives.
    pub ifname: String,
    pub ifindex: u32,
    pub mode: Mode,
    /// The programs of others that are asked before ours, which nobody has tried out.
    pub chain: Vec<String>,
    /// None: the frame has no Ethernet header.
    pub parsed: Option<Packet>,
    /// The connection that it belongs to.
    pub connection: Option<Connection>,
    /// The connection that it begins.
    pub begins: Option<Connection>,
    /// The rules that match it, the most specific one first.
    pub rules: Vec<Candidate>,
    /// Where the packet goes by a rule or a connection.
    pub backend: Option<RuleRecord>,
    /// The slot of the rule's Maglev table that the packet's hash says.
    pub maglev_slot: Option<u32>,
    pub checks: Vec<Check>,
    /// The device by which the packet leaves.
    pub egress: Option<String>,
    /// The frame as it arrives.
    #[serde(serialize_with = "hexadecimal")]
    pub before: Vec<u8>,
    /// The frame as it leaves the program.
    #[serde(serialize_with = "hexadecimal")]
    pub after: Vec<u8>,
    pub outcome: &'static str,
    /// The XDP action that it comes with.
    pub action: &'static str,
    /// What doctor finds on this way; None: it could not look.
    #[serde(skip)]
    pub findings: Option<Vec<Finding>>,
}

/// A rule that matches.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// The match in words.
    #[serde(rename = "match")]
    pub text: String,
    /// The rule's backends, or the rule itself where it has none.
    pub rows: Vec<RuleRecord>,
    /// It takes the packet.
    pub takes: bool,
    /// How it is more specific than the next one; None: there is no other.
    pub by: Option<&'static str>,
}

/// Something that is looked at before a packet is sent on.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What is looked at: `ttl`, `mtu`, `device`.
    pub check: &'static str,
    pub passed: bool,
    /// What was found.
    pub text: String,
}

impl Explanation {
    /// Whether the packet is redirected or forwarded.
    pub fn is_sent(&self) -> bool {
        [
            "redirected",
            "forwarded",
            "answered",
            "answer_passed",
            "policy_forward",
            "to_socket",
        ]
        .contains(&self.outcome)
    }
}

fn hexadecimal<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&text)
}
