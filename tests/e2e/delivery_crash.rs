//! kill -9 at random moments while mail comes in and goes on to a host that takes it, refuses it, puts it off and hangs up, and while what waits for
//! long moves into the retry log: everything acknowledged was delivered or returned, and nothing is done again that was written down.
//!
//! What may come twice is known from two sides: from the host, which has answered 250, and from the history of the queue, which was told of each
//! delivery that was durable at a kill. A delivery that the history has is never repeated; one that it has not was cut off.
//!
//! `INRUSH_CRASH_ROUNDS` sets how often, `INRUSH_SEED` repeats the moments of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use inrush_tests::http::{self, Samples};
use inrush_tests::peer::{Answer, Message, Peer, Script, Stage, When};
use inrush_tests::random::Random;
use inrush_tests::sender::{self, Acknowledged, Round};
use inrush_tests::server::Server;
use inrush_tests::{export, process};
use serde_json::Value;

use crate::delivery::{domain, outcome, route, settings, simple};

const SENDERS: usize = 2;
/// Attempts follow one another quickly, and what has waited for a second moves.
const QUEUE: &str = "[queue]\nretry_first = \"100ms\"\nretry_max = \"1s\"\nevacuate_after = \"1s\"\n";
const MOVING: &str = "moving what waits out of a segment";

fn rounds() -> u64 {
    std::env::var("INRUSH_CRASH_ROUNDS")
        .map_or(24, |rounds| rounds.parse().expect("INRUSH_CRASH_ROUNDS is a number"))
}

/// Whose name says how the host treats them.
fn recipients(number: u64) -> &'static [&'static str] {
    match number % 20 {
        0 => &["gone@example.com"],
        1 => &["spam@example.com"],
        2 => &["late@example.com"],
        3 => &["r@example.com", "late@example.com"],
        4 => &["gone@example.com", "r@example.com"],
        5 => &["busy@example.com"],
        6 => &["lost@example.com"],
        _ => &["r@example.com"],
    }
}

fn is_refused(recipient: &str) -> bool {
    recipient.starts_with("gone@") || recipient.starts_with("spam@")
}

/// For good, whenever they are tried.
fn refusals() -> Script {
    Script::smtp()
        .on(When::at(Stage::Recipient).address("gone@*"), Answer::reply("550 5.1.1 who?"))
        .on(When::at(Stage::End).address("spam@*"), Answer::reply("554 5.7.1 spam"))
}

/// The host as it is during a round; its rules count anew with each.
fn moody() -> Script {
    refusals()
        .on(When::at(Stage::Recipient).address("late@*"), Answer::reply("450 4.7.1 come back"))
        .on(When::at(Stage::End).address("busy@*").times(20), Answer::reply("451 4.3.0 busy"))
        .on(When::at(Stage::End).address("lost@*").times(5), Answer::close())
        .on(When::at(Stage::Mail).after(50).times(1), Answer::close())
        .on(When::at(Stage::Data).after(70).times(1), Answer::reply("421 4.3.2 bye").then(Answer::close()))
}

/// From when on a life is counted.
#[derive(Clone, Copy)]
enum Moment {
    /// The first message is acknowledged.
    Acknowledged,
    /// A segment begins to be emptied.
    Moving,
    /// A segment has gone.
    Retired,
}

/// A gateway that is killed again and again, and what is known of each of its lives.
struct Lives {
    server: Server,
    peer: Peer,
    reports: Peer,
    /// Connections to the next hop that had come by the end of each life.
    ends: Vec<usize>,
    /// The ids of acknowledged messages.
    acknowledged: BTreeMap<u64, String>,
    numbers: u64,
    moves: usize,
    retired: f64,
}

impl Lives {
    fn start(engine: &str) -> Self {
        let (peer, reports) = (Peer::start(moody()), Peer::start(Script::smtp()));
        let settings = settings(&[
            route("next", "smtp", &[peer.address()], ""),
            route("back", "smtp", &[reports.address()], ""),
            domain("*", "next"),
            domain("client.test.example", "back"),
            QUEUE.to_owned(),
        ]);
        let log = ["segment_bytes = \"1MiB\"", "free_bytes_min = \"16MiB\""];
        let server = Server::with(settings.engine(engine).log(&log));
        let (ends, acknowledged) = (Vec::new(), BTreeMap::new());
        Self { server, peer, reports, ends, acknowledged, numbers: 0, moves: 0, retired: 0.0 }
    }

