//! The numbers of the maps' schemas, which are part of their pins' names: `ports-1`.
//!
//! A change that moves a byte of a map's keys or values, or gives one another meaning, needs another
//! number here. Otherwise two versions of this command would misread each other's maps. (A dot would
//! read better than a hyphen, but a bpffs refuses names with dots.)

/// A pinned map, and the number of its schema.
pub type Schema = (&'static str, u32);

/// The maps that all interfaces of a network namespace share.
pub const SHARED: [Schema; 21] = [
    ("live", 3),
    ("rulesets", 3),
    ("ports", 1),
    ("lines", 2),
    ("line_bitmaps", 1),
    ("probes", 1),
    ("fragments", 2),
    ("passed_frags", 1),
    ("counters", 1),
    ("counter_bitmaps", 1),
    ("flow_tags", 1),
    ("flow_entries", 3),
    ("flow_table", 1),
    ("flow_locks", 1),
    ("flow_stats", 1),
    ("locators", 1),
    // It has rules as lines have them: another number there is another one here.
    ("history", 1),
    ("ledgers", 1),
    ("failures", 2),
    ("egress", 1),
    ("paired", 1),
];

/// An interface's own maps. When another version takes over, `policy` stays, `outcomes` does if its schema is the same,
/// and `config` is made from that of the other version. Later schemas of `config` only add fields at its end.
pub const OWN: [Schema; 4] = [
    ("outcomes", 8),
    ("policy", 3),
    ("config", 9),
    ("sockets", 1),
];

/// What is pinned of a chain, beside its `slots`.
pub const CHAIN: [Schema; 2] = [("programs", 1), ("verdicts", 1)];

/// The first schema of `config` whose fields all later ones begin with.
pub const FIRST_CONFIG: u32 = 6;

/// What `config` is called in the BPF objects of all hooks.
pub const CONFIG: &str = "xdpredir.rodata";

/// The map that the journal of doctor's fixes is in.
pub const JOURNAL: [Schema; 1] = [("journal", 2)];

/// The pin of a map; None where it is not one of these.
pub fn pin_of(maps: &[Schema], map: &str) -> Option<String> {
    let map = if map == CONFIG { "config" } else { map };
    let found = maps.iter().find(|(name, _)| map == *name);
    found.map(|(name, schema)| format!("{name}-{schema}"))
}

/// The map that a pin is of, and its schema; None where it is no map.
pub fn schema_of(pin: &str) -> Option<(&str, u32)> {
    let (name, schema) = pin.rsplit_once('-')?;
    Some((name, schema.parse().ok()?))
}

/// How a pin differs from those that this version makes; None where it makes the same.
pub fn difference(maps: &[Schema], pin: &str) -> Option<String> {
    let (name, schema) = schema_of(pin)?;
    match maps.iter().find(|(ours, _)| name == *ours) {
        Some((_, ours)) if schema == *ours => None,
        Some((_, ours)) => Some(format!(
            "the map {name} has schema {schema}, and this version wants {ours}"
        )),
        None => Some(format!("this version has no map {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_other_schemas_are_told_apart() {
        assert_eq!(pin_of(&SHARED, "ports").as_deref(), Some("ports-1"));
        assert_eq!(pin_of(&OWN, CONFIG).as_deref(), Some("config-9"));
        assert_eq!(pin_of(&OWN, "ports"), None);
        assert_eq!(difference(&SHARED, "ports-1"), None);
        assert_eq!(difference(&SHARED, "ledger"), None);
        let newer = difference(&SHARED, "ports-2").expect("another schema");
        assert_eq!(
            newer,
            "the map ports has schema 2, and this version wants 1"
        );
        let unknown = difference(&SHARED, "connections-1").expect("an unknown map");
        assert_eq!(unknown, "this version has no map connections");
    }
}
