//! `cargo xtask sim`: replays one seed of a simulation with its trace, or runs a range of them.
//!
//! Leaves out: the simulations (`tests/simulation/` over the wire, `coordinator/src/state/simulation/` of the pure
//! machine). Invariant: what is replayed is the test that continuous integration runs.

use crate::run as run_command;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

const USAGE: &str = "cargo xtask sim (--seed N | --seeds FIRST..PAST) [--pure]";
/// Tests of the simulation over the wire: one seed, many seeds.
const WIRE: (&str, &str) = ("the_seed_ends_well", "a_thousand_seeds_end_well");
/// The test of the pure machine that replays one seed.
const PURE: &str = "a_seed_named_in_the_environment_is_replayed_with_its_trace";

/// What is to be run.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    first: u64,
    past: u64,
    /// One seed: show its trace.
    is_replay: bool,
    is_pure: bool,
}

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let wanted = parse(arguments)?;
    let Wanted { first, past, is_replay, is_pure } = wanted;
    if is_pure {
        for seed in first..past {
            let mut command = test("glmeval-coordinator", "--lib", PURE);
            // The filter is the end of a longer path.
            command.args(["--nocapture"]).env("GLMEVAL_SIM_SEED", seed.to_string());
            run_command(command.current_dir(root))?;
        }
        return Ok(());
    }
    let name = if is_replay { WIRE.0 } else { WIRE.1 };
    let mut command = test("glmeval-tests", "--test=simulation", name);
    command.args(["--exact", "--nocapture"]).current_dir(root);
    if is_replay {
        command.env("GLMEVAL_SIM_SEED", first.to_string()).env("GLMEVAL_SIM_TRACE", "1");
    } else {
        command.env("GLMEVAL_SIM_SEEDS", format!("{first}..{past}"));
    }
    run_command(&mut command)
}

fn test(package: &str, target: &str, name: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--quiet", "--locked", "--package", package, target, "--", name]);
    command
}

fn parse(arguments: &[String]) -> Result<Wanted> {
    let mut seeds = None;
    let mut is_pure = false;
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        match argument {
            "--pure" => is_pure = true,
            "--seed" => {
                let seed: u64 = rest.next().context(USAGE)?.parse().context(USAGE)?;
                seeds = Some((seed, seed.saturating_add(1), true));
            }
            "--seeds" => {
                let (first, past) = rest.next().context(USAGE)?.split_once("..").context(USAGE)?;
                let (first, past) = (first.parse().context(USAGE)?, past.parse().context(USAGE)?);
                seeds = Some((first, past, false));
            }
            _ => bail!("{USAGE}, found {argument:?}"),
        }
    }
    let (first, past, is_replay) = seeds.context(USAGE)?;
    Ok(Wanted { first, past, is_replay, is_pure })
}

#[cfg(test)]
mod tests {
    use super::{Wanted, parse};

    #[test]
    fn seeds_are_one_or_a_range() {
        let parsed = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            parse(&words).ok()
        };
        let one = Wanted { first: 7, past: 8, is_replay: true, is_pure: false };
        assert_eq!(parsed("--seed 7"), Some(one));
        let range = Wanted { first: 3, past: 9, is_replay: false, is_pure: true };
        assert_eq!(parsed("--pure --seeds 3..9"), Some(range));
        for text in ["", "--seed", "--seed x", "--seeds 3", "--sead 3"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
