//! What hickory-server's catalog answers, as a message that is sent by our own loop.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hickory_net::NetError;
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::server::{ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponse;

/// Keeps the response that it is given.
#[derive(Clone, Default)]
pub(super) struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// The response as it is to be told; none: there was none.
    pub(super) fn message(&self) -> Option<Message> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Message::from_vec(&bytes).ok().map(told)
    }
}

#[async_trait]
impl ResponseHandler for Capture {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(512);
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        Ok(info)
    }
}

/// Mends what hickory leaves: a referral is not authoritative (RFC 1034, 6.2.6), and an absence holds no longer than
/// the SOA record's minimum (RFC 2308, 3).
fn told(mut message: Message) -> Message {
    let refers = |record: &Record| record.record_type() == RecordType::NS;
    if message.answers.is_empty() && message.authorities.iter().any(refers) {
        message.metadata.authoritative = false;
    }
    for record in &mut message.authorities {
        if let RData::SOA(soa) = &record.data {
            record.ttl = record.ttl.min(soa.minimum);
        }
    }
    message
}
