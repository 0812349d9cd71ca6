//! Who may run a command, in words: what follows an error where the kernel or the file system refused.

use super::grammar::Command;
use xdpredir::host::capability;
use xdpredir::model::Refusal;

/// What this process lacks for the command, and the remedy.
pub fn of(command: &Command) -> Refusal {
    match command {
        Command::Rule(_) | Command::Stats(_) => {
            "needs root, or membership in the group that attach was given with --group".into()
        }
        Command::Features(_) => "needs root (CAP_SYS_ADMIN) to enter network namespaces".into(),
        Command::Attach(_) => capability::refused_to_attach()
            .unwrap_or_else(|| "needs root, or write access to the pin directory".into()),
        Command::Lab(_) => "needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)".into(),
        _ => "needs root, or access to the pin directory".into(),
    }
}
