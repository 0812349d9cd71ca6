//! What `rule refresh` has done, for people.

use crate::model::{FailedBackend, NamedAdjacency, RefreshReport, RefreshedBackend};

/// A line for each backend that was refreshed.
pub fn lines(report: &RefreshReport) -> Vec<String> {
    if report.refreshed.is_empty() && report.failed.is_empty() {
        return vec!["nothing to refresh".into()];
    }
    report.refreshed.iter().map(refreshed).collect()
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
