//! The JSON Schema that editors complete files from.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::BINARY;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ruleset.schema.json");

/// Validates each of an array of files, as another implementation reads the schema.
const VALIDATE: &str = "
import json, jsonschema, sys, tomllib
validator = jsonschema.Draft202012Validator(json.load(open(sys.argv[1])))
validator.check_schema(validator.schema)
for text in json.load(sys.stdin):
    wrong = [error.message for error in validator.iter_errors(tomllib.loads(text))]
    print(json.dumps(wrong))
";

/// What is wrong with each text.
fn validate(texts: &[String]) -> Vec<Vec<String>> {
    let python = Command::new("python3")
        .args(["-c", VALIDATE, SHIPPED])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut python = python.expect("python3 is there");
    let input = serde_json::to_string(texts).unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "python3-jsonschema is installed, and takes the schema"
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_shipped_schema_is_what_is_printed() {
    let output = Command::new(BINARY)
        .args(["export", "--schema"])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let shipped = std::fs::read_to_string(SHIPPED).unwrap_or_default();
    assert_eq!(
        shipped, printed,
        "cargo run -- export --schema > docs/ruleset.schema.json"
    );
}

#[test]
fn good_files_are_valid_and_others_are_not() {
    let guide = include_str!("../../docs/rulesets.md");
    let examples = guide.split("```toml\n").skip(1);
    let examples: Vec<String> = examples
        .map(|text| text.split("```").next().unwrap().into())
        .collect();
    assert!(!examples.is_empty());
    assert!(
        validate(&examples).iter().all(Vec::is_empty),
        "{:?}",
        validate(&examples)
    );
    let bad = [
        "rulez = []",
        "[[rule]]\nport = 0",
        "[[rule]]\nproto = \"quic\"",
        "[[rule]]\nvlan = 5000",
        "[[rule]]\n[[rule.backend]]\nmac = \"2:0\"",
        "[[rule]]\n[[rule.backend]]\nwieght = 2",
        "[[interface]]\nmode = \"skb\"",
        "[[interface]]\nname = \"a\"\npolicy = \"reject\"",
        "snat_ports = \"9\"",
    ];
    let wrong = validate(&bad.map(String::from));
    for (text, wrong) in bad.iter().zip(wrong) {
        assert!(!wrong.is_empty(), "{text}");
    }
}

#[test]
fn the_schema_describes_each_key() {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(SHIPPED).unwrap()).unwrap();
    let mut undescribed = Vec::new();
    let all = [&schema]
        .into_iter()
        .chain(schema["$defs"].as_object().unwrap().values());
    for object in all {
        for (key, property) in object["properties"].as_object().into_iter().flatten() {
            if property["description"].is_null() {
                undescribed.push(key.clone());
            }
        }
    }
    assert!(undescribed.is_empty(), "{undescribed:?}");
}
