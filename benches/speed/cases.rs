//! What `redirect` measures live, and `hot` hot: traffic, rules, and what is to be reached.

use crate::rule_sets::{REWRITTEN_PORT, Rules, TAGGED_PORT, VLAN};
use crate::traffic::Traffic;

pub struct Case {
    pub name: &'static str,
    pub traffic: Traffic,
    pub rules: Rules,
    /// With the ledger, too, and beside the reference program.
    pub in_full: bool,
    /// Nanoseconds over the bare redirect, without the ledger: at most these.
    pub over_bare: Option<f64>,
    /// The same over another case, as hot runs show them: live ones scatter by more.
    pub beside: Option<Beside>,
}

pub struct Beside {
    pub case: &'static str,
    pub unit: &'static str,
    pub goal: f64,
}

const ONE: &str = "1 flow, 1 backend";
const LONG: &str = "1,400 bytes";
const PLAIN: &str = "plain, among 5 rules";

/// Sources that hardly repeat.
const PREFIXES: u32 = 1 << 19;

pub const CASES: [Case; 15] = [
    full(ONE, Traffic::flows(1), Rules::One, Some(20.0)),
    full(
        "1,000 flows, 16 backends",
        Traffic::flows(1000),
        Rules::Sixteen,
        Some(28.0),
    ),
    full(
        "1,000 flows, 16 devices",
        Traffic::flows(1000),
        Rules::SixteenDevices,
        None,
    ),
    Case {
        over_bare: Some(28.0),
        ..case(
            "30,000 flows, 16 backends",
            Traffic::flows(30_000),
            Rules::Sixteen,
        )
    },
    case(
        "1,000 Zipf flows, 16 backends",
        Traffic::zipf(1000),
        Rules::Sixteen,
    ),
    Case {
        over_bare: Some(35.0),
        ..case(
            "1 rule, random sources",
            Traffic::drawn(PREFIXES, 0),
            Rules::AnySource,
        )
    },
    case("128 bytes", Traffic::flows(1).length(128), Rules::One),
    beside(
        case(LONG, Traffic::flows(1).length(1400), Rules::One),
        (ONE, "ns over 64 bytes", 3.0),
    ),
    beside(
        case(
            "64 bytes, partial checksum",
            Traffic::flows(1).partial(),
            Rules::One,
        ),
        (ONE, "ns over complete", 10.0),
    ),
    beside(
        case(
            "1,400 bytes, partial checksum",
            Traffic::flows(1).length(1400).partial(),
            Rules::One,
        ),
        (LONG, "ns over complete", 75.0),
    ),
    case(PLAIN, Traffic::flows(1), Rules::Kinds),
    kind("IPv6", Traffic::flows(1).v6()),
    kind("TCP", Traffic::flows(1).tcp()),
    kind("VLAN tag", Traffic::flows(1).vlan(VLAN).to(&[TAGGED_PORT])),
    kind("port rewrite", Traffic::flows(1).to(&[REWRITTEN_PORT])),
];

const fn case(name: &'static str, traffic: Traffic, rules: Rules) -> Case {
    Case {
        name,
        traffic,
        rules,
        in_full: false,
        over_bare: None,
        beside: None,
    }
}

const fn full(name: &'static str, traffic: Traffic, rules: Rules, over_bare: Option<f64>) -> Case {
    Case {
        in_full: true,
        over_bare,
        ..case(name, traffic, rules)
    }
}

const fn beside(case: Case, (other, unit, goal): (&'static str, &'static str, f64)) -> Case {
    Case {
        beside: Some(Beside {
            case: other,
            unit,
            goal,
        }),
        ..case
    }
}

const fn kind(name: &'static str, traffic: Traffic) -> Case {
    beside(
        case(name, traffic, Rules::Kinds),
        (PLAIN, "ns over plain", 8.0),
    )
}
