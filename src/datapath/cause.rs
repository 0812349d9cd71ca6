//! What lies below an error: the kernel's refusals come through libbpf, too.

use libbpf_rs::ErrorKind;

use crate::error::{self, Exit};

/// The exit code of an error: that of the failure nearest to the top, or 5 where something was not
/// permitted.
pub fn exit_code(error: &anyhow::Error) -> Exit {
    error::coded(error).unwrap_or(if is_refused(error) {
        Exit::Permission
    } else {
        Exit::Failed
    })
}

/// Whether the kernel or the file system did not permit something.
pub fn is_refused(error: &anyhow::Error) -> bool {
    error::has_kind(error, std::io::ErrorKind::PermissionDenied)
        || has_kind(error, ErrorKind::PermissionDenied)
}

/// Whether a file was missing.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    error::has_kind(error, std::io::ErrorKind::NotFound) || has_kind(error, ErrorKind::NotFound)
}

fn has_kind(error: &anyhow::Error, kind: ErrorKind) -> bool {
    let mut libbpf = error.chain().filter_map(|cause| cause.downcast_ref());
    libbpf.any(|error: &libbpf_rs::Error| error.kind() == kind)
}
