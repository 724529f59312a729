//! What follows from an event's fields by rules that a spec may have: page and site, where the
//! visitor comes from, signals of bots.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    acquisition::{Campaign, campaign},
    bots::{BotList, Bots},
    page::{PageRules, Pages, host},
};

/// What is derived from the fields, as anchors keep it; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DerivedRules {
    /// How the page is made; without rules the URL is the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<PageRules>,
    /// Whether campaign and host of the referrer are taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acquisition: bool,
    /// The list by which bots are found; without one none is looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bots: Option<BotList>,
}

impl DerivedRules {
    /// The most pages of a window and a Kafka partition that have rows of their own, where there is
    /// a bound.
    #[must_use]
    pub fn most_pages(&self) -> Option<usize> {
        let most = self.page.as_ref()?.max_per_window?;
        Some(most.try_into().unwrap_or(usize::MAX))
    }
}

/// What was derived from the fields of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived<'a> {
    /// What the hit is counted by; `None`: the URL.
    pub page: Option<Cow<'a, str>>,
    /// Host of the referrer, in lower case, at most 255 bytes.
    pub referrer_host: Option<Cow<'a, str>>,
    /// What the URL says of a campaign.
    pub campaign: Campaign<'a>,
    /// A set of the signals in [`crate::bots`].
    pub bot: u8,
}

/// The fields that something is derived from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'s, 'a> {
    pub(crate) url: &'s Cow<'a, str>,
    pub(crate) referrer: Option<&'s Cow<'a, str>>,
    pub(crate) user_agent: Option<&'s str>,
}

/// Derives by rules, from which it was compiled.
#[derive(Clone, Debug)]
pub(crate) struct Deriver {
    pages: Option<Pages>,
    acquisition: bool,
    bots: Option<Bots>,
}

impl Deriver {
    /// Compiles the rules; none if nothing is derived.
    pub(crate) fn new(rules: &DerivedRules) -> Option<Self> {
        (*rules != DerivedRules::default()).then(|| Self {
            pages: rules.page.as_ref().map(Pages::new),
            acquisition: rules.acquisition,
            bots: rules.bots.map(Bots::new),
        })
    }

    /// What follows from the fields.
    pub(crate) fn derive<'a>(&self, from: Source<'_, 'a>) -> Derived<'a> {
        let mut derived = Derived::default();
        if let Some(pages) = &self.pages {
            derived.page = Some(part(from.url, |url| pages.page(url)));
        }
        if self.acquisition {
            derived.campaign = match from.url {
                Cow::Borrowed(url) => campaign(url),
                Cow::Owned(url) => owned(campaign(url)),
            };
            derived.referrer_host = from.referrer.and_then(host_of);
        }
        if let Some(bots) = &self.bots {
            derived.bot = bots.signals(from.user_agent);
        }
        derived
    }

    /// The site of an event that names none: with rules for pages the host of its URL.
    pub(crate) fn site<'a>(&self, url: &Cow<'a, str>) -> Option<Cow<'a, str>> {
        self.pages.as_ref().and_then(|_| host_of(url))
    }
}

impl Derived<'_> {
    /// The same without a borrow of the payload.
    #[must_use]
    pub fn into_owned(self) -> Derived<'static> {
        let text = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Derived {
            page: self.page.map(text),
            referrer_host: self.referrer_host.map(text),
            campaign: owned(self.campaign),
            bot: self.bot,
        }
    }
}

fn owned(campaign: Campaign<'_>) -> Campaign<'static> {
    campaign.map(|text| text.map(|text| Cow::Owned(text.into_owned())))
}

fn host_of<'a>(url: &Cow<'a, str>) -> Option<Cow<'a, str>> {
    match url {
        Cow::Borrowed(url) => host(url),
        Cow::Owned(url) => host(url).map(|host| Cow::Owned(host.into_owned())),
    }
}

/// A part of a text, borrowed from where the text is.
fn part<'a>(text: &Cow<'a, str>, of: impl for<'t> Fn(&'t str) -> Cow<'t, str>) -> Cow<'a, str> {
    match text {
        Cow::Borrowed(text) => of(text),
        Cow::Owned(text) => Cow::Owned(of(text).into_owned()),
    }
}

#[cfg(test)]
mod tests;
