//! A question of this process's own, asked and answered as text.

use std::str::FromStr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use zeugma_model::NetworkName;

use super::handler::{Core, Reply, Transport};
use super::room::Asker;
use crate::forward::Client;
use crate::wire::Code;

/// The answer to a question, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The response code's mnemonic.
    pub code: String,
    /// Records of the answer section: owner, seconds, type, content.
    pub records: Vec<(String, u32, String, String)>,
}

/// Why a question was not asked.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// No domain name.
    #[error("{0:?} is no domain name: labels have 63 bytes at most, names 253")]
    Name(String),
    /// No record type.
    #[error("{0:?} is no record type: write A, AAAA, PTR, SRV or another mnemonic")]
    Kind(String),
    /// There is no such network, or nobody on it has a name.
    #[error("no network {0:?} has names here; `zeugma dns dump` lists those that have")]
    Network(String),
    /// The reply cannot be read.
    #[error("another server's answer cannot be read: {0}")]
    Answer(String),
    /// The thread is gone.
    #[error("the resolver's thread has ended; restart the agent")]
    Ended,
}

/// The question as a message.
pub(super) fn request(name: &str, kind: &str) -> Result<Vec<u8>, LookupError> {
    let wrong_name = || LookupError::Name(name.to_owned());
    let mut asked = Name::from_str_relaxed(name).map_err(|_| wrong_name())?;
    asked.set_fqdn(true);
    let kind =
        RecordType::from_str(&kind.to_ascii_uppercase()).map_err(|_| LookupError::Kind(kind.to_owned()))?;
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(asked, kind));
    message.to_vec().map_err(|_| wrong_name())
}

/// The reply to it. It is asked for the host.
pub(super) async fn answer(
    core: Core,
    network: Option<NetworkName>,
    request: &[u8],
) -> Result<Vec<u8>, LookupError> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let no_network = LookupError::Network(network.as_ref().map(ToString::to_string).unwrap_or_default());
    let asker = Asker::Own(network);
    let reply = {
        let snapshot = core.shared.snapshot.load();
        let Some(view) = asker.view(&snapshot) else { return Err(no_network) };
        core.answer((Some(view), Client::Own), request, &mut buffer, Transport::Tcp)
    };
    let length = match reply {
        Reply::None => 0,
        Reply::Ready(length) => length,
        Reply::Later(later) => {
            let given = core.given(later, request, &asker).await;
            core.relay(request, &given, &mut buffer, Transport::Tcp)
        }
    };
    buffer.truncate(length);
    Ok(buffer)
}

/// The reply as text.
pub(super) fn read(reply: &Result<Vec<u8>, LookupError>) -> Result<Looked, LookupError> {
    let bytes = match reply {
        Ok(bytes) => bytes,
        Err(LookupError::Network(name)) => return Err(LookupError::Network(name.clone())),
        Err(error) => return Err(LookupError::Answer(error.to_string())),
    };
    let message = Message::from_vec(bytes).map_err(|error| LookupError::Answer(error.to_string()))?;
    let code = u16::from(message.metadata.response_code);
    let known = Code::ALL.into_iter().find(|known| *known as u16 == code);
    let record = |record: &hickory_proto::rr::Record| {
        (record.name.to_string(), record.ttl, record.record_type().to_string(), record.data.to_string())
    };
    Ok(Looked {
        code: known.map_or_else(|| format!("RCODE{code}"), |known| known.mnemonic().to_owned()),
        records: message.answers.iter().map(record).collect(),
    })
}
