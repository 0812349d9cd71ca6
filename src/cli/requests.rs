//! What was typed, as the requests that it means.

use xdpredir::control::{
    ActionRequest, ActionSpec, AddRequest, DeleteRequest, DeviceSpec, FlowSelector, MatchSpec,
    NamespaceSpec, RuleSelector,
};
use xdpredir::model::{PacketFilter, Pops, Port, Ports, Proto, Reply, Rewrite, Rewriting};

use super::grammar;

/// That of the demo that came before.
const DEFAULT_PORT: u16 = 7999;

impl From<&grammar::Filter> for RuleSelector {
    fn from(args: &grammar::Filter) -> Self {
        RuleSelector {
            server: args.server,
            ..(&args.rules).into()
        }
    }
}

impl From<&grammar::RuleFilter> for RuleSelector {
    fn from(args: &grammar::RuleFilter) -> Self {
        RuleSelector {
            dst: args.dst,
            src: args.src,
            proto: args.proto,
            ports: args.port,
            vlan: args.vlan,
            inner_vlan: args.inner_vlan,
            ingress: args.ingress.clone(),
            server: None,
        }
    }
}

impl From<&grammar::FlowFilter> for FlowSelector {
    fn from(args: &grammar::FlowFilter) -> Self {
        FlowSelector {
            dst: args.dst,
            src: args.src,
            proto: args.proto,
            ports: args.port,
            vlan: args.vlan,
            ingress: args.ingress.clone(),
            server: args.server,
        }
    }
}

impl From<&grammar::Match> for MatchSpec {
    fn from(args: &grammar::Match) -> Self {
        let default = || match args.proto {
            Proto::Icmp | Proto::Any => Ports::ANY,
            _ => Port::new(DEFAULT_PORT).expect("a port").into(),
        };
        MatchSpec {
            dst: args.dst,
            src: args.src,
            proto: args.proto,
            ports: args.port.unwrap_or_else(default),
            vlan: args.vlan,
            inner_vlan: args.inner_vlan,
            ingress: args.ingress.clone(),
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
            too_long: args.too_long,
            hash: args.hash,
        }
    }
}

/// The request for a rule without backends; None where no such action is given.
pub fn action(args: &grammar::RuleAdd) -> Option<ActionRequest> {
    let grammar::Action {
        forward,
        pass,
        drop,
        socket,
    } = &args.action;
    let forward = forward.clone().map(|device| ActionSpec::Forward {
        device,
        mac: args.mac,
    });
    let pass = pass.then_some(ActionSpec::Pass);
    let drop = drop.then_some(ActionSpec::Drop);
    let socket = socket.then_some(ActionSpec::Socket);
    Some(ActionRequest {
        matches: (&args.matches).into(),
        action: forward.or(pass).or(drop).or(socket)?,
        too_long: args.too_long,
    })
}

/// What an option says, and the one that takes it back; None where neither was given.
fn either(yes: bool, no: bool) -> Option<bool> {
    (yes || no).then_some(yes)
}

/// None where no option of it was given.
fn rewriting(args: &grammar::Rewrite) -> Option<Rewriting> {
    let decrement_ttl = either(args.decrement_ttl, args.keep_ttl);
    let sticky = either(args.sticky, args.no_sticky);
    let announce = either(args.announce, args.no_announce);
    let rewriting = Rewriting {
        backend: Rewrite {
            to_port: args.to_port,
            keep_ip: args.keep_ip || args.reply == Some(Reply::Direct),
            push_vlan: args.push_vlan,
            pops: Pops::new(args.pop_vlan.into()).unwrap_or_default(),
        },
        snat: args.snat,
        decrement_ttl,
        reply: args.reply.filter(|reply| *reply != Reply::Direct),
        sticky,
        announce,
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

impl From<&grammar::PacketFilter> for PacketFilter {
    fn from(args: &grammar::PacketFilter) -> Self {
        PacketFilter {
            dst: args.dst,
            src: args.src,
            proto: args.proto,
            ports: args.port,
            vlan: args.vlan,
            inner_vlan: args.inner_vlan,
        }
    }
}
