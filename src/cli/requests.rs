//! What was typed, as the requests that it means.

use xdpredir::control::{
    AddRequest, DeleteRequest, DeviceSpec, MatchSpec, NamespaceSpec, RuleSelector,
};
use xdpredir::model::{Pops, Rewrite, Rewriting};

use super::grammar;

impl From<&grammar::Filter> for RuleSelector {
    fn from(args: &grammar::Filter) -> Self {
        RuleSelector {
            src: args.src,
            proto: args.proto,
            port: args.port,
            vlan: args.vlan,
            server: args.server,
        }
    }
}

impl From<&grammar::Match> for MatchSpec {
    fn from(args: &grammar::Match) -> Self {
        MatchSpec {
            src: args.src,
            proto: args.proto,
            port: args.port,
            vlan: args.vlan,
        }
    }
}

impl From<&grammar::RuleAdd> for AddRequest {
    fn from(args: &grammar::RuleAdd) -> Self {
        let name = args.dev.clone().map(DeviceSpec::Name);
        let pid = args.pid.map(NamespaceSpec::Pid);
        let netns = || args.server_netns.clone().map(NamespaceSpec::Netns);
        let container = || args.container.clone().map(NamespaceSpec::Container);
        AddRequest {
            matches: (&args.matches).into(),
            server: args.server,
            mac: args.mac,
            device: name.or(args.ifindex.map(DeviceSpec::Index)),
            namespace: pid.or_else(netns).or_else(container),
            weight: args.weight,
            rewriting: rewriting(&args.rewrite),
        }
    }
}

/// None where no option of it was given.
fn rewriting(args: &grammar::Rewrite) -> Option<Rewriting> {
    let decrement_ttl = match (args.keep_ttl, args.decrement_ttl) {
        (false, false) => None,
        (keeps, _) => Some(!keeps),
    };
    let rewriting = Rewriting {
        backend: Rewrite {
            to_port: args.to_port,
            keep_ip: args.keep_ip,
            push_vlan: args.push_vlan,
            pops: Pops::new(args.pop_vlan.into()).unwrap_or_default(),
        },
        snat: args.snat,
        decrement_ttl,
    };
    Some(rewriting).filter(|given| *given != Rewriting::default())
}

impl From<&grammar::RuleDel> for DeleteRequest {
    fn from(args: &grammar::RuleDel) -> Self {
        if args.all {
            return DeleteRequest::All;
        }
        DeleteRequest::Rule {
            matches: (&args.matches).into(),
            server: args.server,
        }
    }
}
