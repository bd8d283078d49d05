//! The wire to other servers. All are asked at once; the first that decides something counts.
//!
//! hickory-net gives each datagram a number, a port and a spelling of its own at random (0x20), and takes only an
//! answer that has them all, from where it asked.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsRequestSender, FirstAnswer};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message, MessageType, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cache::{Key, is_final};
use crate::wire::DATAGRAM_BYTES;

/// A datagram that is not answered is sent again after this time, twice.
const AGAIN: Duration = Duration::from_millis(500);
const TIMES: u8 = 2;

/// Asks all servers of the key. None: none answered in time. What does not decide anything, SERVFAIL say, is returned
/// only when nobody said better.
pub(super) async fn race(key: &Key, deadline: Duration) -> Option<Message> {
    let query = query(key)?;
    let mut servers = JoinSet::new();
    for server in key.servers.iter() {
        servers.spawn_local(ask(*server, query.clone(), key.dnssec_ok, key.checks_itself));
    }
    let mut best = None;
    let first = async {
        while let Some(answer) = servers.join_next().await {
            let Some(answer) = answer.ok().flatten() else { continue };
            if is_final(answer.metadata.response_code) {
                return Some(answer);
            }
            best = Some(answer);
        }
        None
    };
    timeout(deadline, first).await.ok().flatten().or(best)
}

fn query(key: &Key) -> Option<Query> {
    let wire: Vec<u8> = key.name.iter().copied().chain([0]).collect();
    let name = Name::read(&mut BinDecoder::new(&wire)).ok()?;
    Some(Query::query(name, RecordType::from(key.kind)))
}

async fn ask(server: SocketAddr, query: Query, dnssec_ok: bool, checks_itself: bool) -> Option<Message> {
    let mut options = DnsRequestOptions::default();
    options.edns_payload_len = DATAGRAM_BYTES as u16;
    options.edns_set_dnssec_ok = dnssec_ok;
    options.case_randomization = true;
    options.retry_interval = AGAIN;
    let (mut message, _) = DnsRequest::from_query(query.clone(), options).into_parts();
    message.metadata.checking_disabled = checks_itself;
    let request = DnsRequest::new(message.clone(), options).with_original_query(Some(query));
    let builder = UdpClientStream::builder(server, TokioRuntimeProvider::new());
    let mut stream = builder.with_max_retries(TIMES).with_timeout(Some(super::DEADLINE)).build();
    match stream.send_message(request).first_answer().await {
        Ok(answer) if answer.metadata.truncation => ask_over_tcp(server, message).await,
        Ok(answer) => Some(answer.into_message()),
        // It may change the case of names: over TCP nobody can forge an answer so easily.
        Err(hickory_net::NetError::QueryCaseMismatch) => ask_over_tcp(server, message).await,
        Err(_) => None,
    }
}

async fn ask_over_tcp(server: SocketAddr, message: Message) -> Option<Message> {
    let request = message.to_vec().ok()?;
    let mut stream = TcpStream::connect(server).await.ok()?;
    let length = u16::try_from(request.len()).ok()?.to_be_bytes();
    stream.write_all(&[&length[..], &request].concat()).await.ok()?;
    let mut answer = vec![0; stream.read_u16().await.ok()?.into()];
    stream.read_exact(&mut answer).await.ok()?;
    let answer = Message::from_vec(&answer).ok()?;
    let is_answer = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == message.metadata.id
        && answer.queries == message.queries;
    is_answer.then_some(answer)
}
