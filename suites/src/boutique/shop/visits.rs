//! Visits to the shop while a part of it is lost: the services that each visit needs, and its result.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use meshproof::report::Claim;
use meshproof::{Error, Result, Testbed};

use super::{Card, Page, Shopper};

/// Time limit for a page, even if services are missing: the frontend gives up after three seconds, and one second is
/// for the network.
pub(crate) const PROMISE: Duration = Duration::from_secs(4);

/// A way to use the shop, and the services that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visit {
    /// Name in claims.
    pub(crate) name: &'static str,
    /// Services without which the visit fails.
    pub(crate) needs: &'static [&'static str],
    make: Make,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Home,
    HomeInEuros,
    Product,
    Cart,
    Add,
    CheckOut,
    CheckOutInEuros,
}

/// All ways to use the shop.
pub(crate) const VISITS: [Visit; 7] = [
    Visit { name: "home", needs: &["frontend", "productcatalogservice"], make: Make::Home },
    Visit {
        name: "home-in-euros",
        needs: &["frontend", "productcatalogservice", "currencyservice"],
        make: Make::HomeInEuros,
    },
    Visit { name: "product", needs: &["frontend", "productcatalogservice"], make: Make::Product },
    Visit {
        name: "cart",
        needs: &["frontend", "cartservice", "redis-cart", "productcatalogservice", "shippingservice"],
        make: Make::Cart,
    },
    // This visit ends on the cart's page, and needs the same services.
    Visit {
        name: "add-to-cart",
        needs: &["frontend", "cartservice", "redis-cart", "productcatalogservice", "shippingservice"],
        make: Make::Add,
    },
    Visit {
        name: "check-out",
        needs: &[
            "frontend",
            "checkoutservice",
            "cartservice",
            "redis-cart",
            "productcatalogservice",
            "shippingservice",
            "paymentservice",
        ],
        make: Make::CheckOut,
    },
    // Prices are stored in dollars. Any other currency needs a conversion.
    Visit {
        name: "check-out-in-euros",
        needs: &[
            "frontend",
            "checkoutservice",
            "cartservice",
            "redis-cart",
            "productcatalogservice",
            "shippingservice",
            "paymentservice",
            "currencyservice",
        ],
        make: Make::CheckOutInEuros,
    },
];

/// Shoppers for all visits, with products in their carts.
#[derive(Debug)]
pub(crate) struct Visitors {
    visitors: Vec<Visitor>,
}

/// A shopper for one visit.
#[derive(Debug)]
struct Visitor {
    visit: Visit,
    shopper: Shopper,
    /// The product in the shopper's cart.
    product: String,
}

/// A completed visit.
#[derive(Debug)]
pub(crate) struct Visited {
    /// The visit.
    pub(crate) visit: Visit,
    /// The returned page.
    pub(crate) page: Page,
    /// Duration of the visit.
    pub(crate) took: Duration,
}

impl Visitors {
    /// Sends a shopper for each visit into the complete shop, to put a product into the cart.
    ///
    /// # Errors
    /// The shop does not answer, or has no product.
    pub(crate) async fn enter(testbed: &Testbed) -> Result<Self> {
        let entering = VISITS.map(async |visit| {
            let shopper = Shopper::new(testbed)?;
            let home = if matches!(visit.make, Make::HomeInEuros | Make::CheckOutInEuros) {
                shopper.pay_in("EUR").await?
            } else {
                shopper.visit("/").await?
            };
            let product = home.products()?.swap_remove(0);
            shopper.add(&product, 1).await?;
            Ok::<_, Error>(Visitor { visit, shopper, product })
        });
        Ok(Self { visitors: try_join_all(entering).await? })
    }

    /// Makes all visits concurrently.
    ///
    /// # Errors
    /// A page is not answered.
    pub(crate) async fn visit(&self) -> Result<Vec<Visited>> {
        let making = self.visitors.iter().map(async |Visitor { visit, shopper, product }| {
            let started = Instant::now();
            let page = match visit.make {
                Make::Home | Make::HomeInEuros => shopper.visit("/").await?,
                Make::Product => shopper.visit(&format!("/product/{product}")).await?,
                Make::Cart => shopper.visit("/cart").await?,
                Make::Add => shopper.add(product, 1).await?,
                Make::CheckOut | Make::CheckOutInEuros => shopper.check_out(Card::Good).await?,
            };
            Ok(Visited { visit: *visit, page, took: started.elapsed() })
        });
        try_join_all(making).await
    }
}

