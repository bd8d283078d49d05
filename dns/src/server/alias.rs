//! Answers from zones of the operator's, followed to their end: a CNAME record may lead to a container, into another
//! zone or to the outside, and a client's library (glibc, musl) does not go on by itself.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::handler::{Core, Later, Transport};
use super::room::Asker;
use crate::forward::Client;
use crate::wire::Question;

/// Aliases that are followed behind what a zone itself says.
const STEPS: usize = 8;

impl Core {
    /// The answer of the zone that has the name; none: there is none to be had.
    pub(super) async fn of_zone(
        &self,
        question: &Question<'_>,
        asker: &Asker,
        client: Client,
    ) -> Option<Message> {
        let mut message = self.shared.zones.answer(question).await?;
        for _ in 0..STEPS {
            let Some(target) = loose_end(&message, question.kind) else { break };
            let Some(more) = self.further(question, target, asker, client).await else { break };
            message.metadata.response_code = more.metadata.response_code;
            if more.answers.is_empty() {
                message.authorities.extend(more.authorities);
                break;
            }
            message.answers.extend(more.answers);
        }
        Some(message)
    }

    /// What the same client would be answered about another name; none: nothing, or not now.
    async fn further(
        &self,
        question: &Question<'_>,
        name: Name,
        asker: &Asker,
        client: Client,
    ) -> Option<Message> {
        let request = about(question, name)?;
        let question = Question::parse(&request).ok()?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let decided = {
            let snapshot = self.shared.snapshot.load();
            self.decide((asker.view(&snapshot), client), &question, &mut buffer, Transport::Tcp)
        };
        let length = match decided {
            Ok((length, _)) => length,
            Err(Later::Zone(_)) => return self.shared.zones.answer(&question).await,
            Err(Later::Outside(ticket)) => {
                crate::forward::relay(&question, &ticket.answer().await, &mut buffer, usize::from(u16::MAX)).0
            }
        };
        let message = Message::from_vec(&buffer[..length]).ok()?;
        let is_said =
            [ResponseCode::NoError, ResponseCode::NXDomain].contains(&message.metadata.response_code);
        is_said.then_some(message)
    }
}

/// Where the answer points and does not go.
fn loose_end(message: &Message, kind: u16) -> Option<Name> {
    let last = message.answers.last().filter(|_| RecordType::from(kind) != RecordType::CNAME)?;
    let RData::CNAME(target) = &last.data else { return None };
    let is_known = message.answers.iter().any(|record| record.name == target.0);
    (!is_known).then(|| target.0.clone())
}

/// The same question about another name.
fn about(question: &Question<'_>, name: Name) -> Option<Vec<u8>> {
    let mut message = Message::new(question.id(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = question.wants_recursion();
    message.metadata.checking_disabled = question.checks_itself();
    message.add_query(Query::query(name, RecordType::from(question.kind)));
    message.to_vec().ok()
}
