//! The check of all kernels that needs no device: each compiles within what it may cost.
//!
//! Leaves out: running them. Invariant: no kernel spills, has a stack frame, or uses more registers or shared memory than its
//! source says.

use crate::cuda::{Budget, Instance, SHARED_BYTES_LEAST, SHARED_BYTES_MOST, Source, compile};
use crate::error::Result;
use crate::ops::SOURCES;

/// What kernels are compiled for: an A100; an L4, L40S or RTX 40, which stand for all with little shared memory; an H100 or H200.
pub const TARGETS: [&str; 3] = ["sm_80", "sm_89", "sm_90a"];

/// Shared memory that a block may ask for, in bytes, on each target.
const SHARED_BYTES_MAX: [u32; 3] = [163 << 10, SHARED_BYTES_LEAST, SHARED_BYTES_MOST];

/// What one kernel costs, as the assembler says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Source, defines and kernel.
    pub name: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of local memory that a thread spills or keeps its stack in.
    pub local_bytes: u32,
    /// What of it is too much; empty if nothing.
    pub complaint: String,
}

/// Compiles every instance of every source for `target`; not those of wide tiles where no launch on a small device asks for
/// them.
///
/// # Errors
/// `NoDevice` without NVRTC; `Compile` for the first source that does not compile.
pub fn check(target: &str) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for source in SOURCES {
        for instance in source.instances.iter().filter(|one| !is_too_wide(one, target)) {
            let compiled = compile(source, instance.defines, target)?;
            let name = describe(source, instance.defines);
            for kernel in source.kernels {
                let budget = instance.budgets.iter().find(|budget| budget.kernel == *kernel);
                let default = Budget { kernel, registers: 64, shared_bytes: 48 << 10 };
                let budget = budget.copied().unwrap_or(default);
                costs.push(cost(&name, &compiled.log, budget, target));
            }
        }
    }
    Ok(costs)
}

/// Whether an instance needs more shared memory than the least that devices have, which is what `target` has.
fn is_too_wide(instance: &Instance, target: &str) -> bool {
    let most = shared_bytes_max(target);
    let too_much = |budget: &Budget| budget.shared_bytes > most;
    most == SHARED_BYTES_LEAST && instance.budgets.iter().any(too_much)
}

fn shared_bytes_max(target: &str) -> u32 {
    TARGETS.iter().position(|known| *known == target).map_or(0, |at| SHARED_BYTES_MAX[at])
}

fn describe(source: &Source, defines: &[(&str, i64)]) -> String {
    let defines: Vec<String> =
        defines.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}({})", source.name, defines.join(", "))
}

/// Reads the assembler's lines on one kernel.
///
/// ```text
/// ptxas info    : Compiling entry function 'NAME' for 'sm_90a'
/// ptxas info    : Function properties for NAME
///     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
/// ptxas info    : Used 40 registers, ...
/// ```
fn cost(name: &str, log: &str, budget: Budget, target: &str) -> Cost {
    let start = format!("Compiling entry function '{}'", budget.kernel);
    let lines: Vec<&str> = log.lines().skip_while(|line| !line.contains(&start)).collect();
    let own = lines.iter().skip(1).take_while(|line| !line.contains("Compiling entry function"));
    let (mut registers, mut local_bytes, mut said) = (0, 0, false);
    for line in own {
        if let Some((before, _)) = line.split_once(" registers") {
            registers = last_number(before);
            said = true;
        }
        if line.contains("bytes stack frame") {
            local_bytes = line.split("bytes").map(last_number).max().unwrap_or(0);
        }
    }
    let most = shared_bytes_max(target);
    let complaint = if !said {
        format!("the assembler says nothing of it: {log}")
    } else if local_bytes > 0 {
        format!("expected no spills and no stack, found {local_bytes} bytes")
    } else if registers > budget.registers {
        format!("expected {} registers at most, found {registers}", budget.registers)
    } else if budget.shared_bytes > most {
        format!("expected {most} bytes of shared memory at most, found {}", budget.shared_bytes)
    } else {
        String::new()
    };
    Cost { name: format!("{name}: {}", budget.kernel), registers, local_bytes, complaint }
}

fn last_number(text: &str) -> u32 {
    text.split_whitespace().next_back().and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "ptxas info    : Compiling entry function 'f' for 'sm_90a'\n\
        ptxas info    : Function properties for f\n\
        \x20   0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
        ptxas info    : Used 40 registers, used 1 barriers\n\
        ptxas info    : Compiling entry function 'g' for 'sm_90a'\n\
        ptxas info    : Function properties for g\n\
        \x20   16 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads\n\
        ptxas info    : Used 255 registers\n";

    fn of(kernel: &'static str, registers: u32) -> Cost {
        cost("s", LOG, Budget { kernel, registers, shared_bytes: 0 }, "sm_90a")
    }

    #[test]
    fn a_kernel_within_its_budget_is_not_complained_of() {
        assert_eq!(of("f", 40).complaint, "");
        assert_eq!(of("f", 40).registers, 40);
    }

    #[test]
    fn spills_registers_and_silence_are_complained_of() {
        assert!(of("f", 39).complaint.contains("found 40"));
        assert!(of("g", 255).complaint.contains("found 16 bytes"));
        assert!(of("h", 255).complaint.contains("says nothing"));
    }

    #[test]
    fn every_kernel_compiles_for_its_targets_within_its_budget() {
        for target in TARGETS {
            match check(target) {
                Ok(costs) => {
                    let bad: Vec<_> =
                        costs.iter().filter(|cost| !cost.complaint.is_empty()).collect();
                    assert!(bad.is_empty(), "{target}: {bad:#?}");
                    assert!(costs.len() >= SOURCES.len());
                }
                Err(error) => {
                    let required = std::env::var_os("GLMEVAL_REQUIRE_REAL").is_some();
                    let absent = matches!(error, crate::error::KernelError::NoDevice { .. });
                    assert!(absent && !required, "{target}: {error}");
                }
            }
        }
    }
}
