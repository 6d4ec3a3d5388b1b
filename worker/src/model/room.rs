//! Runs batches, and halves those that a device has no room for.
//!
//! Leaves out: what a batch is. Invariant: every member is finished once, in a batch that found room; what is computed does not
//! depend on which.

use super::Model;
use crate::device::is_out_of_memory;
use glmeval_common::error::{Error, Result};

/// Calls `work` with the members of each of `batches`, first to last.
///
/// `counts` are the members' tokens. A batch that finds no room is halved and tried again, as are later ones of its size:
/// what `work` wrote for its members is written once more.
///
/// # Errors
/// Those of `work`; what `alone` says of a member, its tokens and the device's error where it finds no room by itself.
pub fn in_halves(
    model: &Model,
    counts: &[usize],
    mut batches: Vec<Vec<usize>>,
    alone: &dyn Fn(usize, usize, Error) -> Error,
    work: &mut dyn FnMut(&[usize]) -> Result<()>,
) -> Result<()> {
    let tokens = |members: &[usize]| -> usize {
        members.iter().map(|&member| counts.get(member).copied().unwrap_or_default()).sum()
    };
    // Until a batch found no room, its size was for others to choose.
    let mut was_full = false;
    batches.reverse();
    while let Some(mut members) = batches.pop() {
        let count = tokens(&members);
        if was_full && members.len() > 1 && count > model.tokens_per_batch() {
            let rest = members.split_off(members.len() / 2);
            batches.extend([rest, members]);
            continue;
        }
        match work(&members) {
            Err(error) if is_out_of_memory(&error) => {
                if let [member] = members.as_slice() {
                    return Err(alone(*member, count, error));
                }
                was_full = true;
                model.found_no_room(count);
                let rest = members.split_off(members.len() / 2);
                batches.extend([rest, members]);
            }
            done_or_failed => done_or_failed?,
        }
    }
    Ok(())
}

/// What is said of `what`, which the device has no room for even alone.
pub fn does_not_fit(what: &str, tokens: usize, error: &Error) -> Error {
    let gpu = error.chain();
    Error::invalid(format!("{what}: its {tokens} tokens do not fit the device: {gpu}"))
}
