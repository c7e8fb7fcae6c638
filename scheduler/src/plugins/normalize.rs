//! Ways to bring raw scores into the range 0 to [`MAX_SCORE`].

use super::MAX_SCORE;

/// In proportion to the largest.
pub fn most_is_best(raw: &mut [i64]) {
    let most = raw.iter().copied().max().unwrap_or(0);
    if most > 0 {
        raw.iter_mut().for_each(|s| *s = MAX_SCORE * *s / most);
    }
}

/// In reverse proportion to the largest.
pub fn least_is_best(raw: &mut [i64]) {
    most_is_best(raw);
    raw.iter_mut().for_each(|s| *s = MAX_SCORE - *s);
}

/// From the smallest to the largest; all equal is 0.
pub fn stretched(raw: &mut [i64]) {
    let (least, most) = (raw.iter().copied().min().unwrap_or(0), raw.iter().copied().max().unwrap_or(0));
    raw.iter_mut().for_each(|s| *s = if most > least { MAX_SCORE * (*s - least) / (most - least) } else { 0 });
}
