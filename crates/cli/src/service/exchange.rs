//! Follows an exchange of endpoints until it is done, stopped, or gone back.

use std::io::{IsTerminal, Write, stdout};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use zeugma_api::ServiceView;
use zeugma_model::{EndpointState, RolloutState, Selector, ServiceName};

use super::get;

/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(250);

/// What the exchange is to end with.
#[derive(Debug, Clone)]
pub(super) enum Aim {
    /// Endpoints of this selector; another means that it went back.
    Selector(Selector),
    /// Whatever was before.
    Any,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    Goes(String),
    Done(String),
    Failed(String),
}

/// Prints how it goes, and fails when it did not end as it was to.
///
/// # Errors
/// When the agent cannot be asked. The exchange goes on nevertheless.
pub(super) fn follow(name: &ServiceName, aim: &Aim) -> Result<ExitCode> {
    let mut last = String::new();
    loop {
        match stand(&get(name)?, aim) {
            Stand::Goes(line) => {
                if line != last {
                    tell(&line);
                    last = line;
                }
            }
            Stand::Done(line) => {
                end(!last.is_empty());
                println!("{line}");
                return Ok(ExitCode::SUCCESS);
            }
            Stand::Failed(line) => {
                end(!last.is_empty());
                eprintln!("Error: {line}");
                return Ok(ExitCode::FAILURE);
            }
        }
        sleep(PAUSE);
    }
}

fn stand(view: &ServiceView, aim: &Aim) -> Stand {
    let service = &view.deployment.service;
    let (name, crew) = (&service.name, crew(view));
    let Some(rollout) = &view.deployment.rollout else {
        return match aim {
            Aim::Selector(wanted) if *wanted != service.selector => Stand::Failed(format!(
                "service {name} was changed by somebody else meanwhile, {crew}: `zeugma service inspect {name}` shows it"
            )),
            _ => Stand::Done(format!("{name}: done, {crew}")),
        };
    };
    let step = rollout.step;
    match &rollout.state {
        RolloutState::Running => Stand::Goes(format!("{name}: step {step}, {crew}")),
        RolloutState::Returning(why) => Stand::Goes(format!("{name}: going back, as {why}; {crew}")),
        RolloutState::Returned(why) => Stand::Failed(format!(
            "service {name} went back to the endpoints before its update: {why}; mend the new ones and update again"
        )),
        RolloutState::Paused(why) => Stand::Failed(format!(
            "the update of service {name} stopped at step {step}: {why}; go on with `zeugma service update {name}`, or go back with `zeugma service rollback {name}`"
        )),
    }
}

/// How many are in which state.
fn crew(view: &ServiceView) -> String {
    let count = |state| view.endpoints.iter().filter(|one| one.state == state).count();
    let mut text = format!("{} ready", count(EndpointState::Ready));
    for (state, word) in [(EndpointState::Draining, "draining"), (EndpointState::Unhealthy, "unhealthy")] {
        if count(state) > 0 {
            text += &format!(", {} {word}", count(state));
        }
    }
    text
}

/// On a terminal in the place of the line before. Who does not read does not stop the exchange.
fn tell(line: &str) {
    let mut out = stdout().lock();
    let _ = if out.is_terminal() { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
    let _ = out.flush();
}

fn end(anything: bool) {
    if anything && stdout().is_terminal() {
        print!("\r\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stands(keys: Value) -> Stand {
        let mut value = json!({"service": {"name": "web", "selector": {"v": "2"}}, "revision": 1, "endpoints": [
            {"address": "10.88.0.2", "weight": 1, "state": "ready", "origin": "added"},
            {"address": "10.88.0.3", "weight": 1, "state": "draining", "origin": "added"},
        ]});
        value.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let aim = Selector([("v".to_owned(), "2".to_owned())].into());
        stand(&serde_json::from_value(value).unwrap(), &Aim::Selector(aim))
    }

    fn rollout(state: Value) -> Value {
        json!({"rollout": {"from": {"v": "1"}, "driver": "n1", "step": 2, "state": state}})
    }

    #[test]
    fn an_exchange_goes_until_it_is_done() {
        assert_eq!(stands(rollout(json!("running"))), Stand::Goes("web: step 2, 1 ready, 1 draining".into()));
        assert_eq!(stands(json!({})), Stand::Done("web: done, 1 ready, 1 draining".into()));
    }

    #[test]
    fn one_that_stopped_or_went_back_has_failed() {
        let Stand::Failed(line) = stands(rollout(json!({"paused": "10.88.0.9: refused"}))) else { panic!() };
        assert!(line.contains("at step 2: 10.88.0.9: refused; go on"), "{line}");
        let Stand::Failed(line) = stands(rollout(json!({"returned": "10.88.0.9: refused"}))) else {
            panic!()
        };
        assert!(line.contains("went back to the endpoints before its update: 10.88.0.9: refused"), "{line}");
        let changed = json!({"service": {"name": "web", "selector": {"v": "3"}}});
        let Stand::Failed(line) = stands(changed) else { panic!() };
        assert!(line.contains("by somebody else"), "{line}");
    }
}