impl Visited {
    /// Claims that, without `lost`, the visit works if it needs none of them. Otherwise the visit must fail in time,
    /// with a page that names what is missing.
    pub(crate) fn claim(&self, what: &str, lost: &[&str]) -> Claim {
        let Self { visit, page, took } = self;
        let blamed: Vec<&str> = visit.needs.iter().copied().filter(|need| lost.contains(need)).collect();
        let wanted = if blamed.is_empty() { 200 } else { 503 };
        let requirement = "without a service, pages that do not need it work, and the others fail in time and say why";
        let seconds = |duration: &Duration| format!("{:.1} s", duration.as_secs_f64());
        let expected = match blamed.is_empty() {
            true => format!("status 200 within {}", seconds(&PROMISE)),
            false => format!("status 503 within {}, with a page that names {}", seconds(&PROMISE), blamed.join(" or ")),
        };
        let words = |status: &u16| format!("status {status} after {}", seconds(took));
        let stated = page.about(&format!("loss/{what}/{}", visit.name), requirement).expects(expected);
        let mut claim = page.document(stated.observes(&page.status, words, |status| *status == wanted));
        if *took > PROMISE {
            claim = claim.with_fault(format!("it took {}", seconds(took)));
        }
        if !blamed.is_empty() && claim.holds() {
            claim = match self.names(&blamed) {
                Some(words) => claim.with_evidence(format!("the page says: {words}")),
                None => claim.with_fault(format!("the page does not say what is missing: {}", self.words())),
            };
        }
        claim
    }

    /// The text of the page, if it names one of `blamed`.
    fn names(&self, blamed: &[&str]) -> Option<String> {
        let words = self.words();
        // The ingress gateway answers for a missing frontend. Of Redis, the shop knows only the cart.
        let also = |blamed: &str| match blamed {
            "frontend" => words.contains("no healthy upstream") || words.contains("upstream connect error"),
            "redis-cart" => words.contains("cartservice"),
            _ => false,
        };
        blamed.iter().any(|blamed| words.contains(blamed) || also(blamed)).then_some(words)
    }

    /// The text of the page, shortened to a line.
    fn words(&self) -> String {
        let text = self.page.text("main").ok().flatten().unwrap_or_else(|| self.page.body.clone());
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
    }
}

#[cfg(test)]
mod tests {
    use meshproof::report::Judgement;

    use super::*;

    fn visited(name: &str, status: u16, took: u64, body: &str) -> Visited {
        let visit = VISITS.into_iter().find(|visit| visit.name == name).unwrap();
        let page = Page {
            url: "http://shop/".into(),
            host: String::new(),
            status,
            served_by: String::new(),
            served_via: Vec::new(),
            body: body.into(),
        };
        Visited { visit, page, took: Duration::from_secs(took) }
    }

    #[test]
    fn a_visit_fails_where_it_needs_what_is_lost_and_only_then() {
        let names = "<main><h1>Sorry</h1>paymentservice does not answer</main>";
        for (visited, verdict) in [
            (visited("check-out", 503, 1, names), Judgement::Pass),
            (visited("check-out", 503, 1, "<main>Sorry</main>"), Judgement::Fail),
            (visited("check-out", 503, 9, names), Judgement::Fail),
            (visited("check-out", 500, 1, names), Judgement::Fail),
            (visited("check-out", 200, 1, names), Judgement::Fail),
            (visited("home", 200, 1, ""), Judgement::Pass),
            (visited("home", 200, 9, ""), Judgement::Fail),
            (visited("home", 503, 1, names), Judgement::Fail),
        ] {
            let claim = visited.claim("paymentservice", &["paymentservice"]);
            assert_eq!(claim.verdict(), verdict, "{claim}");
        }
    }
}
