//! The loop that all comparisons share: everything in turn, round after round.
//!
//! Machines drift: what is compared has to be measured in the same minute, and ratios are made of runs of the same round.

/// Calls `measure` for each of `count` subjects in each round, with the numbers of the round and of the subject. Another one
/// begins each round, so that none always runs behind the same neighbour.
///
/// # Errors
/// That of the first measurement that fails.
pub(super) fn in_turn(
    rounds: u32,
    count: usize,
    mut measure: impl FnMut(u32, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for round in 0..rounds {
        for turn in 0..count {
            measure(round, (turn + round as usize) % count)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_one_begins_each_round() -> anyhow::Result<()> {
        let mut order = Vec::new();
        in_turn(3, 2, |round, subject| {
            order.push((round, subject));
            Ok(())
        })?;
        assert_eq!(order, [(0, 0), (0, 1), (1, 1), (1, 0), (2, 0), (2, 1)]);
        Ok(())
    }
}
