//! What device time costs: the `[cost]` table of a job file, and the arithmetic on it.
//!
//! Leaves out: how long anything takes. Invariant: prices decide nothing about a result; they are no
//! part of the plan, so that a job is the same job at any price.

use super::toml_error;
use crate::error::{InputError, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest name of a currency.
const CURRENCY_LETTERS_MAX: usize = 12;
/// A price beyond this is a slip of the pen.
const PRICE_MAX: f64 = 1e6;
const SECONDS_PER_HOUR: f64 = 3_600.0;

/// The `[cost]` table of a job file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Currency, such as `USD`.
    #[serde(default = "default_currency")]
    pub currency: String,
    /// Share of the price that spot machines save, in `0..1`; left out = none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spot_discount: Option<f64>,
    /// Price of one device for one hour, by kind of device: `cpu`, `nvidia-h200`.
    #[serde(flatten)]
    pub device_hour: BTreeMap<String, f64>,
}

fn default_currency() -> String {
    "USD".to_owned()
}

impl Prices {
    /// What an hour of a device of `kind` costs, the spot discount taken off; `None` without a price.
    pub fn hour(&self, kind: &str) -> Option<f64> {
        let full = self.device_hour.get(kind)?;
        Some(full * (1.0 - self.spot_discount.unwrap_or(0.0)))
    }

    /// What `seconds` of a device of `kind` cost.
    pub fn seconds(&self, kind: &str, seconds: f64) -> Option<f64> {
        Some(self.hour(kind)? * seconds / SECONDS_PER_HOUR)
    }

    /// The table of the job file `text`, left out = `None`; other tables are not looked at.
    ///
    /// # Errors
    /// `Invalid` with `file`, line or key, the allowed values and the value found.
    pub fn of_job_file(text: &str, file: &str) -> Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Only {
            cost: Option<Prices>,
        }
        let only: Only = toml::from_str(text).map_err(|e| toml_error(text, file, &e))?;
        let Some(prices) = only.cost else { return Ok(None) };
        prices.check(file)?;
        Ok(Some(prices))
    }

    pub(super) fn check(&self, file: &str) -> Result<(), InputError> {
        let wrong = |key: &str, expected: &str, found: &dyn std::fmt::Display| {
            InputError::new(file, format!("cost.{key}"), expected, found)
        };
        let letters = self.currency.chars().count();
        let plain = self.currency.chars().all(|c| c.is_alphanumeric() || "$.-".contains(c));
        if letters == 0 || letters > CURRENCY_LETTERS_MAX || !plain {
            return Err(wrong("currency", "a short name such as \"USD\"", &self.currency));
        }
        if let Some(discount) = self.spot_discount.filter(|share| !(0.0..1.0).contains(share)) {
            return Err(wrong("spot_discount", "a share from 0 to less than 1", &discount));
        }
        for (kind, price) in &self.device_hour {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
            if kind.is_empty() || !kind.chars().all(plain) {
                let expected = "a kind of device such as cpu or nvidia-h200";
                return Err(wrong(kind, expected, &format!("{kind:?}")));
            }
            if !(0.0..=PRICE_MAX).contains(price) {
                return Err(wrong(kind, "a price per device hour from 0 to 1000000", price));
            }
        }
        if self.device_hour.is_empty() {
            let expected = "a price per device hour for at least one kind, such as cpu = 0.05";
            return Err(InputError::new(file, "cost", expected, "none"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prices(table: &str) -> Result<Option<Prices>> {
        Prices::of_job_file(&format!("name = \"a\"\n{table}"), "job.toml")
    }

    #[test]
    fn an_hour_costs_its_price_less_the_spot_discount() {
        let table = "[cost]\ncurrency = \"EUR\"\ncpu = 0.05\nnvidia-h200 = 4\nspot_discount = 0.25";
        let prices = prices(table).unwrap().unwrap();
        assert_eq!(prices.currency, "EUR");
        assert_eq!(prices.hour("nvidia-h200"), Some(3.0));
        assert_eq!(prices.seconds("nvidia-h200", 1_200.0), Some(1.0));
        assert_eq!(prices.hour("nvidia-a100"), None);
    }

    #[test]
    fn a_job_without_prices_has_none() {
        assert_eq!(prices("").unwrap(), None);
    }

    #[test]
    fn what_is_no_price_is_refused_by_its_key() {
        for (table, place) in [
            ("[cost]\ncpu = -1", "cost.cpu"),
            ("[cost]\ncpu = nan", "cost.cpu"),
            ("[cost]\n\"CPU x\" = 1", "cost.CPU x"),
            ("[cost]\ncpu = 1\nspot_discount = 1.0", "cost.spot_discount"),
            ("[cost]\ncpu = 1\ncurrency = \"\"", "cost.currency"),
            ("[cost]\ncurrency = \"USD\"", "cost"),
            ("[cost]\ncpu = \"dear\"", "line 2"),
        ] {
            let error = prices(table).unwrap_err().chain();
            assert!(error.contains("job.toml") && error.contains(place), "{table}: {error}");
        }
    }
}
