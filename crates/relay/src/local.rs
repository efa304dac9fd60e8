//! Delivery into mailboxes on this machine.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use inrush_log::{Message, Reader, log_directory, prepended};
use inrush_proto::Path;
use inrush_queue::Place;

use crate::destination::{Destination, Job};
use crate::failure::Verdict;
use crate::maildir::{ExpandSettings, Mailbox, MailboxSettings, MaildirError, TMP_AGE_MAX, prepend};
use crate::settings::MaildirRoute;
use crate::settle::Attempt;
use crate::shared::{Shared, now_us};

/// Delivers one message to the mailboxes of its recipients.
pub(crate) async fn deliver(shared: &Rc<Shared>, destination: &Destination, route: &MaildirRoute, job: Job) {
    let started = now_us();
    let settings = MailboxSettings {
        create: route.create,
        quota: route.quota,
        ..MailboxSettings::new(&shared.surroundings.hostname)
    };
    let work = Work {
        message: Arc::clone(&job.message),
        place: job.place,
        recipients: job.recipients.clone(),
        route: route.clone(),
        settings,
        storage: shared.reader.storage().clone(),
    };
    let verdicts = match tokio::task::spawn_blocking(move || work.run()).await {
        Ok(verdicts) => verdicts,
        Err(_) => {
            let gone = Verdict::later((4, 3, 0), "delivery was cut off");
            job.recipients.iter().map(|recipient| (*recipient, gone.clone())).collect()
        }
    };
    let attempt = Attempt {
        destination: destination.name.clone(),
        relay: "maildir".into(),
        is_final: true,
        connected_at_us: started,
        sent_at_us: started,
        ..Attempt::default()
    };
    shared.settle(job, &attempt, verdicts);
}

/// What a blocking thread needs.
struct Work {
    message: Arc<Message>,
    place: Place,
    recipients: Vec<u32>,
    route: MaildirRoute,
    settings: MailboxSettings,
    storage: inrush_log::DiskStorage,
}

impl Work {
    fn run(self) -> Vec<(u32, Verdict)> {
        let deliver = |recipient: &u32| {
            let verdict = match self.deliver(*recipient) {
                Ok(name) => Verdict::stored(format!("delivered to maildir as {name}")),
                Err(error) => {
                    let failure = error.failure();
                    tracing::warn!(id = %self.message.id, %error, "a mailbox did not take a message");
                    if failure.permanent {
                        Verdict::never(failure.enhanced, failure.text)
                    } else {
                        Verdict::later(failure.enhanced, failure.text)
                    }
                }
            };
            (*recipient, verdict)
        };
        self.recipients.iter().map(deliver).collect()
    }

    fn deliver(&self, recipient: u32) -> Result<String, MaildirError> {
        let unreadable = |what: String| MaildirError::Source { what };
        let envelope = self.message.envelope().map_err(|error| unreadable(error.to_string()))?;
        let recipient = envelope.recipients().nth(recipient as usize);
        let path = recipient.map_or(&[][..], |recipient| recipient.path);
        let mut bracketed = Vec::with_capacity(path.len() + 2);
        bracketed.push(b'<');
        bracketed.extend_from_slice(path);
        // RFC 5321 §4.5.1: postmaster without a domain is the one of this host.
        if !path.contains(&b'@') {
            bracketed.push(b'@');
            bracketed.extend_from_slice(self.settings.host.as_bytes());
        }
        bracketed.push(b'>');
        let (parsed, _) = Path::parse(&bracketed).map_err(|error| unreadable(format!("{error:?}")))?;
        let expand = ExpandSettings {
            case_sensitive: self.route.case_sensitive,
            subaddress_separator: self.route.subaddress_separator,
        };
        let root = self.route.template.expand(parsed, expand)?;
        let mailbox = Mailbox::open(&root, &self.settings)?;
        // What a crash has left behind. A mailbox that cannot be cleaned takes mail all the same.
        if now_us().is_multiple_of(64) {
            let _ = mailbox.clean_tmp(TMP_AGE_MAX.max(Duration::from_hours(1)));
        }
        let mut delivery = mailbox.begin(&self.message.id.to_string())?;
        let mut head = Vec::with_capacity(1024);
        prepend(envelope.reverse_path(), path, &mut head);
        prepended(&envelope, self.message.id, self.message.header.accepted_at_us, &mut head);
        delivery.write(&head)?;
        if envelope.chunks().next().is_none() {
            delivery.write(self.message.own_body())?;
        } else {
            let dir = log_directory(self.place.kind, self.place.log);
            let mut reader =
                Reader::on(self.storage.clone(), &dir).map_err(|error| unreadable(error.to_string()))?;
            let mut failed = None;
            let read = reader.read_body(&self.message, |piece| {
                delivery.write(piece).map_err(|error| {
                    failed = Some(error);
                    std::io::ErrorKind::Other.into()
                })
            });
            if let Some(error) = failed {
                return Err(error);
            }
            read.map_err(|error| unreadable(error.to_string()))?;
        }
        Ok(delivery.commit()?.name)
    }
}
