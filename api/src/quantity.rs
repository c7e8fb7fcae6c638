//! Resource quantities: `100m`, `1.5Gi`, `12e6`.
//!
//! A quantity is an exact decimal number. It prints in the canonical form of apimachinery: the format it was written
//! in (decimal SI, binary SI or exponent), with the largest suffix that leaves no fraction. As upstream, what is finer than a
//! nano is rounded up, and magnitudes end at 2^63-1.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

/// Nanos in one.
const NANO: i128 = 1_000_000_000;
/// The largest whole value, as upstream caps it.
const MOST: i128 = (i64::MAX as i128) * NANO;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `m`, `k`, `M`, ...
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, ...
    BinarySi,
    /// `e3`, `e6`, ...
    DecimalExponent,
}

/// An amount of a resource.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseError;

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Whole units, as for memory in bytes or a count.
    #[must_use]
    pub const fn from_units(units: i64) -> Self {
        Self { nanos: units as i128 * NANO, format: Format::DecimalSi }
    }

    /// Thousandths, as for CPU.
    #[must_use]
    pub const fn from_milli(milli: i64) -> Self {
        Self { nanos: milli as i128 * 1_000_000, format: Format::DecimalSi }
    }

    /// Bytes, printed with binary suffixes.
    #[must_use]
    pub const fn from_bytes(bytes: i64) -> Self {
        Self { nanos: bytes as i128 * NANO, format: Format::BinarySi }
    }

    /// Whole units, rounded up (away from zero).
    #[must_use]
    pub const fn value(&self) -> i128 {
        round_up(self.nanos, NANO)
    }

    /// Thousandths, rounded up (away from zero).
    #[must_use]
    pub const fn milli_value(&self) -> i128 {
        round_up(self.nanos, 1_000_000)
    }

    /// As a floating-point number, which may be a little off.
    #[must_use]
    pub const fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Whether it is zero.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below zero.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of units.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }
}

const fn round_up(nanos: i128, unit: i128) -> i128 {
    let (q, r) = (nanos / unit, nanos % unit);
    if r > 0 {
        q + 1
    } else if r < 0 {
        q - 1
    } else {
        q
    }
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseError);
        }
        let (format, exponent, shift) = suffix_of(suffix)?;
        let nanos = scaled(whole, fraction, exponent, shift).min(MOST);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// A suffix's format, its power of ten and its power of two.
fn suffix_of(suffix: &str) -> Result<(Format, i32, u32), ParseError> {
    if let Some((_, shift)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::BinarySi, 0, *shift));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((Format::DecimalSi, *exponent, 0));
    }
    let digits = suffix.strip_prefix(['e', 'E']).ok_or(ParseError)?;
    let exponent: i32 = digits.parse().map_err(|_| ParseError)?;
    Ok((Format::DecimalExponent, exponent, 0))
}

/// `whole.fraction * 10^exponent * 2^shift` in nanos, rounded up, capped at [`MOST`].
fn scaled(whole: &str, fraction: &str, exponent: i32, shift: u32) -> i128 {
    let mut nanos: i128 = 0;
    let mut inexact = false;
    // Power of ten, in nanos, of the digit at hand.
    let first = i64::try_from(whole.len()).unwrap_or(i64::MAX) - 1 + i64::from(exponent) + 9;
    for (i, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = i128::from(digit - b'0');
        if digit == 0 {
            continue;
        }
        // Binary suffixes multiply, so digits below a nano may count: keep 18 of them.
        let power = first - i64::try_from(i).unwrap_or(i64::MAX) + if shift > 0 { 9 } else { 0 };
        match u32::try_from(power).map(|p| 10_i128.checked_pow(p).and_then(|p| p.checked_mul(digit))) {
            Ok(Some(part)) => nanos = nanos.saturating_add(part),
            Ok(None) => return MOST,
            Err(_) => inexact = true,
        }
    }
    if shift > 0 {
        nanos = nanos.checked_shl(shift).filter(|n| n >> shift == nanos).map_or(MOST, |n| round_up(n, NANO));
    }
    (nanos + i128::from(inexact)).min(MOST)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let n = self.nanos.abs();
        if n == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi && n >= 1024 * NANO && n % NANO == 0 {
            let units = n / NANO;
            let fits = BINARY.iter().rev().find(|(_, shift)| units % (1_i128 << shift) == 0);
            return match fits {
                Some((suffix, shift)) => write!(f, "{sign}{}{suffix}", units >> shift),
                None => write!(f, "{sign}{units}"),
            };
        }
        let fits = DECIMAL.iter().rev().find(|(_, e)| n % 10_i128.pow((e + 9).unsigned_abs()) == 0);
        let (suffix, exponent) = fits.copied().unwrap_or(("n", -9));
        let digits = n / 10_i128.pow((exponent + 9).unsigned_abs());
        match (self.format, exponent) {
            (Format::DecimalExponent, e) if e != 0 => write!(f, "{sign}{digits}e{e}"),
            _ => write!(f, "{sign}{digits}{suffix}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// A sum keeps the format of its first part, or of the second when the first is zero.
impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-MOST, MOST), format }
    }
}
impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}
impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}
impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        assert_eq!(text.parse::<Quantity>().unwrap().to_string(), canonical, "{text}");
    }

    #[test]
    fn canonical_form() {
        check("0", "0");
        check("100m", "100m");
        check("1000m", "1");
        check("0.5", "500m");
        check("1.5Gi", "1536Mi");
        check("1024", "1024");
        check("1024Ki", "1Mi");
        check("1000Ki", "1000Ki");
        check("500Mi", "500Mi");
        check("12e6", "12e6");
        check("1E", "1E");
        check("1e3", "1e3");
        check("0.1n", "1n");
        check("-1.5", "-1500m");
        check("+5k", "5k");
        check("1500k", "1500k");
        check("0.5Ki", "512");
        check("0.0001Ki", "102400u");
        check("99999999999999999999E", "9223372036854775807");
        check(".5", "500m");
        check("5.", "5");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a", "1.2.3", "1x", "e3", "1e", "--1", "1 Gi", "١"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        let q: Quantity = "1100m".parse().unwrap();
        assert_eq!((q.value(), q.milli_value()), (2, 1100));
        assert_eq!("1n".parse::<Quantity>().unwrap().milli_value(), 1);
    }

    proptest! {
        #[test]
        fn printing_keeps_the_value(n in -1_000_000_000_000_i64..1_000_000_000_000, suffix in prop::sample::select(vec!["", "m", "k", "Ki", "Mi", "u", "e3"])) {
            let q: Quantity = format!("{n}{suffix}").parse().unwrap();
            prop_assert_eq!(q.to_string().parse::<Quantity>().unwrap(), q);
            prop_assert_eq!(q + q - q, q);
        }
        #[test]
        fn any_text_is_answered(text in ".{0,20}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
