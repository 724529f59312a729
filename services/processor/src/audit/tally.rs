//! Counters as the log gives them. Where retention has dropped what would decide, a verdict is one
//! of several, and a counter lies between two bounds.

use clickstream_pipeline::checkpoint::Counters;

/// What became of a record with a value.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Stored and counted.
    Accepted,
    /// Its id was there.
    Duplicate,
    /// No event.
    Rejected,
    /// Behind the end of grace, and not counted.
    Late,
    /// Behind the end of grace, and counted in its window: accepted as well.
    Merged,
}

/// Counts of a stretch of the log.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Records with a value.
    pub consumed: i64,
    /// Records without one.
    pub skipped: i64,
    /// Records with more than one possible verdict.
    pub undecided: i64,
    least: [i64; 5],
    most: [i64; 5],
}

impl Tally {
    /// Counts a record whose verdict is one of `possible`.
    pub fn count(&mut self, possible: &[Verdict]) {
        self.consumed += 1;
        if let [verdict] = possible {
            self.least[*verdict as usize] += 1;
        } else {
            self.undecided += 1;
        }
        for verdict in possible {
            self.most[*verdict as usize] += 1;
        }
    }

    /// Records that have this verdict for certain.
    pub fn certain(&self, verdict: Verdict) -> i64 {
        self.least[verdict as usize]
    }

    /// The counters that do not fit, as `name: stored .., recomputed ..`, given the totals before
    /// the stretch.
    pub fn misfits(&self, before: &Counters, stored: &Counters) -> Vec<String> {
        let mut misfits = Vec::new();
        let mut check = |name: &str, base: i64, least: i64, most: i64, stored: i64| {
            let (least, most) = (base + least, base + most);
            if stored < least || stored > most {
                let expected = if least == most {
                    least.to_string()
                } else {
                    format!("{least} to {most}")
                };
                misfits.push(format!("{name}: stored {stored}, recomputed {expected}"));
            }
        };
        check(
            "consumed",
            before.consumed,
            self.consumed,
            self.consumed,
            stored.consumed,
        );
        check(
            "skipped",
            before.skipped,
            self.skipped,
            self.skipped,
            stored.skipped,
        );
        let accepted = |counts: &[i64; 5]| {
            counts[Verdict::Accepted as usize] + counts[Verdict::Merged as usize]
        };
        check(
            "accepted",
            before.accepted,
            accepted(&self.least),
            accepted(&self.most),
            stored.accepted,
        );
        for (verdict, name, base, stored) in [
            (Verdict::Merged, "merged", before.merged, stored.merged),
            (
                Verdict::Duplicate,
                "duplicate",
                before.duplicate,
                stored.duplicate,
            ),
            (
                Verdict::Rejected,
                "rejected",
                before.rejected,
                stored.rejected,
            ),
            (Verdict::Late, "late", before.late, stored.late),
        ] {
            check(
                name,
                base,
                self.least[verdict as usize],
                self.most[verdict as usize],
                stored,
            );
        }
        if !stored.conserved() {
            misfits.push("consumed is not accepted + duplicate + rejected + late".to_owned());
        }
        misfits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_fits_when_it_lies_within_what_the_undecided_records_allow() {
        let mut tally = Tally::default();
        tally.count(&[Verdict::Accepted]);
        tally.count(&[Verdict::Accepted, Verdict::Duplicate]);
        let stored = |accepted, duplicate| Counters {
            consumed: 2,
            accepted,
            duplicate,
            ..Counters::default()
        };
        assert!(
            tally
                .misfits(&Counters::default(), &stored(1, 1))
                .is_empty()
        );
        assert!(
            tally
                .misfits(&Counters::default(), &stored(2, 0))
                .is_empty()
        );
        assert_eq!(
            tally.misfits(&Counters::default(), &stored(0, 2)),
            [
                "accepted: stored 0, recomputed 1 to 2",
                "duplicate: stored 2, recomputed 0 to 1"
            ]
        );
    }
}
