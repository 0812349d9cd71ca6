//! `xdpredir capture`

use std::process::ExitCode;

use anyhow::Result;
use xdpredir::control::{self, CaptureReport, CaptureRequest, Capturing, RuleSelector, Told};
use xdpredir::error::Exit;
use xdpredir::model::{self, PacketFilter, Sighting};
use xdpredir::view::{self, capture::CaptureFile, watch};

use super::grammar::{self, Global, Packets};
use super::target::{Blocks, Target};
use super::{pins, warnings};

pub fn run(global: &Global, args: &grammar::Capture) -> Result<ExitCode> {
    let target = args.write.as_deref().map(Target::open).transpose()?;
    // Before anything begins: Ctrl-C is to be heard from then on.
    let stop = watch::on_interrupt()?;
    let mut capturing = control::capture(&pins(global)?, request(args))?;
    if let Some(why) = &capturing.no_lost {
        warnings::warn(global, why);
    }
    let mut out = Out::new(global, target)?;
    begun(&capturing);
    let report = capturing.watch(&mut || stop.try_recv().is_ok(), &mut |told| match told {
        Told::Sighting(sighting) => out.show(sighting),
        Told::Ended(name, why) => {
            view::notice(format_args!("{name}: {why}, so that its capture ends"));
            Ok(())
        }
    })?;
    ended(&report);
    Ok(match report.is_over {
        true => ExitCode::from(Exit::Failed as u8),
        false => ExitCode::SUCCESS,
    })
}

fn request(args: &grammar::Capture) -> CaptureRequest {
    let packets = &args.packets;
    CaptureRequest {
        interfaces: args.interfaces.clone(),
        packets: match packets.rule {
            true => PacketFilter::default(),
            false => (&packets.filter).into(),
        },
        rules: packets.rule.then(|| rules(packets)),
        outcomes: (!args.outcome.is_empty()).then(|| args.outcome.clone()),
        stages: args.stage.iter().copied().map(stage).collect(),
        snaplen: args.snaplen,
        sample: args.sample,
        count: args.count,
    }
}

/// The rules that have what packets would have to have.
fn rules(args: &Packets) -> RuleSelector {
    let filter = &args.filter;
    RuleSelector {
        dst: filter.dst,
        src: filter.src,
        proto: filter.proto,
        ports: filter.port,
        vlan: filter.vlan,
        inner_vlan: filter.inner_vlan,
        ingress: None,
        server: args.server,
    }
}

fn stage(stage: grammar::Stage) -> model::Stage {
    match stage {
        grammar::Stage::Arrived => model::Stage::Arrived,
        grammar::Stage::Left => model::Stage::Left,
        grammar::Stage::Lost => model::Stage::Lost,
    }
}

/// Where frames are shown.
enum Out {
    Lines,
    Objects,
    File(CaptureFile<Blocks>),
}

impl Out {
    fn new(global: &Global, target: Option<Target>) -> Result<Self> {
        Ok(match target {
            Some(target) => Out::File(CaptureFile::new(target.begin()?)?),
            None if global.json => Out::Objects,
            None => Out::Lines,
        })
    }

    fn show(&mut self, sighting: &Sighting) -> Result<()> {
        match self {
            Out::Lines => view::line(view::capture::line(sighting)),
            Out::Objects => view::line(view::capture::object(sighting)?),
            Out::File(file) => file.add(sighting),
        }
    }
}

fn begun(capturing: &Capturing) {
    let names = capturing.interfaces.join(", ");
    view::notice(format_args!("capturing at {names}; Ctrl-C ends it"));
}

fn ended(report: &CaptureReport) {
    let packets = view::count(report.packets as usize, "packet");
    let missed = match report.missed {
        0 => String::new(),
        missed => format!(
            "; {} came too fast to be shown",
            view::count(missed as usize, "frame")
        ),
    };
    view::notice(format_args!("captured {packets}{missed}"));
}
