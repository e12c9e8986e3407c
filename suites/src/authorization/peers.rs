//! Requests with certificates of the suite's choice, straight to a server's proxy.

use meshproof::identity::{ClientCertificate, SpiffeId};
use meshproof::istio::{Decided, decisions};
use meshproof::policy::authorization::{Answer, Call, Decision, HttpRequest, decide};
use meshproof::probe::{self, Exchange, Expected, Protocol, RawRequest, Vantage};
use meshproof::record::HostPort;
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result};

use super::arena::Server;
use super::judge::by_the_right_policy;

/// A request with a certificate.
pub(crate) struct Case<'a> {
    pub(crate) name: &'static str,
    /// The identity that the certificate proves. `None`: none that a policy can name.
    pub(crate) peer: Option<&'a SpiffeId>,
    pub(crate) certificate: &'a ClientCertificate,
    pub(crate) path: &'static str,
}

/// Judges each request at `server`. The last must be allowed: it is the control.
pub(crate) async fn judge_peers(
    server: &Server,
    id: &str,
    requirement: &str,
    cases: &[Case<'_>],
) -> Result<Vec<Claim>> {
    let workload = &server.workload;
    let place = HostPort::new(&workload.address, probe::port(&workload.cluster, Protocol::Http1)?);
    let dials = cases.iter().map(|Case { name, certificate, path, .. }| {
        let name = format!("{name}{path}/{}", workload.cluster.name());
        RawRequest::new("GET", &place.to_string(), path).dial_as(name, &place, None, Some(certificate))
    });
    let exchanges = Vantage::Naked(probe::naked(&workload.cluster).await?).dial(dials.collect()).await?;
    let exchanges: Vec<Exchange> = exchanges.into_iter().map(Exchange::with_status).collect();
    let calls = exchanges.iter().map(|exchange| Decided { exchange, peer: None });
    let accounts = decisions(&calls.collect::<Vec<_>>(), workload).await?;
    let control = exchanges.last().ok_or_else(|| Error::suite("nothing was dialled"))?;
    let claims = cases.iter().zip(&exchanges).zip(&accounts).map(|((case, exchange), account)| {
        let call = Call {
            peer: case.peer.cloned(),
            source_ip: None,
            remote_ip: None,
            destination_ip: None,
            port: place.port,
            server_name: None,
            http: Some(HttpRequest::get(&workload.address, case.path)),
            authorizer: Answer::Allows,
        };
        let account = account.as_ref();
        match decide(&server.mesh, &server.policies, &call) {
            Decision::Allowed => claims::let_through(id, requirement, exchange, Expected::Answered, workload, account),
            denied => {
                let how = Expected::Http(403);
                let claim = claims::denied_by_proxy(id, requirement, exchange, how, control, workload, account);
                by_the_right_policy(claim, &denied, account, &workload.namespace)
            }
        }
    });
    Ok(claims.collect())
}
