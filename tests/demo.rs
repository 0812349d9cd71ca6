//! The demos.

mod fixture;

use std::process::Command;

use fixture::BINARY;
use fixture::bed::{Lab, run, status};

#[test]
fn the_demos_leave_a_lab_that_is_up_as_it_is() {
    let _lab = Lab::with("pair");
    let before = status();
    for demo in ["scripts/demo", "scripts/demo-vm"] {
        run(Command::new(demo).arg("/nowhere")).fails(1, &["/nowhere", "build it first"]);
        run(Command::new(demo).arg(BINARY)).fails(1, &["a lab is up", "xdpredir lab down"]);
    }
    assert_eq!(status(), before);
}
