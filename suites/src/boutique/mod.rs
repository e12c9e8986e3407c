//! The online boutique, across both clusters: a customer can shop, and every service reaches the services that it
//! calls.
//!
//! Needs a live testbed (`cargo xtask testbed up`), in either layout. Verdicts are in
//! `target/meshproof/boutique/report.json`, screenshots in the same directory. Tests that change what others rely on –
//! policies, replicas – run alone. The others share the mesh.

mod browser;
mod load;
mod loss;
mod reach;
mod shop;

use meshproof::{Scope, Verdict};
use shop::{Card, REQUIRED, Shopper};

const SUITE: &str = "boutique";

/// Seen red by: a `VirtualService` that aborts all calls to paymentservice (`order/status`: "expected 200, seen 503").
async fn a_shopper_buys_what_is_in_the_cart_in_the_chosen_currency() -> Verdict {
    Scope::run(SUITE, "a_shopper_buys", async |scope| {
        scope.requires([REQUIRED])?;
        let shopper = Shopper::new(&scope.testbed)?;
        let home = shopper.pay_in("EUR").await?;
        let products = home.products()?;
        scope.claim(home.claim("home", "the home page is there", &200, &home.status));
        scope.claim(home.claim("home/products", "the home page shows the collection", &9, &products.len()));
        shopper.add(&products[0], 2).await?;
        let cart = shopper.add(&products[1], 1).await?;
        let (lines, shipping, total) = (cart.lines()?, cart.price("#shipping")?, cart.price("#total")?);
        let wanted = [format!("2 × {}", products[0]), format!("1 × {}", products[1])];
        let held: Vec<_> = lines.iter().map(|line| format!("{} × {}", line.quantity, line.product)).collect();
        scope.claim(cart.claim("cart/lines", "the cart holds what was put into it", &wanted.to_vec(), &held));
        let mut sum = shipping.clone();
        sum.nanos += lines.iter().map(|line| line.price.nanos).sum::<i128>();
        scope.claim(cart.claim("cart/total", "lines and shipping add up to the total, to the nano", &sum, &total));
        scope.claim(cart.claim("cart/currency", "prices are in the chosen currency", &"EUR", &total.currency.as_str()));

        let order = shopper.check_out(Card::Good).await?;
        scope.claim(order.claim("order/status", "a good card buys the cart", &200, &order.status));
        scope.claim(order.claim("order/total", "what is paid is what the cart said", &total, &order.price("#total")?));
        for number in ["order-id", "tracking-id"] {
            let shown = order.text(&format!("#{number}"))?.is_some_and(|number| !number.is_empty());
            let requirement = "an order and its parcel have numbers";
            scope.claim(order.claim(&format!("order/{number}"), requirement, &true, &shown));
        }
        let after = shopper.visit("/cart").await?;
        scope.claim(after.claim("order/cart", "what was bought is no longer in the cart", &0, &after.lines()?.len()));
        Ok(())
    })
    .await
}

/// Seen red by: a route of the ingress gateway that sets one session's cookie for all (`carts/other`: "expected 0, seen 1").
async fn two_shoppers_have_two_carts() -> Verdict {
    Scope::run(SUITE, "two_shoppers_have_two_carts", async |scope| {
        scope.requires([REQUIRED])?;
        let (one, other) = (Shopper::new(&scope.testbed)?, Shopper::new(&scope.testbed)?);
        let products = one.visit("/").await?.products()?;
        let filled = one.add(&products[0], 3).await?;
        scope.claim(filled.claim("carts/one", "a cart holds what its shopper put into it", &1, &filled.lines()?.len()));
        let empty = other.visit("/cart").await?;
        scope.claim(empty.claim("carts/other", "and nobody else's", &0, &empty.lines()?.len()));
        Ok(())
    })
    .await
}

/// Seen red, in all cases, by: a `VirtualService` that aborts all calls to paymentservice ("expected 422, seen 503", and so is
/// the control).
async fn a_card_is_refused_and_the_cart_stays(card: Card) -> Verdict {
    Scope::run(SUITE, format!("a_card_is_refused_{card:?}"), async |scope| {
        scope.requires([REQUIRED])?;
        let shopper = Shopper::new(&scope.testbed)?;
        let products = shopper.visit("/").await?.products()?;
        let before = shopper.add(&products[2], 4).await?;
        let refused = shopper.check_out(card).await?;
        let id = format!("card/{card:?}");
        scope.claim(refused.claim(&id, "a bad card is refused, with a page that says so", &422, &refused.status));
        let after = shopper.visit("/cart").await?;
        scope.claim(after.claim(&format!("{id}/cart"), "a refusal leaves the cart", &before.lines()?, &after.lines()?));
        // The positive control: the same cart, with a valid card as the only difference.
        let bought = shopper.check_out(Card::Good).await?;
        scope.claim(bought.claim(&format!("{id}/control"), "a good card buys the same cart", &200, &bought.status));
        Ok(())
    })
    .await
}

crate::trials! {
    a_shopper_buys_what_is_in_the_cart_in_the_chosen_currency,
    two_shoppers_have_two_carts,
    a_card_is_refused_and_the_cart_stays {
        that_is_mistyped(Card::Mistyped),
        that_has_expired(Card::Expired),
        of_a_kind_not_taken(Card::NotTaken),
    },
    mod browser,
    mod load,
    mod loss,
    mod reach,
}
