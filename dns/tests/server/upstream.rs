//! Servers of the outside that answer as a test wants.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record};

/// How a question came to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Udp,
    Tcp,
}

/// It ends with the process: a thread that waits on a socket of its own.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

/// What it sends for a question; none: nothing.
type Behaviour = dyn Fn(&Message, Way) -> Option<Message> + Send + Sync;

impl Upstream {
    pub(crate) fn start(
        last: u8,
        behaviour: impl Fn(&Message, Way) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        let tcp = TcpListener::bind((Ipv4Addr::new(127, 0, 78, last), 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (of_udp, count) = (behaviour.clone(), asked.clone());
        thread::spawn(move || serve_udp(&udp, &*of_udp, &count));
        thread::spawn(move || serve_tcp(&tcp, &*behaviour));
        Self { address, asked }
    }

    /// Datagrams that came.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve_udp(socket: &UdpSocket, behaviour: &Behaviour, asked: &AtomicUsize) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        asked.fetch_add(1, Ordering::SeqCst);
        let question = Message::from_vec(&buffer[..length]).unwrap();
        if let Some(answer) = behaviour(&question, Way::Udp) {
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    }
}

fn serve_tcp(listener: &TcpListener, behaviour: &Behaviour) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question).unwrap();
        if let Some(answer) = behaviour(&Message::from_vec(&question).unwrap(), Way::Tcp) {
            let answer = answer.to_vec().unwrap();
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    }
}

/// A response without records.
pub(crate) fn empty(question: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, question.metadata.op_code);
    answer.metadata.response_code = code;
    answer.queries = question.queries.clone();
    answer
}

/// A response with A records of 192.0.2.0/24.
pub(crate) fn addresses(question: &Message, ttl: u32, count: u8) -> Message {
    let mut answer = empty(question, ResponseCode::NoError);
    let name = question.queries[0].name().clone();
    let record = |last| Record::from_rdata(name.clone(), ttl, RData::A(A::new(192, 0, 2, last)));
    answer.answers = (1..=count).map(record).collect();
    answer
}

/// NXDOMAIN with an SOA record.
pub(crate) fn absence(question: &Message) -> Message {
    let mut answer = empty(question, ResponseCode::NXDomain);
    let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 60);
    answer.authorities = vec![Record::from_rdata(Name::root(), 60, RData::SOA(soa))];
    answer
}

/// Waits so long before it answers.
pub(crate) fn pause(time: Duration) {
    thread::sleep(time);
}
