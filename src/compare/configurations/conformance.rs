//! What each arm must do before it is measured: answer, know its caller, refuse plaintext. The control is the standard: what
//! holds there and not in the treatment is a regression, whatever the latency.

use super::error::{Error, Result};
use super::stage::{Twin, Twins};
use crate::cluster::Workload;
use crate::istio::{await_endpoint, issue};
use crate::probe::{self, Dial, Exchange, Expected, Protocol, Request, Vantage, dial, handshake};
use crate::record::HostPort;
use crate::report::{Claim, Judgement};
use crate::scope::Scope;
use crate::scope::claims::{self, Peers};

/// A property of an arm.
#[derive(Debug, Clone)]
struct Property {
    name: &'static str,
    claim: Claim,
}

/// What the arms do, compared.
#[derive(Debug, Clone)]
pub(super) struct Conformance {
    /// One claim for each property: it holds in the treatment, if it holds in the control.
    pub(super) claims: Vec<Claim>,
    /// What the control said, if it does not answer.
    pub(super) silent: Option<String>,
}

impl Conformance {
    /// The first property that the treatment has lost.
    pub(super) fn lost(&self) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.verdict() == Judgement::Fail)
    }

    /// The first property that could not be judged.
    pub(super) fn unjudged(&self) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.verdict() == Judgement::Error)
    }
}

/// Judges both arms.
///
/// # Errors
/// A probe did not report on a dial.
pub(super) async fn judged(scope: &Scope, twins: &Twins) -> Result<Conformance> {
    let (control, treatment) = futures::try_join!(of(scope, &twins.control), of(scope, &twins.treatment))?;
    let answered = control.iter().find(|property| property.name == "answered");
    let silent =
        answered.filter(|property| !property.claim.holds()).map(|property| property.claim.observed().to_owned());
    let claims = control.iter().zip(&treatment).map(|(control, treatment)| relative(control, treatment)).collect();
    Ok(Conformance { claims, silent })
}

/// The properties of an arm, always in the same order.
async fn of(scope: &Scope, twin: &Twin) -> Result<Vec<Property>> {
    if let Err(error) = await_endpoint(&twin.client, &twin.server).await {
        // The call judges it.
        tracing::warn!(%error, "a client does not know its server");
    }
    let call = twin.asked(dial("http1", Protocol::Http1, &twin.host, twin.port));
    let mut exchanges = Vantage::Meshed(twin.client.clone()).dial(vec![call]).await?;
    // `dial` returns a report for each dial, or fails.
    let exchange = exchanges.remove(0);
    let mut properties = vec![Property { name: "answered", claim: twin.answered(&exchange) }];
    if !twin.is_own {
        let owed = "the server is told by its proxy who its caller is";
        let peers = Peers { source: &twin.client, destination: &twin.server };
        let domain = scope.testbed.trust.domain();
        let claim = claims::told_of_caller("identity", owed, &exchange, peers, domain);
        properties.push(Property { name: "identity", claim });
    }
    properties.push(Property { name: "plaintext", claim: plaintext(scope, twin).await? });
    Ok(properties)
}

impl Twin {
    /// The dial, with the request for the user's own service.
    fn asked(&self, dial: Dial) -> Dial {
        let request = self.is_own.then(|| Request::Http { path: self.path.clone(), status: 200 });
        Dial { request, ..dial }
    }

    fn answered(&self, exchange: &Exchange) -> Claim {
        let owed = "the server answers its client";
        if !self.is_own {
            return claims::answered("answered", owed, exchange, &self.server);
        }
        Claim::about("answered/http1", owed)
            .from(&exchange.vantage)
            .to(exchange.destination())
            .expects(Expected::Answered.to_string())
            .observes(exchange, |exchange| exchange.outcome().to_string(), |exchange| exchange.outcome().is_answered())
    }
}

