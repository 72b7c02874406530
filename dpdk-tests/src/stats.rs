//! From several windows to one figure that can be trusted, or seen not to be.

use serde::{Deserialize, Serialize};

/// Some values of one and the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The one in the middle; with an even number the mean of both.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// How far apart these are, as a part of the median: 0.1 is ten per cent.
    pub spread: f64,
}

impl Summary {
    /// Of these values; `None` without any.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(*values.get(middle.saturating_sub(1))?, upper)
        } else {
            upper
        };
        let spread = if median > 0.0 { (max - min) / median } else { 0.0 };
        Some(Self { median, min, max, spread })
    }
}

/// A whole number with spaces between thousands.
#[must_use]
pub fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_spread_of_few_values() {
        assert_eq!(Summary::of([]), None);
        assert_eq!(Summary::of([f64::NAN]), None);
        let one = Summary::of([5.0]).unwrap();
        assert_eq!((one.median, one.min, one.max, one.spread), (5.0, 5.0, 5.0, 0.0));
        let even = Summary::of([4.0, 1.0, 2.0, 10.0]).unwrap();
        assert_eq!((even.median, even.min, even.max, even.spread), (3.0, 1.0, 10.0, 3.0));
        assert_eq!(Summary::of([3.0, 1.0, 2.0]).unwrap().median, 2.0);
        assert_eq!(Summary::of([0.0, 0.0]).unwrap().spread, 0.0);
    }

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0.0, 999.6, 1_234_567.4, -1.0].map(number);
        assert_eq!(texts, ["0", "1 000", "1 234 567", "0"]);
    }
}
