//! The shop in headless Chromium, driven like a person would, with a screenshot of each page.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::page::CaptureScreenshotFormat;
use chromiumoxide::error::CdpError;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures::StreamExt;
use meshproof::host::chromium;
use meshproof::report::{self, Claim};
use meshproof::{Error, Scope, Seen, Testbed, Verdict, eventually};
use serde::Deserialize;

use super::SUITE;
use super::shop::{FRONTEND, PageError, REQUIRED, Shop};

/// Time limit for one page, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Seen red by: a `VirtualService` that aborts all calls to paymentservice (`04-order`: "We will be right back", 0 found).
async fn a_person_shops_in_a_browser() -> Verdict {
    Scope::run(SUITE, "a_person_shops_in_a_browser", async |scope| {
        scope.requires([REQUIRED])?;
        let url = address(&scope.testbed)?;
        let profile = tempfile::tempdir().map_err(|error| failed(&url, error))?;
        let visit = Visit::open(&url, profile.path()).await?;
        let outcome = shop(scope, &visit).await;
        visit.close().await;
        outcome
    })
    .await
}

/// A field of the checkout form.
struct Field {
    selector: &'static str,
    text: &'static str,
}

/// A customer's input in the checkout form.
const FORM: [Field; 7] = [
    Field { selector: "#email", text: "someone@example.com" },
    Field { selector: "#street_address", text: "1600 Amphitheatre Parkway" },
    Field { selector: "#zip_code", text: "94043" },
    Field { selector: "#city", text: "Mountain View" },
    Field { selector: "#country", text: "United States" },
    Field { selector: "#credit_card_number", text: "4432 8015 6152 0454" },
    Field { selector: "#credit_card_cvv", text: "672" },
];

/// The last year that the form offers, so that the card has not expired.
async fn last_year(visit: &Visit) -> Result<String, PageError> {
    let script = "[...document.querySelectorAll('#credit_card_expiration_year option')].at(-1)?.value ?? ''";
    let year = visit.page.evaluate(script).await.and_then(|year| Ok(year.into_value::<String>()?));
    year.map_err(|error| failed(&visit.url, error))
}

async fn shop(scope: &Scope, visit: &Visit) -> Result<(), Error> {
    visit.go("/").await?;
    visit.choose("#currency", "EUR").await?;
    visit.press(".currency button").await?;
    scope.claim(visit.shows("01-home", "h1", "[data-product], main a[href^='/product/']").await?);
    visit.press("main a[href^='/product/']").await?;
    scope.claim(visit.shows("02-product", "h1", ".buy").await?);
    visit.choose("#quantity", "2").await?;
    visit.press(".buy button").await?;
    scope.claim(visit.shows("03-cart", "h1", "[data-product][data-quantity='2']").await?);
    for field in FORM {
        visit.fill(field.selector, field.text).await?;
    }
    visit.choose("#credit_card_expiration_month", "1").await?;
    visit.choose("#credit_card_expiration_year", &last_year(visit).await?).await?;
    visit.press("form.checkout button[type=submit]").await?;
    scope.claim(visit.shows("04-order", "h1", "#order-id").await?);
    visit.go("/cart").await?;
    scope.claim(visit.shows("05-empty-cart", "h1", "main a[href='/']").await?);
    visit.narrow().await?;
    visit.go("/").await?;
    scope.claim(visit.shows("06-home-on-a-phone", "h1", "main a[href^='/product/']").await?);
    Ok(())
}

/// The shop's address for a browser. Browsers resolve names under `localhost` to their own machine.
fn address(testbed: &Testbed) -> Result<String, Error> {
    let cluster = Shop::of(testbed)?.cluster_of(FRONTEND)?;
    let ingress = cluster.record().ingress_address()?;
    Ok(format!("http://boutique.localhost:{}", ingress.port))
}

fn failed(url: &str, error: impl fmt::Display) -> PageError {
    PageError { url: url.to_owned(), reason: format!("in Chromium: {error}") }
}

/// Time limit for the pictures of a loaded page.
const PICTURES: Duration = Duration::from_secs(10);

/// The content of a page.
#[derive(Debug, Deserialize)]
struct OnPage {
    heading: String,
    /// Number of matching elements.
    found: u32,
    /// Whether nothing is wider than the window.
    fits: bool,
    /// Whether every picture is loaded.
    pictures: bool,
}

impl OnPage {
    fn is_right(&self) -> bool {
        !self.heading.is_empty() && self.found > 0 && self.fits && self.pictures
    }
}

impl fmt::Display for OnPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { heading, found, fits, pictures } = self;
        write!(f, "“{heading}”, {found} found, pictures loaded: {pictures}, fits: {fits}")
    }
}

/// A page and its screenshot.
struct Shown {
    url: String,
    seen: OnPage,
    picture: Vec<u8>,
}

struct Visit {
    url: String,
    browser: tokio::sync::Mutex<Browser>,
    page: Page,
    events: tokio::task::JoinHandle<()>,
}

