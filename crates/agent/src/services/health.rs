//! Health checks: asks endpoints, from the host's namespace, and tells when what they answer has changed.
//!
//! One loop knows who is to be asked next, and few are asked at once: tens of thousands of endpoints cost a timer each,
//! not a task. What a verdict means to a service is the roster's.

mod probe;
mod schedule;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use zeugma_model::{HealthCheck, ServiceName};
use zeugma_services::{Check, Verdict};

use schedule::{Question, Schedule};

/// Endpoints that are asked at once: as many sockets. Those that do not answer hold one until their time is up.
const AT_ONCE: usize = 256;
/// Questions begun before others have their turn.
const BATCH: usize = 32;

/// What the loop is told.
enum Command {
    Watch(ServiceName, HealthCheck, Vec<Check>),
    Forget(ServiceName),
}

/// The way to the loop. It ends with the last of these.
#[derive(Clone)]
pub(crate) struct Checker {
    commands: mpsc::UnboundedSender<Command>,
}

impl Checker {
    /// Begins, with nobody to ask. Verdicts are told when they change, the first after one success, or after as many
    /// failures as the threshold says.
    pub(crate) fn start(verdicts: mpsc::Sender<(Check, Verdict)>) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        tokio::spawn(run(inbox, verdicts));
        Self { commands }
    }

    /// These endpoints of the service are asked like this, and no others of it. Who is new is asked at once; who was
    /// asked the same before goes on as before.
    pub(crate) fn watch(&self, service: ServiceName, how: HealthCheck, checks: Vec<Check>) {
        // The loop ends after the last sender only, so somebody hears it.
        let _ = self.commands.send(Command::Watch(service, how, checks));
    }

    /// Nobody of the service is asked any more.
    pub(crate) fn forget(&self, service: &ServiceName) {
        let _ = self.commands.send(Command::Forget(service.clone()));
    }
}

async fn run(mut commands: mpsc::UnboundedReceiver<Command>, verdicts: mpsc::Sender<(Check, Verdict)>) {
    let (mut schedule, mut asked) = (Schedule::default(), JoinSet::new());
    loop {
        for _ in 0..BATCH.min(AT_ONCE - asked.len()) {
            let Some(question) = schedule.due(Instant::now()) else { break };
            asked.spawn(answered(question));
        }
        let next = schedule.next().filter(|_| asked.len() < AT_ONCE).map(tokio::time::Instant::from_std);
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Watch(service, how, checks)) => schedule.watch(service, how, checks, Instant::now()),
                Some(Command::Forget(service)) => schedule.forget(&service),
                None => return,
            },
            Some(Ok((number, answer))) = asked.join_next() => {
                let verdict = schedule.answer(number, answer, Instant::now());
                if let Some(verdict) = verdict && verdicts.send(verdict).await.is_err() {
                    return;
                }
            }
            () = sleep_until(next.unwrap_or_else(tokio::time::Instant::now)), if next.is_some() => {}
        }
    }
}

/// The question's number, and in what words it was not answered as it should be.
async fn answered(question: Question) -> (u64, Result<(), String>) {
    let patience = Duration::from_secs(question.how.timeout_seconds.get().into());
    let answer = match tokio::time::timeout(patience, probe::ask(question.address, &question.how.probe)).await
    {
        Ok(answer) => answer,
        Err(_) => Err(format!(
            "{} has no answer within {} s",
            probe::named(&question.how.probe),
            patience.as_secs()
        )),
    };
    (question.number, answer)
}

#[cfg(test)]
mod tests;