/// Claims that the server resets plaintext from outside the mesh, and answers the same caller over mutual TLS.
async fn plaintext(scope: &Scope, twin: &Twin) -> Result<Claim> {
    let owed = "the server takes no plaintext";
    let unjudged =
        |reason: String| Claim::about("plaintext/http1", owed).expects(Expected::Reset.to_string()).not_judged(reason);
    let certificate = match issue(&scope.testbed, &twin.client).await {
        Ok(certificate) => certificate,
        Err(error) => return Ok(unjudged(format!("there is no certificate for the positive control: {error}"))),
    };
    let naked: Workload = match probe::naked(&twin.cluster).await {
        Ok(naked) => naked,
        Err(error) => return Ok(unjudged(format!("there is no probe outside the mesh: {error}"))),
    };
    let to = HostPort::new(&twin.host, twin.port);
    let refused = twin.asked(dial("http1", Protocol::Http1, &twin.host, twin.port));
    let control = twin.asked(handshake("http1", &to, None, Some(&certificate), Protocol::Http1));
    let mut exchanges = Vantage::Naked(naked).dial(vec![refused, control]).await?;
    let (control, refused) = (exchanges.remove(1), exchanges.remove(0));
    Ok(claims::denied("plaintext", owed, &refused, Expected::Reset, &control, Some(&twin.server)))
}

/// Claims that the treatment has a property that the control has.
fn relative(control: &Property, treatment: &Property) -> Claim {
    let (name, of_control, of_treatment) = (control.name, &control.claim, &treatment.claim);
    let seen = |arm: &str, claim: &Claim| {
        let holds = match claim.verdict() {
            Judgement::Pass => "holds",
            Judgement::Fail => "does not hold",
            Judgement::Error | Judgement::NotDeclared => "was not judged",
        };
        format!("{arm}: {holds} ({})", claim.observed())
    };
    let told = format!("{}; {}", seen("control", of_control), seen("treatment", of_treatment));
    let requirement = format!("{}: what holds in the control holds in the treatment", of_control.requirement());
    let expectation = Claim::about(format!("conformance/{name}"), requirement)
        .from(of_treatment.source())
        .to(of_treatment.destination())
        .expects(of_control.expected());
    let is_judged = |claim: &Claim| matches!(claim.verdict(), Judgement::Pass | Judgement::Fail);
    let mut claim = if is_judged(of_control) && is_judged(of_treatment) {
        expectation.observes(&told, Clone::clone, |_| of_treatment.holds() || !of_control.holds())
    } else {
        expectation.not_judged(told)
    };
    for (arm, one) in [("control", of_control), ("treatment", of_treatment)] {
        for line in one.faults().iter().chain(one.evidence()) {
            claim = claim.with_evidence(format!("{arm}: {line}"));
        }
    }
    claim
}

/// Claims that the treatment loses no more requests than is allowed, if the control does not.
pub(super) fn errors(allowed: f64, control: Lost, treatment: Lost) -> Claim {
    let told = format!("control: {control}; treatment: {treatment}");
    Claim::about("conformance/errors", "no more requests fail than in the control, or than are allowed")
        .to("treatment")
        .expects(format!("at most {:.3} % fail or are not sent, if the control keeps that too", allowed * 100.0))
        .observes(&told, Clone::clone, |_| treatment.share() <= allowed || control.share() > allowed)
}

/// Requests of all runs of an arm that failed or were not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) requests: u64,
    pub(super) lost: u64,
}

impl Lost {
    fn share(self) -> f64 {
        self.lost as f64 / self.requests.max(1) as f64
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} lost", self.lost, self.requests)
    }
}

/// The error for a control that does not answer.
pub(super) fn silent(seen: &str) -> Error {
    Error::ControlSilent { seen: seen.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(holds: bool) -> Property {
        Property { name: "plaintext", claim: Claim::about("p", "no plaintext").equals(&true, &holds) }
    }

    #[test]
    fn only_what_the_control_has_can_be_lost() {
        let verdict = |control: bool, treatment: bool| relative(&property(control), &property(treatment)).verdict();
        assert_eq!(verdict(true, true), Judgement::Pass);
        assert_eq!(verdict(true, false), Judgement::Fail);
        assert_eq!(verdict(false, false), Judgement::Pass);
        assert_eq!(verdict(false, true), Judgement::Pass);
        let unknown = Property { name: "plaintext", claim: Claim::error("p", "nobody looked") };
        assert_eq!(relative(&property(true), &unknown).verdict(), Judgement::Error);
        assert_eq!(relative(&unknown, &property(true)).verdict(), Judgement::Error);
    }

    #[test]
    fn errors_are_a_regression_only_where_the_control_has_none() {
        let lost = |lost| Lost { requests: 1_000, lost };
        let verdict = |control, treatment| errors(0.001, lost(control), lost(treatment)).verdict();
        assert_eq!(verdict(0, 1), Judgement::Pass);
        assert_eq!(verdict(0, 2), Judgement::Fail);
        assert_eq!(verdict(5, 50), Judgement::Pass);
    }
}
