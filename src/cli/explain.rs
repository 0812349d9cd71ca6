//! `xdpredir explain`

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;
use xdpredir::control::{self, ExplainRequest, FrameSpec, PacketSpec};
use xdpredir::error::Exit;
use xdpredir::model::Explanation;
use xdpredir::view::{self, doctor::Row, remedy::Shell};

use super::grammar::{Explain, Global};
use super::load::read;
use super::{pins, suggest};

/// An explanation as scripts read it.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    explanation: &'a Explanation,
    findings: Option<Vec<Row>>,
}

pub fn run(global: &Global, args: &Explain) -> Result<ExitCode> {
    let (pins, shell) = (pins(global)?, suggest::shell(global));
    let mut all_are_sent = true;
    let request = ExplainRequest {
        ingress: args.ingress.clone(),
        packets: packets(args)?,
    };
    let explained = control::explain(&pins, &request, |explanation| {
        all_are_sent &= explanation.is_sent();
        print(global, &explanation, &shell)
    });
    match &args.file {
        Some(file) => explained.with_context(|| file.display().to_string())?,
        None => explained?,
    }
    Ok(match all_are_sent {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Exit::Problems as u8),
    })
}

fn print(global: &Global, explanation: &Explanation, shell: &Shell) -> Result<()> {
    if !global.json {
        return view::text(view::explain::explanation(explanation, shell));
    }
    let rows = |found: &Vec<_>| {
        found
            .iter()
            .map(|finding| Row::new(finding, shell))
            .collect()
    };
    let findings = explanation.findings.as_ref().map(rows);
    let line = view::json::line(&Explained {
        explanation,
        findings,
    })?;
    view::text(line + "\n")
}

fn packets(args: &Explain) -> Result<PacketSpec> {
    if let Some(file) = &args.file {
        return Ok(PacketSpec::File(read(file)?));
    }
    let (src, dst) = args
        .src
        .zip(args.dst)
        .context("clap requires both addresses")?;
    Ok(PacketSpec::Headers(FrameSpec {
        src_mac: None,
        dst_mac: args.dst_mac,
        vlan: args.vlan,
        inner_vlan: args.inner_vlan,
        src,
        dst,
        proto: args.proto,
        src_port: args.sport,
        port: args.port,
        ttl: args.ttl,
        tcp_flags: args.tcp_flags.clone(),
        len: args.len,
    }))
}
