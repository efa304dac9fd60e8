//! The thread that reads messages from the logs, so that a slow disk holds up no dialog.
//!
//! Requests are served in turn: the next messages of an arrival log for the intake, single messages for a retry. Large bodies are not read here:
//! each is streamed by a thread of its own that goes at the pace of its next hop.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender, unbounded};
use inrush_log::{
    BadReason, BadRecord, DiskStorage, Entry, HeaderError, LogKind, Lsn, Message, OpenError, ReadError,
    Reader, RecordKind, log_directory,
};
use inrush_queue::Place;
use tokio::sync::{mpsc, oneshot};

/// Octets of messages in one answer, about.
const ANSWER_OCTETS: usize = 1 << 20;
/// Messages in one answer.
const ANSWER_MESSAGES: usize = 256;
/// Pieces of a body that wait for the next hop.
const PIECES: usize = 2;
/// What a body costs that is streamed: those pieces, one at either end of their way, and the window through which they are read.
pub(crate) const STREAM_OCTETS: u64 = (PIECES as u64 + 4) * (256 << 10);

/// The next messages of an arrival log.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Number of the log.
    pub(crate) log: u8,
    /// In order.
    pub(crate) found: Vec<Found>,
    /// Where the next one is looked for.
    pub(crate) next: Lsn,
    /// Nothing more stands below the limit that was asked for.
    pub(crate) end: bool,
    /// Why there is no more, if that is not the end.
    pub(crate) error: Option<io::Error>,
}

/// What stands in an arrival log.
#[derive(Debug)]
pub(crate) enum Found {
    /// A message, and the end of its record.
    Message(Arc<Message>, Lsn),
    /// Something that cannot be read and may have been a message: where it stands, and where reading goes on behind it.
    Unreadable(BadRecord, Lsn, Lsn),
    /// No message up to here: what an aborted transaction has left, for instance.
    Nothing(Lsn),
}

enum Request {
    Next { log: u8, from: Lsn, limit: Lsn },
    Message { place: Place, answer: oneshot::Sender<Result<Option<Message>, ReadError>> },
}

/// The way to the thread. It ends when this is dropped.
#[derive(Clone)]
pub(crate) struct ReaderHandle {
    requests: Sender<Request>,
    storage: DiskStorage,
}

impl ReaderHandle {
    /// Starts the thread; batches come through the channel.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn start(storage: DiskStorage) -> io::Result<(Self, mpsc::UnboundedReceiver<Batch>)> {
        let (requests, queue) = unbounded();
        let (batches, answers) = mpsc::unbounded_channel();
        let readers = Readers { storage: storage.clone(), open: HashMap::new() };
        thread::Builder::new()
            .name("inrush-read".to_owned())
            .spawn(move || readers.serve(&queue, &batches))?;
        Ok((Self { requests, storage }, answers))
    }

    /// The data directory.
    pub(crate) fn storage(&self) -> &DiskStorage {
        &self.storage
    }

    /// Asks for the next messages of an arrival log below `limit`.
    pub(crate) fn ask_next(&self, log: u8, from: Lsn, limit: Lsn) {
        // The thread lives as long as this.
        let _ = self.requests.send(Request::Next { log, from, limit });
    }

    /// The message at a place; `None` when its segment is not there any more.
    pub(crate) async fn message(&self, place: Place) -> Result<Option<Message>, ReadError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send(Request::Message { place, answer });
        answered.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
    }

    /// The whole body of a message with chunks, piece by piece; an error instead of the next piece when it cannot be read to its end.
    pub(crate) fn body(
        &self,
        place: Place,
        message: Arc<Message>,
    ) -> mpsc::Receiver<Result<Vec<u8>, ReadError>> {
        let (pieces, taken) = mpsc::channel(PIECES);
        let storage = self.storage.clone();
        tokio::task::spawn_blocking(move || {
            let read = || {
                let dir = log_directory(place.kind, place.log);
                let mut reader = Reader::on(storage, &dir).map_err(unreadable)?;
                let hand_over = |piece: &[u8]| {
                    // Nobody waits for it any more.
                    let gone = |_| io::ErrorKind::BrokenPipe.into();
                    pieces.blocking_send(Ok(piece.to_vec())).map_err(gone)
                };
                reader.read_body(&message, hand_over).map(drop)
            };
            if let Err(error) = read() {
                let _ = pieces.blocking_send(Err(error));
            }
        });
        taken
    }
}

