//! A shopper: a cookie jar, and a customer's visits with it.

use std::time::Duration;

use meshproof::{Result, Testbed};
use reqwest::header::{HOST, HeaderMap};
use reqwest::{Client, RequestBuilder};

use super::{FRONTEND, Page, PageError, Shop};

/// Time limit for one page. The shop promises three seconds, even if services are missing.
const BOUND: Duration = Duration::from_secs(15);

/// The state of a credit card, for the payment service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card {
    /// A valid VISA card.
    Good,
    /// The check digit of the number is wrong.
    Mistyped,
    /// The card has expired.
    Expired,
    /// The shop does not accept this kind of card.
    NotTaken,
}

/// A visitor of the shop, through an ingress gateway.
#[derive(Debug, Clone)]
pub(crate) struct Shopper {
    client: Client,
    address: String,
    /// Host name of the shop at the gateway.
    host: String,
}

impl Shopper {
    /// A new shopper with an empty cookie jar, at the ingress of the frontend's cluster.
    ///
    /// # Errors
    /// [`NotDeclared`](meshproof::record::Error::NotDeclared): the record has no shop, or no ingress gateway for it.
    pub(crate) fn new(testbed: &Testbed) -> Result<Self> {
        let shop = Shop::of(testbed)?;
        let cluster = shop.cluster_of(FRONTEND)?;
        let address = cluster.record().ingress_address()?.to_string();
        let client = Client::builder().cookie_store(true).no_proxy().timeout(BOUND).build();
        let client = client.map_err(|error| PageError { url: address.clone(), reason: error.to_string() })?;
        Ok(Self { client, address, host: shop.host() })
    }

    /// Visits a page and follows redirects.
    ///
    /// # Errors
    /// [`PageError`]: there is no HTTP answer.
    pub(crate) async fn visit(&self, path: &str) -> Result<Page> {
        self.send(path, self.client.get(self.url(path))).await
    }

    /// Submits a form.
    ///
    /// # Errors
    /// The errors of [`Self::visit`].
    pub(crate) async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        self.send(path, self.client.post(self.url(path)).form(fields)).await
    }

    /// Adds `quantity` of `product` to the cart, and returns the cart's page.
    ///
    /// # Errors
    /// The errors of [`Self::visit`].
    pub(crate) async fn add(&self, product: &str, quantity: u8) -> Result<Page> {
        self.submit("/cart", &[("product_id", product), ("quantity", &quantity.to_string())]).await
    }

    /// Selects the currency of all prices.
    ///
    /// # Errors
    /// The errors of [`Self::visit`].
    pub(crate) async fn pay_in(&self, currency: &str) -> Result<Page> {
        self.submit("/setCurrency", &[("currency_code", currency), ("return_to", "/")]).await
    }

    /// Checks out with a card.
    ///
    /// # Errors
    /// The errors of [`Self::visit`].
    pub(crate) async fn check_out(&self, card: Card) -> Result<Page> {
        let (number, year) = match card {
            Card::Good => ("4432801561520454", "2039"),
            Card::Mistyped => ("4432801561520455", "2039"),
            Card::Expired => ("4432801561520454", "2020"),
            Card::NotTaken => ("378282246310005", "2039"),
        };
        let fields = [
            ("email", "someone@example.com"),
            ("street_address", "1600 Amphitheatre Parkway"),
            ("zip_code", "94043"),
            ("city", "Mountain View"),
            ("state", "CA"),
            ("country", "United States"),
            ("credit_card_number", number),
            ("credit_card_expiration_month", "1"),
            ("credit_card_expiration_year", year),
            ("credit_card_cvv", "672"),
        ];
        self.submit("/cart/checkout", &fields).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn send(&self, path: &str, request: RequestBuilder) -> Result<Page> {
        let url = self.url(path);
        let failed = |error: reqwest::Error| {
            let causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
            let reason = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
            PageError { url: url.clone(), reason }
        };
        let answer = request.header(HOST, &self.host).send().await.map_err(failed)?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.map_err(failed)?;
        let via = header(&headers, "x-served-via");
        let served_via = via.split(',').map(str::trim).filter(|hop| !hop.is_empty()).map(str::to_owned).collect();
        Ok(Page { status, served_by: header(&headers, "x-served-by"), served_via, body, url, host: self.host.clone() })
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}
