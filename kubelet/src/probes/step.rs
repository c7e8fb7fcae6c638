//! From single outcomes to a verdict: so many successes or failures in a row.

/// How many outcomes in a row make a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Successes in a row that turn the verdict to yes.
    pub success: u32,
    /// Failures in a row that turn it to no.
    pub failure: u32,
}

/// What a probe has seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// The last outcome, and how often in a row it was seen.
    run: Option<(bool, u32)>,
    /// The verdict; `None` before the first.
    pub verdict: Option<bool>,
}

impl State {
    /// Goes on from what was said before.
    #[must_use]
    pub fn said(verdict: Option<bool>) -> Self {
        Self { run: None, verdict }
    }
}

/// A new verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(pub bool);

/// What one more outcome makes of the state. A verdict is said once, when it turns.
#[must_use]
pub fn step(state: State, passed: bool, thresholds: Thresholds) -> (State, Option<Change>) {
    let length = match state.run {
        Some((last, length)) if last == passed => length.saturating_add(1),
        _ => 1,
    };
    let needed = if passed { thresholds.success } else { thresholds.failure };
    let verdict = if length >= needed.max(1) { Some(passed) } else { state.verdict };
    let change = verdict.filter(|_| verdict != state.verdict).map(Change);
    (State { run: Some((passed, length)), verdict }, change)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Outcomes as `+` and `-`; the verdicts said after each as `Y`, `N` or `.` for nothing new.
    #[track_caller]
    fn check(success: u32, failure: u32, outcomes: &str, expected: &str) {
        let mut state = State::default();
        let said: String = outcomes
            .chars()
            .map(|outcome| {
                let change;
                (state, change) = step(state, outcome == '+', Thresholds { success, failure });
                change.map_or('.', |Change(yes)| if yes { 'Y' } else { 'N' })
            })
            .collect();
        assert_eq!(said, expected);
    }

    #[test]
    fn a_verdict_needs_its_outcomes_in_a_row() {
        check(1, 3, "+++---", "Y....N");
        check(1, 3, "+--+--+", "Y......");
        check(2, 1, "+-++-", ".N.YN");
        check(1, 1, "-+-+", "NYNY");
        check(0, 0, "-+", "NY");
    }

    #[test]
    fn nothing_is_said_before_the_first_threshold() {
        check(3, 3, "+-+-+-", "......");
        check(1, 3, "--+", "..Y");
    }
}
