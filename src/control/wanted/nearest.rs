//! What a reader of files says of keys that nobody knows.

/// Words as alike as these are taken for each other.
const ALIKE: f64 = 0.75;

/// What is wrong, with the key that is nearest to one that nobody knows.
pub fn explain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else {
        return message
            .replace("missing field", "missing key")
            .replace('`', "");
    };
    let mut words = rest.split('`').skip(1).step_by(2);
    let unknown = words.next().unwrap_or_default();
    let known: Vec<&str> = words.collect();
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
}
