//! Entropy of the distribution that logits stand for.
//!
//! Leaves out: which tokens are asked. Invariant: f64 throughout, in the order of the columns.

pub mod cuda;

/// Entropy in nats of the softmax of `logits`, or of its columns `columns` alone.
///
/// ```text
/// H = ln s - sum_v (x[v] - m) e^(x[v] - m) / s     s = sum_v e^(x[v] - m), m = max x
/// ```
///
/// NaN for no columns, for one that is not there, and where a logit is NaN.
pub fn entropy(logits: &[f32], columns: Option<&[u32]>) -> f64 {
    match columns {
        None => of(logits.iter().copied()),
        Some(columns) => {
            let value = |&column: &u32| logits.get(column as usize).copied().unwrap_or(f32::NAN);
            of(columns.iter().map(value))
        }
    }
}

fn of(values: impl Iterator<Item = f32> + Clone) -> f64 {
    let largest = f64::from(values.clone().fold(f32::NEG_INFINITY, f32::max));
    let (mut sum, mut weighted) = (0.0, 0.0_f64);
    for value in values {
        let difference = f64::from(value) - largest;
        let share = difference.exp();
        sum += share;
        // A share that is zero adds nothing, however far away its value is; NaN is no zero.
        if share != 0.0 {
            weighted += difference * share;
        }
    }
    f64::ln(sum) - weighted / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_are_those_of_their_shares() {
        assert!((entropy(&[2.0; 8], None) - 8.0_f64.ln()).abs() < 1e-15);
        let shares = [0.5_f64, 0.25, 0.25];
        let logits: Vec<f32> = shares.iter().map(|share| share.ln() as f32).collect();
        let expected: f64 = -shares.iter().map(|share| share * share.ln()).sum::<f64>();
        assert!((entropy(&logits, None) - expected).abs() < 1e-7);
        assert!((entropy(&logits, Some(&[1, 2])) - 2.0_f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn far_logits_leave_no_entropy_and_bad_ones_no_number() {
        assert_eq!(entropy(&[0.0, -1e30, f32::NEG_INFINITY], None), 0.0);
        assert!(entropy(&[], None).is_nan());
        assert!(entropy(&[0.0, f32::NAN], None).is_nan());
        assert!(entropy(&[0.0], Some(&[3])).is_nan());
    }
}
