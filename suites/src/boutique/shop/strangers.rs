//! Calls that the application does not need. Each call is answered without policies, and refused under least privilege.

use std::time::Instant;

use meshproof::istio::AccessEntry;
use meshproof::probe::{Expected, Protocol, grpc};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Workload};

use super::Shop;
use super::calls::{Call, LOAD_GENERATOR, NEEDS, REDIS, Wanted, calls};
use super::logs::{LOGGED, Pods};

/// Makes every call between workloads that the application does not need.
///
/// # Errors
/// A workload is missing, or does not report on its calls.
pub(crate) async fn strangers(shop: Shop<'_>) -> Result<Vec<Call>> {
    let callers = shop.workloads().filter(|name| *name != REDIS);
    let wanted = callers.map(|caller| {
        let needs = NEEDS.iter().find(|needs| needs.caller == caller).map_or(&[][..], |needs| needs.callees);
        let others = shop.workloads().filter(|name| *name != caller && *name != LOAD_GENERATOR);
        Wanted { caller, callees: others.filter(|name| !needs.contains(name)).collect() }
    });
    Ok(calls(shop, wanted.collect()).await?)
}

/// A call that the application does not need, without policies and under policies.
#[derive(Debug)]
pub(crate) struct Stranger {
    before: Call,
    under: Call,
    /// The called pod.
    callee: Workload,
    /// Log line of the callee's proxy, if an authorization policy denied the call.
    account: Option<AccessEntry>,
}

/// Repeats the calls of `before` under policies, and finds the log lines of the callees' proxies. `before` was made
/// without policies. The proxies must have the evidence log enabled.
///
/// # Errors
/// The errors of [`strangers`]. A log cannot be read.
pub(crate) async fn under_policies(shop: Shop<'_>, before: Vec<Call>) -> Result<Vec<Stranger>> {
    let pods = Pods::find(shop).await?;
    let domain = shop.testbed.trust.domain();
    let started = Instant::now();
    let under = strangers(shop).await?;
    let logs = pods.logs(started, LOGGED, |logs| {
        let refused = under.iter().filter(|call| !call.is_answered() && logs.denial_of(call, domain).is_none());
        refused.map(ToString::to_string).collect()
    });
    let logs = logs.await?;
    let mut before = before;
    let pairs = under.into_iter().map(|under| {
        let made = before.iter().position(|before| before.is_between_those_of(&under));
        let made = made.ok_or_else(|| Error::suite(format!("{under} was not called without policies")))?;
        let callee = pods.of(under.callee())?.clone();
        let account = logs.denial_of(&under, domain).cloned();
        Ok(Stranger { before: before.swap_remove(made), callee, account, under })
    });
    pairs.collect()
}

impl Stranger {
    /// Claims that the callee's proxy denied the call, and that the callee answered the same call without policies.
    pub(crate) fn claim(&self) -> Claim {
        let Self { before, under, callee, account } = self;
        let exchange = &under.exchange;
        let requirement = "under least privilege no workload reaches one that it has no need of";
        let id = format!("no-edge/{}", under.caller);
        let how = refusal(exchange.dial.protocol);
        let kubectl = callee.cluster.command("kubectl");
        let (control, account) = (&before.exchange, account.as_ref());
        let claim =
            claims::denied_by_proxy(&id, requirement, exchange, how, control, callee, account).with_commands(vec![
                format!("{kubectl} -n {} get authorizationpolicies", under.pod.namespace),
                under.command(),
            ]);
        match &exchange.report.served_by {
            Some(service) => claim.with_fault(format!("the call came to the service itself, {service}")),
            None => claim,
        }
    }
}

/// How a proxy denies a caller by identity.
fn refusal(protocol: Protocol) -> Expected {
    match protocol {
        Protocol::Grpc => Expected::Grpc(grpc::PERMISSION_DENIED),
        Protocol::Http1 | Protocol::Http2 => Expected::Http(403),
        _ => Expected::EndedBeforeAnswer,
    }
}

/// Claims that a needed call is still answered under least privilege.
pub(crate) fn still_answered(call: &Call) -> Claim {
    Claim::about(format!("needed/{}/{}", call.caller, call.callee()), "least privilege takes no call that is needed")
        .from(&call.pod)
        .to(call.exchange.destination())
        .expects(Expected::Answered.to_string())
        .observes(call, |call| call.exchange.outcome().to_string(), Call::is_answered)
        .with_commands(vec![call.command()])
}
