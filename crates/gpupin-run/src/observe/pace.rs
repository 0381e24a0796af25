use std::time::Duration;

/// How long to wait before the next sample: short while things change, longer while they do not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    next: Duration,
    fast_until: Duration,
}

const FASTEST: Duration = Duration::from_millis(25);
const SLOWEST: Duration = Duration::from_secs(1);
/// Programs open their GPU soon after they start, and children soon after each other.
const STAYS_FAST: Duration = Duration::from_secs(2);

impl Pace {
    pub(super) fn new() -> Self {
        Self { next: FASTEST, fast_until: STAYS_FAST }
    }

    /// The pause after a sample taken at `now` since the start, which took `cost`.
    pub(super) fn after(&mut self, now: Duration, changed: bool, cost: Duration) -> Duration {
        if changed {
            self.fast_until = now + STAYS_FAST;
        }
        self.next = if now < self.fast_until { FASTEST } else { (self.next * 3 / 2).min(SLOWEST) };
        // A driver that is slow to answer is not kept busy with questions.
        self.next.max((cost * 9).min(SLOWEST))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FASTEST, Pace, SLOWEST};

    #[test]
    fn quiet_times_are_sampled_slowly_and_changes_fast() {
        let mut pace = Pace::new();
        let mut now = Duration::ZERO;
        let mut samples = 0;
        while now < Duration::from_mins(1) {
            now += pace.after(now, false, Duration::ZERO);
            samples += 1;
        }
        assert_eq!(samples, 145);
        assert_eq!(pace.after(now, false, Duration::ZERO), SLOWEST);
        assert_eq!(pace.after(now, true, Duration::ZERO), FASTEST);
        assert_eq!(pace.after(now, true, Duration::from_millis(50)), Duration::from_millis(450));
    }
}