impl Visit {
    async fn open(url: &str, profile: &Path) -> Result<Self, Error> {
        let missing = "there is no Chromium: install it (Debian: `apt-get install chromium`) or name one in CHROME";
        let executable = chromium().ok_or_else(|| PageError { url: url.into(), reason: missing.into() })?;
        let config = BrowserConfig::builder()
            .chrome_executable(executable)
            // Chromium has no sandbox for root, and containers rarely allow one for other users. The browser visits
            // only the shop.
            .no_sandbox()
            .user_data_dir(profile)
            .window_size(1280, 900)
            .launch_timeout(PATIENCE)
            .request_timeout(PATIENCE)
            .args(["--disable-gpu", "--disable-quic", "--no-proxy-server", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--no-first-run"])
            .build()
            .map_err(|error| failed(url, error))?;
        let (browser, mut handler) = Browser::launch(config).await.map_err(|error| failed(url, error))?;
        // The client's event loop of the protocol, ends with the browser.
        let events = tokio::spawn(async move { while handler.next().await.is_some() {} });
        let page = browser.new_page("about:blank").await.map_err(|error| failed(url, error))?;
        Ok(Self { url: url.to_owned(), browser: browser.into(), page, events })
    }

    async fn close(self) {
        let mut browser = self.browser.into_inner();
        // Dropping the browser kills the process if it does not exit.
        let _ = browser.close().await;
        let _ = browser.wait().await;
        self.events.abort();
    }

    async fn go(&self, path: &str) -> Result<(), PageError> {
        let url = format!("{}{path}", self.url);
        self.page.goto(&url).await.map(drop).map_err(|error| failed(&url, error))
    }

    /// Selects the option with this value by keyboard.
    async fn choose(&self, selector: &str, value: &str) -> Result<(), PageError> {
        let script = format!("document.querySelector({selector:?}).value = {value:?}");
        self.page.evaluate(script).await.map(drop).map_err(|error| failed(&self.url, error))
    }

    async fn fill(&self, selector: &str, text: &str) -> Result<(), PageError> {
        let filled = async {
            let field = self.page.find_element(selector).await?;
            field.click().await?.type_str(text).await?;
            Ok::<_, CdpError>(())
        };
        filled.await.map_err(|error| failed(&self.url, format!("filling `{selector}`: {error}")))
    }

    /// Clicks on a link or button, and waits until the next page is loaded.
    async fn press(&self, selector: &str) -> Result<(), Error> {
        let pressed = async {
            // Marks the current page. The next page has no mark.
            self.page.evaluate("window.left = true").await?;
            self.page.find_element(selector).await?.click().await?;
            Ok::<_, CdpError>(())
        };
        pressed.await.map_err(|error| failed(&self.url, format!("pressing `{selector}`: {error}")))?;
        Ok(eventually(format!("another page after pressing `{selector}`"), PATIENCE, async || {
            let arrived = "window.left !== true && document.readyState === 'complete'";
            let arrived: bool = self.page.evaluate(arrived).await?.into_value()?;
            Ok::<_, CdpError>(if arrived { Seen::Yes(()) } else { Seen::NotYet("still the old one".into()) })
        })
        .await?)
    }

    async fn narrow(&self) -> Result<(), Error> {
        use chromiumoxide::cdp::browser_protocol::emulation::SetDeviceMetricsOverrideParams;
        let phone = SetDeviceMetricsOverrideParams::new(390, 844, 2.0, true);
        self.page.execute(phone).await.map_err(|error| failed(&self.url, error))?;
        Ok(())
    }

    /// Claims that the page has a heading and an element that `selector` matches, and is no wider than the window.
    /// Saves a screenshot.
    async fn shows(&self, name: &str, heading: &str, selector: &str) -> Result<Claim, Error> {
        // Pictures load after the page. The claim judges pictures that are not loaded in time.
        let loaded = eventually("every picture to be loaded", PICTURES, async || {
            let loaded = "[...document.images].every(image => image.complete)";
            let loaded: bool = self.page.evaluate(loaded).await?.into_value()?;
            Ok::<_, CdpError>(if loaded { Seen::Yes(()) } else { Seen::NotYet("some are not".into()) })
        });
        drop(loaded.await);
        let shown = async {
            let url = self.page.url().await?.unwrap_or_default();
            let script = format!(
                "({{heading: document.querySelector('{heading}')?.innerText ?? '', \
                 found: document.querySelectorAll({selector:?}).length, \
                 fits: document.documentElement.scrollWidth <= window.innerWidth, \
                 pictures: [...document.images].every(image => image.complete && image.naturalWidth > 0)}})"
            );
            let seen: OnPage = self.page.evaluate(script).await?.into_value()?;
            let picture = ScreenshotParams::builder().format(CaptureScreenshotFormat::Png).full_page(true).build();
            Ok::<_, CdpError>(Shown { url, seen, picture: self.page.screenshot(picture).await? })
        };
        let Shown { url, seen, picture } = shown.await.map_err(|error| failed(&self.url, error))?;
        let directory = report::directory(SUITE).join("screenshots");
        let file = directory.join(format!("{name}.png"));
        let kept = std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&file, picture));
        kept.map_err(|error| report::Error { path: file, reason: error.to_string() })?;
        let requirement = "a person can shop in a browser, on a desk and on a phone";
        Ok(Claim::about(format!("browser/{name}"), requirement)
            .from("Chromium on this machine")
            .to(&url)
            .expects(format!("a heading, `{selector}`, every picture loaded, nothing wider than the window"))
            .observes(&seen, ToString::to_string, OnPage::is_right)
            .with_evidence(format!("picture: screenshots/{name}.png")))
    }
}

crate::trials! {
    a_person_shops_in_a_browser,
}