    /// Mail until a kill, that long after this moment.
    fn load_and_kill(&mut self, moment: Moment, later: Duration) {
        self.peer.change(moody());
        let round = Round::from(self.numbers).to(recipients);
        let (address, answered) = (self.server.mx(), self.numbers + SENDERS as u64);
        let sent: Vec<Acknowledged> = std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(|| round.send(address))).collect();
            let _guard = round.guard();
            process::eventually("a message is acknowledged", || round.next() > answered);
            match moment {
                Moment::Acknowledged => {}
                Moment::Moving => self.server.wait_for_log(MOVING),
                Moment::Retired => process::eventually("a segment goes", || retired(&self.server) > 0.0),
            }
            std::thread::sleep(later);
            round.over.store(true, Ordering::SeqCst);
            self.kill();
            let joined = senders.into_iter().map(|sender| sender.join());
            joined.flat_map(|sent| sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        self.numbers = round.next();
        self.acknowledged.extend(sent.into_iter().map(|one| (one.number, one.id)));
        self.server.restart();
    }

    fn kill(&mut self) {
        self.retired += retired(&self.server);
        self.server.kill9();
        self.moves += self.server.log().matches(MOVING).count();
        // What the host does from here on is for the next life.
        self.ends.push(self.peer.wait_for_ends(0).connections.len());
    }

    fn restart(&mut self) {
        self.kill();
        self.server.restart();
    }

    /// The life in which a message came to the next hop.
    fn life(&self, message: &Message) -> usize {
        self.ends.partition_point(|connections| *connections < message.connection)
    }

    fn is_idle(&self) -> bool {
        let samples = Samples::scrape(self.server.admin());
        samples.sum("inrush_queue_entries", &[]) + samples.sum("inrush_queue_messages_under_way", &[]) == 0.0
    }
}

/// What the next hop has taken: id, and in which lives, by number and recipient.
type Taken = BTreeMap<(u64, String), (String, Vec<usize>)>;

fn taken(lives: &Lives) -> Taken {
    let mut taken = Taken::new();
    for message in lives.peer.messages() {
        if !message.replies.iter().any(|reply| reply.starts_with('2')) {
            continue;
        }
        let number = sender::number(&message.octets).expect("a message of ours");
        export::assert_body(&message.octets, &sender::body(number), &number.to_string());
        let id = id(&message.octets);
        for recipient in message.accepted() {
            let entry = taken.entry((number, recipient.to_owned()));
            let (known, came) = entry.or_insert_with(|| (id.clone(), Vec::new()));
            // A message that was stored and never acknowledged may be sent anew by nobody here.
            assert_eq!(*known, id, "number {number} under two ids");
            came.push(lives.life(&message));
        }
    }
    taken
}

/// The id in our trace header.
fn id(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(&octets[..octets.len().min(1000)]).into_owned();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let mut ids = words.filter(|word| word.len() == 20 && word.starts_with("0000"));
    ids.next().unwrap_or_else(|| panic!("no id: {text}")).to_owned()
}

/// Who was reported on, with the ids of the reports.
fn reported(lives: &Lives) -> BTreeMap<(u64, String), BTreeSet<String>> {
    let mut reported: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for message in lives.reports.messages() {
        let text = String::from_utf8_lossy(&message.octets).into_owned();
        // The last subject is that of the message that is returned.
        let subject = text.lines().filter_map(|line| line.strip_prefix("Subject: ")).next_back();
        let number = subject.and_then(|subject| subject.parse().ok());
        let number = number.unwrap_or_else(|| panic!("a report on nothing: {text}"));
        for line in text.lines().filter_map(|line| line.strip_prefix("Final-Recipient: ")) {
            let recipient = line.rsplit([';', ' ']).next().unwrap_or_default().to_owned();
            reported.entry((number, recipient)).or_default().insert(id(&message.octets));
        }
    }
    reported
}

/// What was owed and is neither with the next hop nor with its sender.
fn missing(lives: &Lives) -> Vec<(u64, &'static str)> {
    let (taken, reported) = (taken(lives), reported(lives));
    let owed = lives
        .acknowledged
        .keys()
        .flat_map(|number| recipients(*number).iter().map(|recipient| (*number, *recipient)));
    let missing = owed.filter(|(number, recipient)| {
        let key = (*number, (*recipient).to_owned());
        if is_refused(recipient) { !reported.contains_key(&key) } else { !taken.contains_key(&key) }
    });
    missing.collect()
}

