//! The entry for fuzzing labs' files: people write them.

use super::check::topology;
use super::{graph, wires};

/// Reads `input` as a lab's file. What is wrong has a place in it; what is not can be drawn and wired.
pub fn fuzz_lab(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lab = match topology(&text, "fuzz") {
        Ok(lab) => lab,
        Err(complaints) => {
            assert!(!complaints.is_empty(), "nothing is said to be wrong");
            let is_fine = |((line, column), message): &((usize, usize), String)| {
                *line > 0 && *column > 0 && !message.is_empty()
            };
            return assert!(complaints.iter().all(is_fine), "{complaints:?}");
        }
    };
    graph::fuzz(&lab);
    wires::links(&lab, |name| format!("/{name}"));
    for machine in &lab.machines {
        wires::machine(&lab, machine);
        lab.ends_of(&machine.name).for_each(|(link, end)| drop(wires::queue(link, end)));
        assert!(lab.networks_of(&machine.name).len() <= lab.networks.len());
        assert!(lab.services_of(&machine.name).len() <= lab.services.len());
    }
}
