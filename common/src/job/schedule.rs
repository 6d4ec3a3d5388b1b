//! How a job shares workers with others: the `[schedule]` table of a job file.
//!
//! Leaves out: the sharing (coordinator). Invariant: what stands here changes no result and no id, so
//! the same job with another weight is the same job; it is read from the job file, never from the plan.

use crate::error::{InputError, Result};
use serde::{Deserialize, Serialize};

/// Least and greatest weight.
const WEIGHTS: (f64, f64) = (0.01, 100.0);

/// The `[schedule]` table of a job file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobSchedule {
    /// Share of the workers' time beside that of other jobs.
    pub weight: f64,
    /// Workers at most that hold units of the job at a time; left out = all.
    pub workers_max: Option<u32>,
}

impl Default for JobSchedule {
    fn default() -> Self {
        Self { weight: 1.0, workers_max: None }
    }
}

impl JobSchedule {
    /// Reads the table out of the text of a job file; one without it has the default.
    ///
    /// # Errors
    /// `Invalid` with `file`, key, the allowed values and the value found.
    pub fn of_toml(text: &str, file: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Table {
            #[serde(default)]
            schedule: JobSchedule,
        }
        let table: Table =
            toml::from_str(text).map_err(|error| super::toml_error(text, file, &error))?;
        table.schedule.check(file)?;
        Ok(table.schedule)
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// As [`JobSchedule::of_toml`].
    pub(super) fn check(&self, file: &str) -> Result<(), InputError> {
        let (least, most) = WEIGHTS;
        if !(least..=most).contains(&self.weight) {
            let expected = format!("{least} to {most}");
            return Err(InputError::new(file, "schedule.weight", expected, self.weight));
        }
        if self.workers_max == Some(0) {
            return Err(InputError::new(file, "schedule.workers_max", "at least 1", 0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<JobSchedule> {
        JobSchedule::of_toml(text, "job.toml")
    }

    #[test]
    fn a_job_without_the_table_has_weight_one_and_no_cap() {
        for text in ["", "name = \"a\"\n[[model]]\npath = 3\n", "[schedule]\n"] {
            assert_eq!(read(text).unwrap(), JobSchedule::default());
        }
        let both = read("[schedule]\nweight = 2.5\nworkers_max = 4\n").unwrap();
        assert_eq!(both, JobSchedule { weight: 2.5, workers_max: Some(4) });
    }

    #[test]
    fn a_wrong_weight_or_cap_is_named_with_its_key() {
        let said = |text| read(text).unwrap_err().chain();
        let weight = said("[schedule]\nweight = 0.0\n");
        assert_eq!(weight, "job.toml: schedule.weight: expected 0.01 to 100, found 0");
        assert!(said("[schedule]\nweight = nan\n").contains("found NaN"));
        let cap = said("[schedule]\nworkers_max = 0\n");
        assert_eq!(cap, "job.toml: schedule.workers_max: expected at least 1, found 0");
        assert!(said("[schedule]\nwieght = 1.0\n").starts_with("job.toml: line 2"));
    }
}
