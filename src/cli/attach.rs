//! `xdpredir attach`

use anyhow::Result;

use super::grammar::{self, Global, ModeChoice};
use super::{pins, upgrade, warnings};
use xdpredir::control::{self, AttachReport, AttachRequest, Attached, Others};
use xdpredir::model::{Mode, Policy, TableSize};
use xdpredir::view::{self, doctor::Row};

pub fn run(global: &Global, args: &grammar::Attach) -> Result<()> {
    let pins = pins(global)?;
    let report = control::attach(&pins, &args.into())?;
    let AttachReport {
        attached,
        taken_over,
        mounted,
        for_answers,
        connections,
        ..
    } = report;
    let mounted = mounted.map(|at| format!("mounted a bpffs at {at}"));
    let warn =
        |attached: &[Attached]| warnings::say(global, &control::check_attached(&pins, attached));
    if global.json {
        upgrade::complain(&taken_over);
        if let Some(mounted) = mounted {
            view::complaint(format_args!("xdpredir: {mounted}"));
        }
        let one = |attached| {
            let warnings = warn(std::slice::from_ref(attached));
            json(attached, connections, warnings)
        };
        let all = attached.iter().map(one).collect::<Result<Vec<_>>>()?;
        return view::json::print(&all);
    }
    warn(&attached);
    mounted.iter().try_for_each(view::sentence)?;
    upgrade::say(&taken_over)?;
    let mut all = attached.iter();
    all.try_for_each(|attached| describe(global, attached))?;
    view::answers::say(&for_answers)?;
    let room = args.connections.map(|_| connections);
    room.map_or(Ok(()), |room| {
        view::sentence(format_args!("room for {room}"))
    })
}

impl From<&grammar::Attach> for AttachRequest {
    fn from(args: &grammar::Attach) -> Self {
        AttachRequest {
            interfaces: args.interfaces.clone(),
            mode: match args.mode {
                ModeChoice::Auto => None,
                ModeChoice::Native => Some(Mode::Native),
                ModeChoice::Skb => Some(Mode::Skb),
                ModeChoice::Tc => Some(Mode::Tc),
            },
            group: args.group.clone(),
            others: match (args.force, args.chain_foreign) {
                (true, _) => Others::Replace,
                (_, true) => Others::Chain,
                _ => Others::Join(args.priority),
            },
            ledger: !args.no_ledger,
            policy: args.policy.clone(),
            connections: args.connections,
            source_ports: args.snat_ports,
        }
    }
}

pub fn describe(global: &Global, attached: &Attached) -> Result<()> {
    let (name, mode) = (&attached.device.name, attached.mode);
    if attached.made_room {
        view::sentence(format_args!(
            "{name}: detached from the device that had this name or index before, and is in another network namespace now"
        ))?;
    }
    if let Some(program) = &attached.replaced {
        view::sentence(format_args!("{name}: replaced {program}"))?;
    }
    if let Some(program) = &attached.taken_in {
        view::sentence(format_args!("{name}: {program} is asked before ours"))?;
    }
    let verb = if attached.already { "" } else { "attached " };
    let reason = &attached.reason;
    view::sentence(match attached.was_for_answers {
        true => format!(
            "{name}: in {mode} mode, and was attached for answers alone; rules take packets there from now on"
        ),
        false => format!("{name}: {verb}in {mode} mode ({reason})"),
    })?;
    if attached.policy.policy != Policy::Pass {
        view::sentence(format_args!("  policy {}", attached.policy))?;
    }
    if mode == Mode::Native && attached.device.is_veth() {
        view::sentence(
            "  while this is attached, the kernel keeps segmentation offload off at the veth's peer, which slows its bulk transfers",
        )?;
    }
    if let Some(refusal) = &attached.no_ledger {
        let why = warnings::line(global, refusal);
        view::sentence(format_args!("  no ledger of lost frames: {why}"))?;
    }
    if let Some(refusal) = &attached.no_links {
        let why = warnings::line(global, refusal);
        view::sentence(format_args!("  links are not seen: {why}"))?;
    }
    Ok(())
}

fn json(
    attached: &Attached,
    connections: TableSize,
    warnings: Option<Vec<Row>>,
) -> Result<serde_json::Value> {
    let mut json = serde_json::json!({
        "ifname": attached.device.name,
        "ifindex": attached.device.ifindex,
        "mode": attached.mode,
        "reason": attached.reason,
        "ledger": attached.ledger,
        "changed": !attached.already || attached.was_for_answers,
        "connections": connections,
        "warnings": warnings,
    });
    view::json::extend(&mut json, &attached.policy)?;
    Ok(json)
}
