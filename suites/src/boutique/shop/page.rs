//! A page of the shop, parsed.

use meshproof::Result;
use meshproof::report::{Claim, Statement};
use scraper::{Html, Selector};

use super::PageError;

/// An exact amount and its currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Price {
    /// Billionths of a unit: `units` and `nanos` of the shop's API in one number.
    pub(crate) nanos: i128,
    /// ISO 4217 code.
    pub(crate) currency: String,
}

impl Price {
    /// Parses `59.370000000 EUR`.
    fn parse(text: &str) -> Option<Self> {
        let (amount, currency) = text.split_once(' ')?;
        let (units, nanos) = amount.split_once('.')?;
        if nanos.len() != 9 {
            return None;
        }
        let digits: i128 = format!("{units}{nanos}").parse().ok()?;
        Some(Self { nanos: digits, currency: currency.to_owned() })
    }
}

impl std::fmt::Display for Price {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (units, nanos) = (self.nanos / 1_000_000_000, self.nanos.unsigned_abs() % 1_000_000_000);
        write!(f, "{units}.{nanos:09} {}", self.currency)
    }
}

/// A line of the cart or the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Id of the product.
    pub(crate) product: String,
    /// Quantity.
    pub(crate) quantity: u32,
    /// Total price of the line.
    pub(crate) price: Price,
}

/// An answered page.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Requested URL.
    pub(crate) url: String,
    /// Host name of the request.
    pub(crate) host: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// `CLUSTER/POD` of the frontend, as reported by the frontend.
    pub(crate) served_by: String,
    /// Services called for the page, as `cartservice=CLUSTER/POD`.
    pub(crate) served_via: Vec<String>,
    /// The HTML.
    pub(crate) body: String,
}

impl Page {
    /// The text of the first element that `selector` matches. `None` if no element matches.
    ///
    /// # Errors
    /// [`PageError`]: the selector is invalid.
    pub(crate) fn text(&self, selector: &str) -> Result<Option<String>> {
        let document = Html::parse_document(&self.body);
        let found = document.select(&self.selector(selector)?).next();
        Ok(found.map(|element| element.text().collect::<String>().trim().to_owned()))
    }

    /// The exact price in the first element that `selector` matches.
    ///
    /// # Errors
    /// [`PageError`]: there is no price.
    pub(crate) fn price(&self, selector: &str) -> Result<Price> {
        let document = Html::parse_document(&self.body);
        let inside = self.selector(&format!("{selector} data.price"))?;
        let value = document.select(&inside).next().and_then(|element| element.attr("value"));
        value.and_then(Price::parse).ok_or_else(|| self.lacks(format!("price in `{selector}`")).into())
    }

    /// The products that the page links to, without duplicates, in the page's order.
    ///
    /// # Errors
    /// [`PageError`]: there are no products.
    pub(crate) fn products(&self) -> Result<Vec<String>> {
        let document = Html::parse_document(&self.body);
        let mut products: Vec<String> = Vec::new();
        for link in document.select(&self.selector("main a[href^='/product/']")?) {
            let id = link.attr("href").and_then(|path| path.strip_prefix("/product/")).unwrap_or_default().to_owned();
            if !products.contains(&id) {
                products.push(id);
            }
        }
        if products.is_empty() { Err(self.lacks("product").into()) } else { Ok(products) }
    }

    /// The lines of the cart or the order.
    ///
    /// # Errors
    /// [`PageError`]: a line cannot be parsed.
    pub(crate) fn lines(&self) -> Result<Vec<Line>> {
        let document = Html::parse_document(&self.body);
        let cost = self.selector(".line-price data.price")?;
        let line = self.selector("[data-product][data-quantity]")?;
        let lines = document.select(&line).map(|line| {
            let product = line.attr("data-product")?.to_owned();
            let quantity = line.attr("data-quantity")?.parse().ok()?;
            let price = Price::parse(line.select(&cost).next()?.attr("value")?)?;
            Some(Line { product, quantity, price })
        });
        lines.collect::<Option<Vec<_>>>().ok_or_else(|| self.lacks("lines that can be read").into())
    }

    /// The error for a page that lacks `what`.
    pub(crate) fn lacks(&self, what: impl Into<String>) -> PageError {
        PageError { url: self.url.clone(), reason: format!("it has no {} (status {})", what.into(), self.status) }
    }

    /// Claims that `observed`, a content of the page, equals `expected`.
    pub(crate) fn claim<T: PartialEq + std::fmt::Debug>(
        &self,
        id: &str,
        requirement: &str,
        expected: &T,
        observed: &T,
    ) -> Claim {
        self.document(self.about(id, requirement).equals(expected, observed))
    }

    /// States a requirement of the page.
    pub(crate) fn about(&self, id: &str, requirement: &str) -> Statement {
        Claim::about(id, requirement).from("a shopper on this machine").to(&self.url)
    }

    /// Adds the server of the page, and the command that gets the page.
    pub(crate) fn document(&self, claim: Claim) -> Claim {
        let claim =
            claim.with_evidence(format!("the page was served by {} with status {}", self.served_by, self.status));
        let claim = match self.served_via.is_empty() {
            true => claim,
            false => claim.with_evidence(format!("behind it: {}", self.served_via.join(", "))),
        };
        claim.with_commands(vec![format!("curl -H 'Host: {}' {}", self.host, self.url)])
    }

    fn selector(&self, text: &str) -> Result<Selector> {
        let reason = |error| format!("`{text}` selects nothing: {error}");
        Ok(Selector::parse(text).map_err(|error| PageError { url: self.url.clone(), reason: reason(error) })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(body: &str) -> Page {
        let url = "http://shop/".to_owned();
        Page {
            url,
            host: String::new(),
            status: 200,
            served_by: String::new(),
            served_via: Vec::new(),
            body: body.to_owned(),
        }
    }

    #[test]
    fn prices_are_exact_and_read_back_as_they_were() {
        for text in ["59.370000000 EUR", "0.000000001 JPY"] {
            assert_eq!(Price::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Price::parse("59.37 EUR"), None, "billionths, all nine");
        assert_eq!(Price::parse("59"), None);
    }

    #[test]
    fn lines_products_and_totals_are_found() {
        let page = page(
            r#"<main><a href="/product/A">a</a><a href="/product/A">again</a><a href="/product/B">b</a>
            <ul><li data-product="A" data-quantity="2"><p class="line-price"><data class="price" value="2.000000000 EUR">
            </data></p></li></ul><dd id="total"><data class="price" value="3.500000000 EUR">€3.50</data></dd></main>"#,
        );
        assert_eq!(page.products().unwrap(), ["A", "B"]);
        assert_eq!(page.price("#total").unwrap().nanos, 3_500_000_000);
        assert_eq!(page.lines().unwrap()[0].quantity, 2);
        assert_eq!(page.text("#total").unwrap().as_deref(), Some("€3.50"));
    }

    #[test]
    fn what_a_page_lacks_is_named_with_its_address() {
        let error = page("<p>closed</p>").price("#total").unwrap_err().to_string();
        assert!(error.contains("http://shop/") && error.contains("#total"), "{error}");
    }
}
