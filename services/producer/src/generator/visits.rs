//! The sessions that are open at the same time, and the next click of one of them.

use super::random::Random;
use super::site::{Page, Site, campaign, external_referrer};

/// How long a visitor looks at a page on average. It sets how many sessions are open at a given
/// rate.
const SECONDS_PER_PAGE: u64 = 15;

/// A bound for memory; at rates beyond it visitors simply read faster.
const MAX_OPEN_SESSIONS: u64 = 65_536;

/// One click, before it is written as an event.
#[derive(Clone, Copy, Debug)]
pub struct Click {
    pub visitor: u64,
    pub session: u64,
    pub page: Page,
    /// Query string of the advertisement that led here; empty without one.
    pub campaign: &'static str,
    pub referrer: Referrer,
}

/// Where a click came from.
#[derive(Clone, Copy, Debug)]
pub enum Referrer {
    None,
    External(&'static str),
    Page(Page),
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    visitor: u64,
    session: u64,
    page: Page,
}

/// A pool of sessions; each click continues one of them or replaces one that has ended.
#[derive(Clone, Debug)]
pub struct Visits {
    site: Site,
    users: u64,
    open: Vec<Option<Visit>>,
}

impl Visits {
    /// Sessions of `users` visitors who click `rate` times a second together.
    pub fn new(users: u64, rate: u64) -> Self {
        let open = rate
            .saturating_mul(SECONDS_PER_PAGE)
            .clamp(1, users.clamp(1, MAX_OPEN_SESSIONS));
        Self {
            site: Site::new(),
            users,
            open: vec![None; open as usize],
        }
    }

    /// The next click of all visitors together.
    pub fn next(&mut self, random: &mut Random) -> Click {
        let slot = random.index(self.open.len());
        let continued =
            self.open[slot].and_then(|visit| Some((visit, self.site.next(visit.page, random)?)));
        let (visit, campaign, referrer) = match continued {
            Some((visit, page)) => (Visit { page, ..visit }, "", Referrer::Page(visit.page)),
            None => self.arrive(random),
        };
        self.open[slot] = Some(visit);
        Click {
            visitor: visit.visitor,
            session: visit.session,
            page: visit.page,
            campaign,
            referrer,
        }
    }

    fn arrive(&self, random: &mut Random) -> (Visit, &'static str, Referrer) {
        // the smaller of two draws: some visitors come far more often than others
        let visitor = random.below(self.users).min(random.below(self.users));
        let visit = Visit {
            visitor,
            session: random.bits() >> 24,
            page: self.site.landing(random),
        };
        let campaign = if random.percent(12) {
            campaign(random)
        } else {
            ""
        };
        let referrer = external_referrer(random).map_or(Referrer::None, Referrer::External);
        (visit, campaign, referrer)
    }
}
