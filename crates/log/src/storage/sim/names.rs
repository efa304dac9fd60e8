//! Names of a simulated disk: what a process sees, and what a power cut would leave.

use std::collections::BTreeMap;

use super::random::Random;
use crate::layout::to_usize;

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A file, by the number of its inode.
    File(usize),
    Directory,
}

/// Names of one change with what they stand for afterwards. It happens as a whole or not at all.
type Change = Vec<(String, Option<Target>)>;

/// All names.
#[derive(Debug, Default)]
pub(super) struct Names {
    live: BTreeMap<String, Target>,
    durable: BTreeMap<String, Target>,
    /// Changes since the last sync of their directory, oldest first.
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn target(&self, name: &str) -> Option<Target> {
        self.live.get(name).copied()
    }

    pub(super) fn file(&self, name: &str) -> Option<usize> {
        match self.target(name) {
            Some(Target::File(inode)) => Some(inode),
            _ => None,
        }
    }

    /// Whether names can be made in `directory`; the one that all others are in is always there.
    pub(super) fn has_directory(&self, directory: &str) -> bool {
        directory.is_empty() || self.target(directory) == Some(Target::Directory)
    }

    /// Names of files, with their inodes.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.live.iter().filter_map(|(name, target)| match target {
            Target::File(inode) => Some((name.as_str(), *inode)),
            Target::Directory => None,
        })
    }

    /// Names in a directory, without its own.
    pub(super) fn inside(&self, directory: &str) -> Vec<String> {
        self.live.keys().filter(|name| parent(name) == directory).map(|name| own(name).to_owned()).collect()
    }

    pub(super) fn change(&mut self, change: Change) {
        settle(&mut self.live, &change);
        self.pending.push(change);
    }

    /// Gives a file another name, durable at once, as is its directory.
    pub(super) fn link(&mut self, name: &str, other: &str) {
        if let Some(target) = self.target(name) {
            for names in [&mut self.live, &mut self.durable] {
                names.insert(parent(other).to_owned(), Target::Directory);
                names.insert(other.to_owned(), target);
            }
        }
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync(&mut self, directory: &str) {
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let inside = change.iter().any(|(name, _)| parent(name) == directory);
            if inside {
                settle(durable, change);
            }
            !inside
        });
    }

    /// Power cut. Of what was not synced a journal leaves the oldest changes; without one (`in_order` false) any of them may be there, but
    /// no change without the earlier ones of the same names.
    pub(super) fn lose(&mut self, in_order: bool, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let prefix = to_usize(random.below(pending.len() as u64 + 1));
        let mut left_out: Vec<&str> = Vec::new();
        for (number, change) in pending.iter().enumerate() {
            let free = !change.iter().any(|(name, _)| left_out.contains(&name.as_str()));
            if if in_order { number < prefix } else { free && random.below(2) == 0 } {
                settle(&mut self.durable, change);
            } else {
                left_out.extend(change.iter().map(|(name, _)| name.as_str()));
            }
        }
        // What is in a directory that is gone is gone with it.
        let there: Vec<String> = self.durable.keys().filter(|name| self.reachable(name)).cloned().collect();
        self.durable.retain(|name, _| there.binary_search(name).is_ok());
        self.live = self.durable.clone();
    }

    fn reachable(&self, name: &str) -> bool {
        let above = parent(name);
        above.is_empty() || (self.durable.get(above) == Some(&Target::Directory) && self.reachable(above))
    }
}

fn settle(names: &mut BTreeMap<String, Target>, change: &Change) {
    for (name, target) in change {
        match target {
            Some(target) => names.insert(name.clone(), *target),
            None => names.remove(name),
        };
    }
}

/// Directory of a name.
pub(super) fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn own(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, own)| own)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One directory with a file that was renamed; the seeds see every outcome that is possible and no other.
    fn outcomes(in_order: bool) -> Vec<String> {
        let mut seen = Vec::new();
        for seed in 0..200 {
            let mut names = Names::default();
            names.change(vec![("d".into(), Some(Target::Directory))]);
            names.sync("");
            names.change(vec![("d/a".into(), Some(Target::File(1)))]);
            names.change(vec![("d/x".into(), Some(Target::File(2)))]);
            names.change(vec![("d/a".into(), None), ("d/b".into(), Some(Target::File(1)))]);
            names.lose(in_order, &mut Random::new(seed));
            seen.push(names.inside("d").join(" "));
        }
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn a_power_cut_leaves_whole_changes() {
        assert_eq!(outcomes(true), ["", "a", "a x", "b x"]);
        assert_eq!(outcomes(false), ["", "a", "a x", "b", "b x", "x"]);
    }

    #[test]
    fn a_directory_without_a_durable_name_takes_its_files_along() {
        let mut names = Names::default();
        names.change(vec![("d".into(), Some(Target::Directory))]);
        names.change(vec![("d/a".into(), Some(Target::File(1)))]);
        names.sync("d");
        // Seed by seed the name of the directory is there or not; the file's own is durable.
        let mut random = Random::new(1);
        names.lose(true, &mut random);
        assert_eq!(names.file("d/a").is_some(), names.has_directory("d"));
    }
}
