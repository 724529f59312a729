//! The shop that visitors walk through: its pages, its catalogue and where visitors come from.

use super::random::{Random, Zipf};

const SITE: &str = "https://shop.example";

const PRODUCTS: usize = 2_000;

const ADJECTIVES: [&str; 20] = [
    "oak", "linen", "steel", "wool", "slim", "classic", "urban", "amber", "polar", "cotton",
    "copper", "velvet", "rapid", "silent", "marble", "cedar", "solar", "nordic", "café", "matte",
];

const NOUNS: [&str; 20] = [
    "lamp", "chair", "kettle", "jacket", "desk", "boots", "mug", "tent", "watch", "shelf", "scarf",
    "radio", "bottle", "rug", "blanket", "wallet", "speaker", "mirror", "bench", "backpack",
];

const CATEGORIES: [&str; 16] = [
    "lighting", "chairs", "desks", "kitchen", "outdoor", "jackets", "shoes", "bags", "watches",
    "audio", "rugs", "bath", "garden", "toys", "sale", "new",
];

const SEARCHES: [&str; 12] = [
    "desk+lamp",
    "boots",
    "wool%20scarf",
    "tent+4+person",
    "caf%C3%A9+chair",
    "kettle",
    "gift+under+50",
    "rain+jacket",
    "rug+200x300",
    "bluetooth+speaker",
    "mug+set",
    "backpack",
];

const ARTICLES: [&str; 8] = [
    "how-to-choose-a-tent",
    "care-for-leather",
    "small-kitchen-ideas",
    "autumn-colours",
    "led-or-halogen",
    "five-desks-compared",
    "what-is-merino",
    "packing-light",
];

/// External referrers with their share of landings, in percent; the rest come without one.
const REFERRERS: [(u64, &str); 10] = [
    (24, "https://www.google.com/"),
    (6, "https://www.bing.com/"),
    (5, "https://duckduckgo.com/"),
    (5, "https://www.facebook.com/"),
    (4, "https://t.co/4mWbX1kPqz"),
    (4, "https://www.instagram.com/"),
    (3, "https://www.reddit.com/r/BuyItForLife/"),
    (3, "https://news.ycombinator.com/"),
    (
        2,
        "https://www.google.co.jp/search?q=%E3%83%A9%E3%83%B3%E3%83%97",
    ),
    (
        2,
        "https://mail.example.org/inbox?folder=promotions&id=8842",
    ),
];

const CAMPAIGNS: [&str; 4] = [
    "?utm_source=newsletter&utm_campaign=autumn",
    "?utm_source=google&utm_medium=cpc",
    "?gclid=Cj0KCQiA3uGqBhDdARIsAFeJ5r1",
    "?utm_source=instagram",
];

/// A page of the shop, small enough to keep one per open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Home,
    Category { index: u16, number: u8 },
    Search(u16),
    Product(u16),
    Article(u16),
    Cart,
    Checkout,
    Confirmation,
}

/// The shop: its popularity tables and, at each page, where a visitor goes next.
#[derive(Clone, Debug)]
pub struct Site {
    products: Zipf,
    categories: Zipf,
    searches: Zipf,
    articles: Zipf,
}

impl Site {
    pub fn new() -> Self {
        Self {
            products: Zipf::new(PRODUCTS),
            categories: Zipf::new(CATEGORIES.len()),
            searches: Zipf::new(SEARCHES.len()),
            articles: Zipf::new(ARTICLES.len()),
        }
    }

    /// The first page of a session.
    pub fn landing(&self, random: &mut Random) -> Page {
        match random.below(100) {
            0..40 => Page::Home,
            40..75 => self.product(random),
            75..88 => self.category(random),
            _ => self.article(random),
        }
    }

    /// The page after `page`, or `None` when the visitor leaves.
    pub fn next(&self, page: Page, random: &mut Random) -> Option<Page> {
        let draw = random.below(100);
        Some(match (page, draw) {
            (Page::Confirmation, 0..70) => return None,
            (Page::Checkout, 0..65) => Page::Confirmation,
            (Page::Cart, 0..45) => Page::Checkout,
            (_, 0..16) => return None,
            (Page::Product(_), 16..28) => Page::Cart,
            (Page::Category { index, number }, 16..30) if number < 20 => Page::Category {
                index,
                number: number + 1,
            },
            (_, 28..65) => self.product(random),
            (_, 65..82) => self.category(random),
            (_, 82..92) => Page::Search(self.searches.rank(random) as u16),
            (_, 92..95) => self.article(random),
            _ => Page::Home,
        })
    }

    fn product(&self, random: &mut Random) -> Page {
        Page::Product(self.products.rank(random) as u16)
    }

    fn category(&self, random: &mut Random) -> Page {
        Page::Category {
            index: self.categories.rank(random) as u16,
            number: 1,
        }
    }

    fn article(&self, random: &mut Random) -> Page {
        Page::Article(self.articles.rank(random) as u16)
    }
}

/// Appends the page's address.
pub fn write_url(page: Page, out: &mut String) {
    use std::fmt::Write as _;
    out.push_str(SITE);
    let written = match page {
        Page::Home => write!(out, "/"),
        Page::Category { index, number: 1 } => write!(out, "/c/{}", CATEGORIES[usize::from(index)]),
        Page::Category { index, number } => {
            write!(out, "/c/{}?page={number}", CATEGORIES[usize::from(index)])
        }
        Page::Search(index) => write!(out, "/search?q={}", SEARCHES[usize::from(index)]),
        Page::Product(index) => {
            let index = usize::from(index);
            write!(
                out,
                "/p/{}-{}-{index}",
                ADJECTIVES[index % 20],
                NOUNS[index / 20 % 20]
            )
        }
        Page::Article(index) => write!(out, "/blog/{}", ARTICLES[usize::from(index)]),
        Page::Cart => write!(out, "/cart"),
        Page::Checkout => write!(out, "/checkout"),
        Page::Confirmation => write!(out, "/checkout/done"),
    };
    written.expect("writing to a string cannot fail");
}

/// Where a landing visitor came from, if the browser says so.
pub fn external_referrer(random: &mut Random) -> Option<&'static str> {
    let mut draw = random.below(100);
    REFERRERS.iter().find_map(|&(share, referrer)| {
        if draw < share {
            return Some(referrer);
        }
        draw -= share;
        None
    })
}

/// The query string that an advertisement adds to the landing page.
pub fn campaign(random: &mut Random) -> &'static str {
    CAMPAIGNS[random.index(CAMPAIGNS.len())]
}
