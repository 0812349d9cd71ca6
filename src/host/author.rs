//! Who runs this process.

use std::env;

use nix::unistd::{Uid, User, getuid};

use crate::model::Author;

/// The user who runs this process, and its command line.
pub fn of_this_process() -> Author {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or(&program).to_string();
    Author::new(
        user(getuid(), sudo_uid()),
        std::iter::once(name).chain(words),
    )
}

/// Whom sudo names. Anybody may set the variable; it is believed of root, who could do without it.
fn user(uid: Uid, sudo_uid: Option<u32>) -> u32 {
    sudo_uid.filter(|_| uid.is_root()).unwrap_or(uid.as_raw())
}

fn sudo_uid() -> Option<u32> {
    env::var("SUDO_UID").ok()?.parse().ok()
}

/// The name of a user; None where there is no such user.
pub fn name_of(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok()?;
    user.map(|user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_believed_of_root_alone() {
        let (root, alice) = (Uid::from_raw(0), Uid::from_raw(1000));
        assert_eq!(user(root, Some(1001)), 1001);
        assert_eq!(user(root, None), 0);
        assert_eq!(user(alice, Some(0)), 1000);
    }
}