/// The life of a message, as the queue tells it.
fn story(server: &Server, id: &str) -> Value {
    let answer = http::get(server.admin(), &format!("/api/v1/queue/{id}"));
    assert_eq!(answer.status, 200, "{id}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// How often the history says that a recipient has it.
fn written_down(story: &Value, recipient: &str) -> usize {
    let attempts = story["attempts"].as_array().unwrap();
    let results = attempts.iter().flat_map(|attempt| attempt["results"].as_array().into_iter().flatten());
    results.filter(|result| result["address"] == recipient && result["status"] == "sent").count()
}

/// Segments of this life that nobody needed any more.
fn retired(server: &Server) -> f64 {
    Samples::scrape(server.admin()).sum("inrush_log_segments_retired_total", &["reason=\"consumed\""])
}

/// Whether a message stands behind the position of the queue in one of its logs.
fn owes(server: &Server) -> bool {
    let samples = Samples::scrape(server.admin()).0;
    let mut names = samples.keys();
    names.any(|name| {
        name.starts_with("inrush_log_consumer_oldest_timestamp_seconds") && name.contains("route=\"queue\"")
    })
}

fn crash(engine: &str, rounds: u64) {
    let mut random = Random::from_environment();
    let mut lives = Lives::start(engine);
    for round in 0..rounds {
        let (moment, later) = match round % 4 {
            0 => (Moment::Acknowledged, 5 + random.below(300)),
            1 => (Moment::Moving, random.below(40)),
            2 => (Moment::Retired, random.below(40)),
            _ => (Moment::Acknowledged, 300 + random.below(1500)),
        };
        lives.load_and_kill(moment, Duration::from_millis(later));
        if random.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(200)));
            lives.restart();
        }
    }
    // Something was moved, and an outcome says so.
    let mut moved = None;
    process::eventually("a message that waits has moved into the retry log", || {
        let answer = http::get(lives.server.admin(), "/api/v1/queue?limit=50").body;
        let entries: Value = serde_json::from_str(&answer).unwrap();
        let ids = entries["entries"].as_array().unwrap().iter().map(|entry| entry["id"].clone());
        moved = ids.map(|id| id.as_str().unwrap().to_owned()).find(|id| {
            let attempts = story(&lives.server, id)["attempts"].clone();
            attempts.as_array().unwrap().iter().any(|attempt| attempt["what"] == "moved")
        });
        moved.is_some()
    });
    assert!(lives.moves > 0, "no segment was emptied in the lives that were killed");

    lives.peer.change(refusals());
    let mut left = Vec::new();
    process::holds_within(process::PATIENCE, || {
        left = if lives.is_idle() { missing(&lives) } else { Vec::new() };
        lives.is_idle() && left.is_empty()
    });
    let acknowledged = lives.acknowledged.len();
    assert!(lives.is_idle() && left.is_empty(), "of {acknowledged} these are lost: {left:?}");
    process::eventually("nothing in the logs is owed any more", || !owes(&lives.server));

    let taken = taken(&lives);
    let mut cut_off = 0;
    for ((number, recipient), (id, came)) in &taken {
        assert!(!is_refused(recipient), "{number} was refused for {recipient}, and delivered");
        assert!(number < &lives.numbers, "number {number} was never sent");
        if let Some(acknowledged) = lives.acknowledged.get(number) {
            assert_eq!(acknowledged, id, "number {number}");
        }
        let once_a_life = came.iter().collect::<BTreeSet<_>>().len() == came.len();
        assert!(once_a_life, "{id} ({number}) for {recipient}: twice in one life, {came:?}");
        if came.len() > 1 {
            // All but one were cut off, each by a kill: what was written down was not done again.
            let written = written_down(&story(&lives.server, id), recipient);
            assert_eq!(written, 1, "{id} ({number}) for {recipient}: delivered in the lives {came:?}");
            cut_off += came.len() - 1;
        }
    }
    for ((number, recipient), reports) in reported(&lives) {
        assert!(is_refused(&recipient), "{number} for {recipient} was returned: {reports:?}");
        assert!(reports.len() <= 1 + lives.ends.len(), "{number} for {recipient}: {reports:?}");
    }
    eprintln!(
        "{engine}: {acknowledged} acknowledged, {} deliveries in {} lives, {cut_off} of them cut off, {} segments emptied, {} retired",
        taken.values().map(|(_, came)| came.len()).sum::<usize>(),
        lives.ends.len() + 1,
        lives.moves,
        lives.retired,
    );
    assert!(lives.retired > 0.0, "no segment was retired in the lives that were killed");
    let id = simple(&lives.server, "after", &["r@example.com"]);
    outcome(&lives.server, &id, "r@example.com", "sent");
    lives.server.stop();
}

#[test]
fn io_uring() {
    crash("io_uring", rounds());
}

#[test]
fn epoll() {
    crash("epoll", rounds().div_ceil(3));
}
