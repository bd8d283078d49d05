//! Questions and batches of changes by rtnetlink.

use std::io;

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use super::encode::Request;
use crate::{Error, Refusal};

/// Requests on their way at a time: their answers fit into the socket's receive buffer.
const WINDOW: usize = 128;
/// `NLM_F_DUMP_INTR`: things changed while they were listed.
const INTERRUPTED: u16 = 0x10;
/// How often a list is asked for until it is whole.
const PATIENCE: usize = 5;

/// A way to the kernel.
#[derive(Debug, Clone)]
pub(super) struct Socket(rtnetlink::Handle);

impl Socket {
    /// Opens it, inside a tokio runtime.
    pub(super) fn open() -> Result<Self, Error> {
        let failed = |source| Error::System { action: "open a netlink socket for overlays", source };
        // Lists can then be narrowed to one link. Kernels before 4.20 do not know it and send everything.
        let strict = rtnetlink::new_connection_with_strict_check();
        let (connection, handle, _) = strict.or_else(|_| rtnetlink::new_connection()).map_err(failed)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Asks one question; a list is asked for until nothing changes meanwhile.
    pub(super) async fn ask(
        &self,
        action: &'static str,
        question: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Result<Vec<RouteNetlinkMessage>, Refusal>, Error> {
        let mut answers = Vec::new();
        for _ in 0..PATIENCE {
            let mut is_whole = true;
            answers.clear();
            let mut stream = Box::pin(self.request(action, question.clone(), flags)?);
            while let Some(message) = stream.next().await {
                is_whole &= message.header.flags & INTERRUPTED == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) => {
                        if let Some(refusal) = refusal(&error) {
                            return Ok(Err(refusal));
                        }
                    }
                    NetlinkPayload::Overrun(_) => is_whole = false,
                    _ => {}
                }
            }
            if is_whole {
                return Ok(Ok(answers));
            }
        }
        // What is missing of a part of a list would be made again, or taken for gone.
        Err(Error::Restless { action })
    }

    /// Lists.
    pub(super) async fn list(
        &self,
        action: &'static str,
        question: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        match self.ask(action, question, NLM_F_DUMP).await? {
            Ok(answers) => Ok(answers),
            // A table without routes of the family does not exist, and a host without IPv6 has no list of it.
            Err(refusal) if [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT].contains(&refusal.errno) => {
                Ok(Vec::new())
            }
            Err(refusal) => Err(Error::Unanswered { action, refusal }),
        }
    }

    /// Makes changes, in order; says what was refused, by position.
    pub(super) async fn change(&self, batch: &[Request]) -> Result<Vec<(usize, Refusal)>, Error> {
        const ACTION: &str = "change overlays";
        let mut refused = Vec::new();
        for (part, requests) in batch.chunks(WINDOW).enumerate() {
            let mut waiting = Vec::with_capacity(requests.len());
            for Request { message, flags, .. } in requests {
                waiting.push(Box::pin(self.request(ACTION, message.clone(), *flags | NLM_F_ACK)?));
            }
            for (at, mut stream) in waiting.into_iter().enumerate() {
                while let Some(message) = stream.next().await {
                    let NetlinkPayload::Error(error) = message.payload else { continue };
                    refused.extend(refusal(&error).map(|refusal| (part * WINDOW + at, refusal)));
                }
            }
        }
        Ok(refused)
    }

    fn request(
        &self,
        action: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<impl futures_util::Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + use<>, Error> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        let closed = |_| Error::System { action, source: io::ErrorKind::BrokenPipe.into() };
        self.0.clone().request(message).map_err(closed)
    }
}

fn refusal(error: &netlink_packet_core::ErrorMessage) -> Option<Refusal> {
    error.code.map(|code| Refusal { errno: code.get().saturating_neg(), reason: None })
}
