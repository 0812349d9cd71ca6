//! What `rule refresh` has done, for people.

use crate::model::{FailedBackend, NamedAdjacency, OtherEnd, RefreshReport, RefreshedBackend};

/// A line for each backend that was refreshed, and for each device whose other end has moved.
pub fn lines(report: &RefreshReport) -> Vec<String> {
    let backends = report.refreshed.iter().map(refreshed);
    let lines: Vec<String> = backends
        .chain(report.other_ends.iter().map(other_end))
        .collect();
    if lines.is_empty() && report.failed.is_empty() {
        return vec!["nothing to refresh".into()];
    }
    lines
}

fn other_end(end: &OtherEnd) -> String {
    let place = match end.in_other_netns {
        true => "another network namespace",
        false => "this network namespace",
    };
    format!("refreshed {}: its other end is in {place} now", end.ifname)
}

/// A backend that was refreshed.
pub fn refreshed(backend: &RefreshedBackend) -> String {
    let RefreshedBackend {
        matches,
        ingress,
        old,
        new,
        ..
    } = backend;
    let matches = matches.named(ingress.as_deref());
    let changes = changes(old, new);
    format!("refreshed {matches} -> {}: {changes}", old.adjacency.server)
}

fn changes(old: &NamedAdjacency, new: &NamedAdjacency) -> String {
    let source = old.snat.zip(new.snat).filter(|(old, new)| old != new);
    match source {
        Some((old, new)) => format!("snat {old} -> {new}"),
        None => old
            .adjacency
            .changes(&new.adjacency, [old, new].map(device)),
    }
}

fn device(adjacency: &NamedAdjacency) -> String {
    let name = adjacency.ifname.as_deref().unwrap_or("gone");
    format!("{} ({name})", adjacency.adjacency.ifindex)
}

/// Why a backend was not refreshed.
pub fn failed(backend: &FailedBackend) -> String {
    let FailedBackend {
        matches,
        ingress,
        server,
        error,
        ..
    } = backend;
    let matches = matches.named(ingress.as_deref());
    let server = server.map_or_else(String::new, |server| format!(" -> {server}"));
    format!("{matches}{server} stays as it is: {error}")
}
