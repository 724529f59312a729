//! The windows of the chart: kept between readings, so that only the newest have to be read every
//! second.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::{SerializeSeq as _, Serializer};

/// Windows that the chart shows.
pub const SHOWN: i64 = 60;

/// Windows behind the newest that are read every second; the others change rarely (events may come
/// late) and are read with every tenth reading.
pub const FRESH: i64 = 3;

/// One window, over all partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant, seconds since 1970.
    pub start: i64,
    /// Accepted clicks.
    pub hits: i64,
    /// Distinct users, estimated.
    pub visitors: i64,
    /// Distinct visits, estimated.
    pub sessions: i64,
    /// Reported final.
    pub is_final: bool,
}

impl Serialize for Window {
    /// `[start, hits, visitors, sessions, final]`: sixty of them are sent every second.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_seq(Some(5))?;
        row.serialize_element(&self.start)?;
        row.serialize_element(&self.hits)?;
        row.serialize_element(&self.visitors)?;
        row.serialize_element(&self.sessions)?;
        row.serialize_element(&i32::from(self.is_final))?;
        row.end()
    }
}

/// A stretch of windows, by their first instants (seconds since 1970), both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first window.
    pub from: i64,
    /// The last window.
    pub to: i64,
}

/// Which windows the chart shows when event time has come to `clock`, and which of them have to be
/// read. `size` in seconds. One window ahead of the clock belongs to it: the clock is a median,
/// some events are past it.
pub fn spans(clock: i64, size: i64, everything: bool) -> (Span, Span) {
    let to = clock - clock.rem_euclid(size) + size;
    let shown = Span {
        from: to - SHOWN * size,
        to,
    };
    let from = if everything {
        shown.from
    } else {
        to - (FRESH + 1) * size
    };
    (shown, Span { from, to })
}

/// The windows that were read, newest readings winning.
#[derive(Debug, Default)]
pub struct Chart(BTreeMap<i64, Window>);

impl Chart {
    /// Takes a reading of `read`: what stands there no more (retention) goes, and so does what is
    /// not shown any longer.
    pub fn update(&mut self, shown: Span, read: Span, windows: impl IntoIterator<Item = Window>) {
        self.0
            .retain(|start, _| *start >= shown.from && *start < read.from);
        self.0
            .extend(windows.into_iter().map(|window| (window.start, window)));
    }

    /// The windows in order, final up to `final_until` (seconds since 1970). Windows without
    /// traffic are gaps between them.
    pub fn windows(&self, size: i64, final_until: Option<i64>) -> Vec<Window> {
        let is_final = |start: i64| final_until.is_some_and(|until| start + size <= until);
        let windows = self.0.values();
        windows
            .map(|window| Window {
                is_final: is_final(window.start),
                ..*window
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: i64, hits: i64) -> Window {
        Window {
            start,
            hits,
            visitors: hits,
            sessions: hits,
            is_final: false,
        }
    }

    #[test]
    fn the_chart_ends_one_window_ahead_of_event_time() {
        let (shown, read) = spans(125, 60, false);
        assert_eq!((shown.from, shown.to), (180 - 3600, 180));
        assert_eq!((read.from, read.to), (180 - 240, 180));
        assert_eq!(spans(125, 60, true).1, shown);
        assert_eq!(spans(-1, 60, true).0.to, 0, "before 1970 too");
    }

    #[test]
    fn a_new_reading_replaces_its_stretch_and_leaves_older_windows() {
        let mut chart = Chart::default();
        let (shown, all) = spans(300, 60, true);
        chart.update(shown, all, [window(0, 1), window(240, 2), window(300, 3)]);
        let (shown, fresh) = spans(361, 60, false);
        chart.update(shown, fresh, [window(300, 4), window(360, 1)]);
        let hits: Vec<_> = chart
            .windows(60, Some(60))
            .iter()
            .map(|window| (window.start, window.hits, window.is_final))
            .collect();
        assert_eq!(
            hits,
            [(0, 1, true), (300, 4, false), (360, 1, false)],
            "the window at 240 was not there any more"
        );
    }

    #[test]
    fn windows_that_are_not_shown_any_more_are_forgotten() {
        let mut chart = Chart::default();
        let (shown, all) = spans(0, 60, true);
        chart.update(shown, all, [window(0, 1)]);
        let (shown, fresh) = spans(60 * 100, 60, false);
        chart.update(shown, fresh, []);
        assert_eq!(chart.windows(60, None), []);
    }
}
