//! `xdpredir attach`

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::unistd::Group;

use super::grammar::{self, Global, ModeChoice};
use super::warnings;
use xdpredir::datapath::{self, Attached, Pins, Report, Request};
use xdpredir::doctor;
use xdpredir::doctor::checks;
use xdpredir::error::{Exit, failure};
use xdpredir::host::device;
use xdpredir::model::{Finding, Mode, Place, Remedy, Tool};
use xdpredir::view::{self, doctor::Row};

const LINK_WITHIN: Duration = Duration::from_secs(5);

pub fn run(global: &Global, args: &grammar::Attach) -> Result<()> {
    let group = args.group.as_deref().map(group).transpose()?;
    let mut devices = args
        .interfaces
        .iter()
        .map(|name| device::by_name(name))
        .collect::<Result<Vec<_>>>()?;
    for device in &devices {
        device.require_ethernet_header()?;
    }
    // The kernel takes a program on a port and then on its bridge, but not the other way round.
    devices.sort_by_key(|device| device.master.is_none());
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    let request = Request {
        devices: &devices,
        mode: mode(args.mode),
        group: group.as_ref().map(|g| g.gid),
        force: args.force,
        ledger: !args.no_ledger,
    };
    let Report { attached, mounted } = datapath::attach(&pins, &request)?;
    let mounted = mounted.map(|at| format!("mounted a bpffs at {at}"));
    wait_for_links(&attached)?;
    let warn = |attached: &[Attached]| warnings::say(global, found(&pins, attached));
    if global.json {
        if let Some(mounted) = mounted {
            view::complaint(format_args!("xdpredir: {mounted}"));
        }
        let one = |attached| json(attached, warn(std::slice::from_ref(attached)));
        return view::json::print(&attached.iter().map(one).collect::<Vec<_>>());
    }
    warn(&attached);
    mounted.iter().try_for_each(view::sentence)?;
    attached
        .iter()
        .try_for_each(|attached| describe(global, attached))
}

/// Drivers that reset their device for a native program (igb, ixgbe, i40e, …) take its link away for
/// a moment: what had one before is given time to have it again.
fn wait_for_links(attached: &[Attached]) -> Result<()> {
    let deadline = Instant::now() + LINK_WITHIN;
    let reset = |new: &&Attached| !new.already && new.mode == Mode::Native && new.device.up;
    let mut reset = attached.iter().filter(reset);
    reset.try_for_each(|new| device::wait_for_link(new.device.ifindex, deadline))
}

/// What those that are new would lose, with the rules that are there.
fn found(pins: &Pins, attached: &[Attached]) -> Result<Vec<Finding>> {
    let new = attached.iter().filter(|attached| !attached.already);
    let ifindexes: Vec<u32> = new.map(|attached| attached.device.ifindex).collect();
    if ifindexes.is_empty() {
        return Ok(Vec::new());
    }
    let setup = doctor::of_interfaces(pins, &ifindexes)?;
    Ok(checks::of_interfaces(&setup))
}

fn mode(choice: ModeChoice) -> Option<Mode> {
    match choice {
        ModeChoice::Auto => None,
        ModeChoice::Native => Some(Mode::Native),
        ModeChoice::Skb => Some(Mode::Skb),
    }
}

fn group(name: &str) -> Result<Group> {
    Group::from_name(name)?.ok_or_else(|| {
        let groupadd = Tool::new("groupadd").arg(name).at(Place::Anywhere);
        failure(
            Exit::Usage,
            (
                format!("--group {name}: no such group"),
                Remedy::from(groupadd) + " makes it",
            ),
        )
    })
}

fn describe(global: &Global, attached: &Attached) -> Result<()> {
    let Attached {
        device,
        mode,
        reason,
        ..
    } = attached;
    if attached.made_room {
        view::sentence(format_args!(
            "{}: detached from the device that had this name or index before, and is in another network namespace now",
            device.name
        ))?;
    }
    if let Some(program) = &attached.replaced {
        view::sentence(format_args!("{}: replaced {program}", device.name))?;
    }
    let verb = if attached.already { "" } else { "attached " };
    view::sentence(format_args!(
        "{}: {verb}in {mode} mode ({reason})",
        device.name
    ))?;
    if *mode == Mode::Native && device.is_veth() {
        view::line(
            "  while this is attached, the kernel keeps segmentation offload off at the veth's peer, which slows its bulk transfers",
        )?;
    }
    if let Some(refusal) = &attached.no_ledger {
        let why = warnings::line(global, refusal);
        view::sentence(format_args!("  no ledger of lost frames: {why}"))?;
    }
    Ok(())
}

fn json(attached: &Attached, warnings: Option<Vec<Row>>) -> serde_json::Value {
    serde_json::json!({
        "ifname": attached.device.name,
        "ifindex": attached.device.ifindex,
        "mode": attached.mode,
        "reason": attached.reason,
        "ledger": attached.ledger,
        "changed": !attached.already,
        "warnings": warnings,
    })
}
