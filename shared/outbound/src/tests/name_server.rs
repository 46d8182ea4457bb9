//! A name server with the answers that a test sets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

/// The answer for one name.
#[derive(Clone)]
pub(super) enum Zone {
    Records(Vec<RData>),
    /// Answers for IPv4, and never for IPv6.
    SilentForIpv6(Vec<RData>),
    Code(ResponseCode),
    Silence,
}

impl Zone {
    /// Reads `A 192.0.2.1, AAAA ::1, CNAME other.test`, or `SERVFAIL`, `NXDOMAIN`, `EMPTY`, `SILENCE`.
    /// After records for IPv4, `AAAA SILENCE` leaves questions for IPv6 unanswered.
    pub(super) fn parse(text: &str) -> Self {
        match text {
            "EMPTY" => Self::Records(Vec::new()),
            "SERVFAIL" => Self::Code(ResponseCode::ServFail),
            "NXDOMAIN" => Self::Code(ResponseCode::NXDomain),
            "SILENCE" => Self::Silence,
            records => match records.strip_suffix(", AAAA SILENCE") {
                Some(ipv4) => Self::SilentForIpv6(parse_records(ipv4)),
                None => Self::Records(parse_records(records)),
            },
        }
    }
}

fn parse_records(text: &str) -> Vec<RData> {
    text.split(", ").map(parse_record).collect()
}

fn parse_record(text: &str) -> RData {
    let (kind, value) = text.split_once(' ').unwrap();
    match kind {
        "A" => RData::A(A(value.parse().unwrap())),
        "AAAA" => RData::AAAA(AAAA(value.parse().unwrap())),
        "CNAME" => RData::CNAME(CNAME(Name::from_ascii(format!("{value}.")).unwrap())),
        _ => panic!("{text}"),
    }
}

#[derive(Default)]
struct State {
    zones: HashMap<String, Zone>,
    questions: usize,
}

/// Answers on a port of its own for as long as the test's runtime lives.
pub(super) struct NameServer {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl NameServer {
    pub(super) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        tokio::spawn(serve(socket, Arc::clone(&state)));
        Self { address, state }
    }

    /// From now on, `name` has this answer.
    pub(super) fn set(&self, name: &str, zone: &str) {
        self.state.lock().unwrap().zones.insert(name.to_owned(), Zone::parse(zone));
    }

    /// How many questions were asked so far.
    pub(super) fn questions(&self) -> usize {
        self.state.lock().unwrap().questions
    }
}

async fn serve(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let answer = state.lock().unwrap().answer(&question);
        if let Some(answer) = answer {
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }
}

impl State {
    fn answer(&mut self, question: &Message) -> Option<Message> {
        self.questions += 1;
        let query = question.queries[0].clone();
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.metadata.recursion_available = true;
        let mut name = query.name().clone();
        // Like a resolver, it follows aliases and answers with the whole chain, within reason.
        for _ in 0..8 {
            match self.zones.get(name.to_ascii().to_lowercase().trim_end_matches('.')) {
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some(Zone::Silence) => return None,
                Some(Zone::SilentForIpv6(_)) if query.query_type() == RecordType::AAAA => {
                    return None;
                }
                Some(Zone::Code(code)) => answer.metadata.response_code = *code,
                Some(Zone::Records(records) | Zone::SilentForIpv6(records)) => {
                    add_records(&mut answer, &name, records, query.query_type());
                    if let Some(RData::CNAME(alias)) = records.first() {
                        name = alias.0.clone();
                        continue;
                    }
                }
            }
            break;
        }
        answer.add_query(query);
        Some(answer)
    }
}

/// The time to live is long, so that a test would notice an answer that is kept.
fn add_records(answer: &mut Message, name: &Name, records: &[RData], wanted: RecordType) {
    for data in records {
        if [wanted, RecordType::CNAME].contains(&data.record_type()) {
            answer.add_answer(Record::from_rdata(name.clone(), 300, data.clone()));
        }
    }
}
