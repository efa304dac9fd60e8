//! A name server that answers as a script tells it to.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// One question.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) message: Message,
    pub(crate) tcp: bool,
}

impl Question {
    /// `MX two.example` and the like.
    pub(crate) fn text(&self) -> String {
        let query = &self.message.queries[0];
        format!("{} {}", query.query_type(), query.name().to_ascii().trim_end_matches('.'))
    }

    pub(crate) fn record_type(&self) -> RecordType {
        self.message.queries[0].query_type()
    }

    /// An answer with these records, named as asked for.
    pub(crate) fn answer(&self, records: impl IntoIterator<Item = RData>) -> Message {
        let name = self.message.queries[0].name().clone();
        let mut message = self.message.clone().into_response();
        message.queries = self.message.queries.clone();
        message.add_answers(records.into_iter().map(|data| Record::from_rdata(name.clone(), 300, data)));
        message
    }

    pub(crate) fn code(&self, code: ResponseCode) -> Vec<u8> {
        let mut message = self.answer([]);
        message.metadata.response_code = code;
        message.to_vec().unwrap()
    }

    /// `host` as the only mail exchanger, or this address for a host.
    pub(crate) fn good(&self, host: &str) -> Vec<u8> {
        let data = match self.record_type() {
            RecordType::MX => Some(RData::MX(mx(10, host))),
            RecordType::A => Some(RData::A("192.0.2.1".parse().unwrap())),
            _ => None,
        };
        self.answer(data).to_vec().unwrap()
    }
}

pub(crate) fn mx(preference: u16, host: &str) -> hickory_resolver::proto::rr::rdata::MX {
    hickory_resolver::proto::rr::rdata::MX::new(preference, Name::from_ascii(host).unwrap())
}

/// A running responder; its tasks end with the runtime.
pub(crate) struct Responder {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Responder {
    /// Answers each question with what `script` returns for it: any number of messages as they go over the wire.
    pub(crate) async fn start(script: impl Fn(&Question) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        let script = Arc::new(move |bytes: &[u8], tcp: bool| {
            let message = Message::from_vec(bytes).unwrap();
            let question = Question { message, tcp };
            note.lock().unwrap().push(format!("{}{}", question.text(), if tcp { " over TCP" } else { "" }));
            script(&question)
        });
        let of_tcp = Arc::clone(&script);
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((len, from)) = udp.recv_from(&mut buffer).await {
                for answer in script(&buffer[..len], false) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = tcp.accept().await {
                let script = Arc::clone(&of_tcp);
                tokio::spawn(async move { serve(stream, |bytes| script(bytes, true)).await });
            }
        });
        Self { address, asked }
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// RFC 7766 §8: each message behind its length. Ends with the connection, or after an empty script.
async fn serve(mut stream: TcpStream, script: impl Fn(&[u8]) -> Vec<Vec<u8>>) {
    while let Ok(len) = stream.read_u16().await {
        let mut question = vec![0; usize::from(len)];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let answers = script(&question);
        if answers.is_empty() {
            return;
        }
        for answer in answers {
            let len = u16::try_from(answer.len()).unwrap();
            if stream.write_u16(len).await.is_err() || stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}
