//! Which messages a command means, as parameters of the admin API.

use std::io;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use inrush_log::MessageId;
use inrush_relay::Query;

use crate::cli::{Filter, QueueFilter};

/// Ids of one request: they stand in its head, which is bounded.
const IDS_PER_REQUEST: usize = 400;
// "id=", 20 digits and "&" each; besides the other fields all of it has to fit into the 16 KiB of the admin server.
const _: () = assert!(IDS_PER_REQUEST * 24 < 12 << 10);

/// A parameter with its value.
type Parameter = (&'static str, String);

/// An id on the command line, or `-` for those on standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdArgument {
    /// This one.
    Id(MessageId),
    /// All that stand there, parted by white space.
    StandardInput,
}

impl FromStr for IdArgument {
    type Err = <MessageId as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" { Ok(Self::StandardInput) } else { text.parse().map(Self::Id) }
    }
}

/// A choice of messages.
pub(super) struct Meant {
    /// `None` = any id.
    ids: Option<Vec<MessageId>>,
    rest: Vec<Parameter>,
}

impl Meant {
    /// What the filter of a command of the queue says.
    pub(super) fn of(filter: &QueueFilter) -> anyhow::Result<Self> {
        let mut rest = Vec::new();
        rest.extend(filter.domain.clone().map(|domain| ("domain", domain)));
        rest.extend(filter.route.clone().map(|route| ("route", route)));
        rest.extend(filter.sender.as_ref().map(|sender| ("sender", sender.to_string())));
        rest.extend(filter.older_than.map(|age| ("older_than", age.0.as_secs().to_string())));
        Ok(Self { ids: ids(&filter.ids)?, rest })
    }

    /// What the filter of a replay says.
    pub(super) fn of_replay(filter: &Filter) -> Self {
        let mut rest = Vec::new();
        rest.extend(filter.since.map(|since| ("since", since.0.to_string())));
        rest.extend(filter.until.map(|until| ("until", until.0.to_string())));
        rest.extend(filter.rcpt_domain.clone().map(|domain| ("domain", domain)));
        rest.extend(filter.sender.as_ref().map(|sender| ("sender", sender.to_string())));
        Self { ids: (!filter.id.is_empty()).then(|| filter.id.clone()), rest }
    }

    /// Whether nothing is said at all.
    pub(super) fn is_everything(&self) -> bool {
        self.ids.is_none() && self.rest.is_empty()
    }

    /// Whether ids were to come, and none did.
    pub(super) fn is_nothing(&self) -> bool {
        self.ids.as_ref().is_some_and(Vec::is_empty)
    }

    /// The parameters of each request: one, unless there are many ids; none where ids were to come, and none did.
    pub(super) fn requests(&self) -> impl Iterator<Item = Vec<Parameter>> + '_ {
        let groups: Vec<&[MessageId]> = match &self.ids {
            Some(ids) => ids.chunks(IDS_PER_REQUEST).collect(),
            None => vec![&[]],
        };
        groups.into_iter().map(|ids| {
            let ids = ids.iter().map(|id| ("id", id.to_string()));
            ids.chain(self.rest.iter().cloned()).collect()
        })
    }

    /// The same for a stopped gateway.
    pub(super) fn query(&self, limit: usize) -> anyhow::Result<Query> {
        let mut query = Query { limit, ..Query::default() };
        for (name, value) in &self.rest {
            query.set(name, value)?;
        }
        query.ids = self.ids.clone().unwrap_or_default();
        Ok(query)
    }
}

fn ids(arguments: &[IdArgument]) -> anyhow::Result<Option<Vec<MessageId>>> {
    if arguments.is_empty() {
        return Ok(None);
    }
    let mut ids = Vec::new();
    for argument in arguments {
        match argument {
            IdArgument::Id(id) => ids.push(*id),
            IdArgument::StandardInput => {
                let text = io::read_to_string(io::stdin().lock()).context("standard input")?;
                add(&text, &mut ids)?;
            }
        }
    }
    // What is named twice is done once.
    ids.sort_unstable();
    ids.dedup();
    Ok(Some(ids))
}

fn add(text: &str, ids: &mut Vec<MessageId>) -> anyhow::Result<()> {
    for word in text.split_whitespace() {
        match word.parse() {
            Ok(id) => ids.push(id),
            Err(error) => bail!("standard input: {word:?}: {error}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(count: u64) -> Meant {
        let id = |lsn| MessageId { node: 0, log: 0, lsn: inrush_log::Lsn::new(lsn) };
        Meant { ids: Some((0..count).map(id).collect()), rest: vec![("route", "out".to_owned())] }
    }

    #[test]
    fn many_ids_go_in_several_requests() {
        let requests: Vec<_> = meant(1_000).requests().collect();
        assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [401, 401, 201]);
        assert!(requests.iter().all(|request| request.contains(&("route", "out".to_owned()))));
    }

    #[test]
    fn ids_that_did_not_come_are_not_everything() {
        let none = meant(0);
        assert!(!none.is_everything() && none.is_nothing());
        assert_eq!(none.requests().count(), 0);
    }

    #[test]
    fn ids_are_read_from_text() {
        let mut ids = Vec::new();
        assert!(add("00000000000000101000\n00000000000000102000 \n", &mut ids).is_ok());
        assert_eq!(ids.len(), 2);
        assert!(add("x", &mut ids).is_err());
        assert_eq!("-".parse(), Ok(IdArgument::StandardInput));
    }
}