fn unreadable(error: OpenError) -> ReadError {
    match error {
        OpenError::Io { error, .. } => error.into(),
        other => io::Error::other(other.to_string()).into(),
    }
}

/// Whether there may have been a message: not where only the seal is lost, nor a chunk, whose message stands elsewhere.
fn may_be_mail(bad: &BadRecord) -> bool {
    match bad.reason {
        BadReason::Seal => false,
        BadReason::Content => bad.id.is_some(),
        _ => true,
    }
}

/// What the thread works with.
struct Readers {
    storage: DiskStorage,
    open: HashMap<(LogKind, u8), Reader>,
}

impl Readers {
    fn serve(mut self, queue: &Receiver<Request>, batches: &mpsc::UnboundedSender<Batch>) {
        for request in queue {
            match request {
                Request::Next { log, from, limit } => {
                    let mut batch = Batch { log, found: Vec::new(), next: from, end: false, error: None };
                    if let Err(error) = self.next(&mut batch, limit) {
                        batch.error = Some(error);
                    }
                    if batches.send(batch).is_err() {
                        return;
                    }
                }
                Request::Message { place, answer } => {
                    let message = self.message(place);
                    // Whoever asked may have gone.
                    let _ = answer.send(message);
                }
            }
        }
    }

    fn next(&mut self, batch: &mut Batch, limit: Lsn) -> io::Result<()> {
        let from = batch.next;
        let reader = self.reader(LogKind::Arrival, batch.log)?;
        if reader.position() != from {
            reader.seek(from);
        }
        reader.set_limit(limit);
        let mut octets = 0;
        while octets < ANSWER_OCTETS && batch.found.len() < ANSWER_MESSAGES {
            match reader.next()? {
                None => {
                    batch.end = true;
                    break;
                }
                Some(Entry::Bad(bad)) => {
                    let next = reader.position();
                    if may_be_mail(&bad) {
                        let segment_bytes = reader.identity().segment_bytes;
                        let lsn = Lsn::new(bad.segment * segment_bytes).plus(bad.offset);
                        batch.found.push(Found::Unreadable(bad, lsn, next));
                    } else {
                        tracing::error!(log = batch.log, damaged = %bad, "the log is damaged, but no message is lost here");
                    }
                }
                Some(Entry::Record(record)) if record.header.kind == RecordKind::Message => {
                    octets += record.envelope.len() + record.body.len();
                    let end = record.header.lsn.plus(record.header.octets());
                    batch.found.push(Found::Message(Arc::new(Message::from_record(&record)), end));
                }
                Some(Entry::Record(_)) => {}
            }
        }
        batch.next = reader.position();
        Ok(())
    }

    fn message(&mut self, place: Place) -> Result<Option<Message>, ReadError> {
        let reader = self.reader(place.kind, place.log)?;
        if let found @ Some(_) = reader.message_at(place.lsn)? {
            return Ok(found);
        }
        reader.refresh()?;
        let segment_bytes = reader.identity().segment_bytes;
        let (segment, offset) = (place.lsn.segment(segment_bytes), place.lsn.offset(segment_bytes));
        if reader.segments().iter().all(|one| one.number != segment) {
            return Ok(None);
        }
        // The segment is there, and has nothing that can be told from octets where the message stands.
        let reason = BadReason::Header(HeaderError::Magic);
        Err(ReadError::Damaged(BadRecord { segment, offset, octets: 0, id: None, reason }))
    }

    fn reader(&mut self, kind: LogKind, log: u8) -> io::Result<&mut Reader> {
        use std::collections::hash_map::Entry;
        match self.open.entry((kind, log)) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(vacant) => {
                let reader = Reader::on(self.storage.clone(), &log_directory(kind, log));
                let reader = reader.map_err(|error| match error {
                    OpenError::Io { error, .. } => error,
                    other => io::Error::other(other.to_string()),
                })?;
                Ok(vacant.insert(reader))
            }
        }
    }
}
