//! The running kernel.

/// Major and minor, of "6.18.44-whatever".
pub fn version() -> Option<(u32, u32)> {
    let uname = nix::sys::utsname::uname().ok()?;
    let mut parts = uname
        .release()
        .to_str()?
        .split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
