//! What a reader of files says of keys that nobody knows.

/// Words as alike as these are taken for each other.
const ALIKE: f64 = 0.75;

/// What is wrong, with the key that is nearest to one that nobody knows.
pub fn explain(message: &str) -> String {
    let Some(unknown) = unknown(message) else {
        return plain(message)
            .replace("missing field", "missing key")
            .replace('`', "");
    };
    let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
    let alike = |word: &&str| strsim::jaro_winkler(unknown, word);
    let nearest = known
        .iter()
        .copied()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|word| alike(word) > ALIKE) {
        Some(nearest) => format!("unknown key {unknown}: did you mean {nearest}?"),
        None => format!("unknown key {unknown}: known are {}", known.join(", ")),
    }
}

/// What is wrong, without the names that types have in Rust.
fn plain(message: &str) -> String {
    let numbers = ["u8", "u16", "u32", "u64", "usize"];
    let expected = message.rsplit_once(", expected ");
    match expected.filter(|(_, what)| numbers.contains(what)) {
        Some((found, _)) => format!("{found}, expected a number"),
        None => message.into(),
    }
}

/// The key that nobody knows.
pub fn unknown(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("unknown field `")?;
    rest.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named() {
        let of = |key| {
            explain(&format!(
                "unknown field `{key}`, expected one of `weight`, `server`"
            ))
        };
        assert_eq!(of("wieght"), "unknown key wieght: did you mean weight?");
        assert_eq!(of("mtu"), "unknown key mtu: known are weight, server");
        assert_eq!(explain("missing field `name`"), "missing key name");
    }

    #[test]
    fn numbers_are_called_so() {
        let said = "invalid type: string \"x\", expected u64";
        let plain = "invalid type: string \"x\", expected a number";
        assert_eq!(explain(said), plain);
        assert_eq!(explain("expected a u64 map"), "expected a u64 map");
    }
}
