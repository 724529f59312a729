//! Users, visits and revised hits over all partitions, as the view `clickstream_traffic_minute`
//! shows them, against the union of the rows behind it. The rows' own sets are compared with the
//! records, so the view's follow from the records as well.

use std::collections::HashMap;

use clickstream_pipeline::window::Window;
use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row, Transaction};

use super::{
    aggregates::{Fingerprints, Part},
    column::{Bits, Instant},
    report::{Difference, Differences, Kind},
    slices::Bound,
};

/// Fingerprints of the unions of users and of visits; `None` for a window that an earlier version
/// wrote.
type Sets = Option<[u128; 2]>;

/// What the view must show of a window.
#[derive(Copy, Clone, Debug)]
struct Expected {
    sets: Sets,
    revised: i64,
}

/// The unions of a slice's windows.
#[derive(Default, Debug)]
pub struct Unions {
    done: HashMap<Window, Expected>,
    open: Option<(Window, Open)>,
}

/// Those of the window that is being read.
#[derive(Default, Debug)]
struct Open {
    bits: [Option<Vec<u8>>; 2],
    older: bool,
    revised: i64,
}

/// Whether this role may read the view. An auditor of before was not granted it.
///
/// # Errors
/// What the server says.
pub async fn may_read(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let row = client
        .query_one(
            "select has_table_privilege('clickstream_traffic_minute', 'select')",
            &[],
        )
        .await?;
    row.try_get(0)
}

impl Unions {
    /// Adds a row, its bits from this column on; rows come in the order of their windows.
    ///
    /// # Errors
    /// A column of another type.
    pub fn add(
        &mut self,
        window: Window,
        part: &Part,
        revised: i64,
        row: &Row,
        first: usize,
        fingerprints: &Fingerprints,
    ) -> Result<(), tokio_postgres::Error> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != window) {
            self.close(fingerprints);
        }
        let (_, open) = self.open.get_or_insert_with(|| (window, Open::default()));
        open.older |= part.is_of_older_form();
        open.revised += revised;
        for (at, union) in open.bits.iter_mut().enumerate() {
            if let Some(Bits(bits)) = row.try_get(first + at)? {
                let union = union.get_or_insert_default();
                union.resize(union.len().max(bits.len()), 0);
                for (byte, more) in union.iter_mut().zip(bits) {
                    *byte |= more;
                }
            }
        }
        Ok(())
    }

    /// Ends the window that is being read.
    pub fn close(&mut self, fingerprints: &Fingerprints) {
        let Some((window, open)) = self.open.take() else {
            return;
        };
        let sets =
            (!open.older).then(|| open.bits.map(|bits| fingerprints.of_bits(bits.as_deref())));
        let revised = open.revised;
        self.done.insert(window, Expected { sets, revised });
    }

    /// Compares them with the view, in the snapshot that the rows were read in.
    ///
    /// # Errors
    /// What the server says.
    pub async fn compare(
        mut self,
        tx: &Transaction<'_>,
        bounds: [&Bound; 2],
        fingerprints: &Fingerprints,
        differences: &mut Differences,
    ) -> anyhow::Result<()> {
        let rows = tx
            .query_raw(
                "select window_start, window_end, visitors_bits, sessions_bits, visitors, sessions,
                    coalesce(clickstream_distinct(visitors_bits), 0), coalesce(clickstream_distinct(sessions_bits), 0), revised
                 from clickstream_traffic_minute where window_start >= $1 and window_start < $2",
                bounds,
            )
            .await?;
        futures_util::pin_mut!(rows);
        let mut differ = |kind, window: Window, detail: String| {
            let found = Difference::new(kind, detail);
            differences.add(None, found.in_window(window.start));
        };
        while let Some(row) = rows.try_next().await? {
            let window = Window {
                start: row.try_get::<_, Instant>(0)?.0,
                end: row.try_get::<_, Instant>(1)?.0,
            };
            let Some(expected) = self.done.remove(&window) else {
                continue;
            };
            let revised: i64 = row.try_get(8)?;
            if revised != expected.revised {
                let detail = format!(
                    "revised: the view shows {revised}, all partitions have {}",
                    expected.revised
                );
                differ(Kind::RevisedDiffers, window, detail);
            }
            let Some(sets) = expected.sets else {
                continue;
            };
            for (at, what) in ["visitors", "sessions"].into_iter().enumerate() {
                let bits: Option<Bits<'_>> = row.try_get(2 + at)?;
                let (shown, counted): (i64, i64) = (row.try_get(4 + at)?, row.try_get(6 + at)?);
                if fingerprints.of_bits(bits.map(|bits| bits.0)) != sets[at] {
                    let detail = format!("{what}_bits of the view are not those of all partitions");
                    differ(Kind::EstimateDiffers, window, detail);
                } else if shown != counted {
                    differ(
                        Kind::EstimateDiffers,
                        window,
                        format!("{what}: the view shows {shown}, its bits are {counted}"),
                    );
                }
            }
        }
        for (window, expected) in self.done {
            if expected.sets.is_some() {
                let detail = "the view does not show the window".to_owned();
                differ(Kind::EstimateDiffers, window, detail);
            }
        }
        Ok(())
    }
}
