//! A port whose service does not name its protocol.

use futures::future::try_join_all;
use meshproof::identity::{ClientCertificate, SpiffeId};
use meshproof::istio::{AccessEntry, Decided, decisions, issue};
use meshproof::policy::authorization::{Answer, Call, Decision, HttpRequest, Policy, decide};
use meshproof::probe::{self, Dial, Exchange, Expected, Protocol, RawRequest, TlsOptions, Vantage, dial};
use meshproof::record::HostPort;
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Scope, Verdict, Workload};
use serde_json::json;

use super::SUITE;
use super::arena::{AUTO_PORT, Caller, REQUIRED, Server, Setup, await_known, servers};
use super::judge::by_the_right_policy;

const REQUIREMENT: &str = "a policy with fields of HTTP holds on a port of unnamed protocol, as HTTP or as TCP";

/// What the client's proxy offers in the handshake. The server's proxy chooses by it how it reads the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offered {
    /// What Istio's ALPN filter sets for requests: the server reads HTTP.
    Http,
    /// What a proxy without the filter offers: the server reads TCP.
    Tcp,
}

impl Offered {
    const ALL: [Self; 2] = [Self::Http, Self::Tcp];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "istio-http/1.1",
            Self::Tcp => "istio",
        }
    }
}

/// A request in this suite of cases.
struct Case {
    offered: Offered,
    path: &'static str,
    peer: SpiffeId,
    dial: Dial,
}

fn policies(namespace: &str, callers: &[Caller], trust_domain: &str) -> Result<Vec<Policy>> {
    let principal = |caller: &Caller| {
        caller.workload().spiffe_id(trust_domain).to_string().trim_start_matches("spiffe://").to_owned()
    };
    let ones: Vec<String> = callers.iter().step_by(2).map(principal).collect();
    let secret = json!({
        "action": "DENY",
        "rules": [{
            "from": [{ "source": { "principals": ones } }],
            "to": [{ "operation": { "paths": ["/status/251"], "ports": [AUTO_PORT.to_string()] } }],
        }],
    });
    Ok(vec![Policy::parse(namespace, "secret", secret).map_err(Error::suite)?])
}

/// Where the server's proxy reads HTTP, a DENY policy with a path denies that path. Where it reads TCP, the policy denies
/// every connection of the caller that it names: closed, and never open. On a mesh whose proxies lack Istio's ALPN filter
/// – the testbed's – every meshed client is read as TCP there, so HTTP-level authorization denies too much.
///
/// Seen red by: the policy missing in the mesh.
async fn policies_hold_on_a_port_of_unnamed_protocol() -> Verdict {
    Scope::run(SUITE, "policies_hold_on_a_port_of_unnamed_protocol", async |scope| {
        scope.requires(REQUIRED)?;
        let (callers, domain) = (Caller::meshed(scope).await?, scope.testbed.trust.domain());
        let made =
            servers(scope, "auto", &[], |_, namespace| Ok(Setup::new(policies(namespace, &callers, domain)?))).await?;
        let judging = made.iter().map(async |server| {
            let others: Vec<&Caller> = callers.iter().skip(1).step_by(2).collect();
            let (by_hand, by_mesh) = futures::try_join!(at_server(scope, server), from_mesh(server, &others))?;
            by_hand.into_iter().chain(by_mesh).for_each(|claim| scope.claim(claim));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

async fn at_server(scope: &Scope, server: &Server) -> Result<Vec<Claim>> {
    let cluster = &server.workload.cluster;
    let (naked, one, other) =
        futures::try_join!(probe::naked(cluster), probe::caller(cluster), probe::meshed(cluster))?;
    let prove = async |workload: &Workload| {
        let id = workload.spiffe_id(scope.testbed.trust.domain());
        Ok::<_, Error>((id, issue(&scope.testbed, workload).await?))
    };
    let (one, other) = futures::try_join!(prove(&one), prove(&other))?;
    let cases: Vec<Case> = Offered::ALL
        .into_iter()
        .flat_map(|offered| {
            let case = |(id, certificate): &(SpiffeId, ClientCertificate), name: &str, path| {
                let name = format!("{name}/{}/{}", offered.name(), cluster.name());
                Case { offered, path, peer: id.clone(), dial: request(server, &name, path, offered, certificate) }
            };
            [
                case(&one, "one-secret", "/status/251"),
                case(&one, "one-open", "/status/252"),
                case(&other, "other-secret", "/status/251"),
            ]
        })
        .collect();
    let dials = cases.iter().map(|case| case.dial.clone()).collect();
    let exchanges = Vantage::Naked(naked).dial(dials).await?;
    let exchanges: Vec<Exchange> = exchanges.into_iter().map(Exchange::with_status).collect();
    judge(server, &cases, &exchanges).await
}

fn request(server: &Server, name: &str, path: &str, offered: Offered, certificate: &ClientCertificate) -> Dial {
    let place = HostPort::new(&server.workload.address, AUTO_PORT);
    let mut dial = RawRequest::new("GET", &place.to_string(), path).dial_as(name, &place, None, Some(certificate));
    dial.tls = dial.tls.map(|tls| TlsOptions { alpn: vec![offered.name().into()], ..tls });
    dial
}

async fn judge(server: &Server, cases: &[Case], exchanges: &[Exchange]) -> Result<Vec<Claim>> {
    let expected: Vec<Decision> = cases.iter().map(|case| expected(server, case)).collect();
    let calls = exchanges.iter().zip(cases).map(|(exchange, case)| Decided { exchange, peer: Some(&case.peer) });
    let accounts = decisions(&calls.collect::<Vec<_>>(), &server.workload).await?;
    let claims = exchanges.iter().enumerate().map(|(index, exchange)| {
        let (account, workload) = (accounts[index].as_ref(), &server.workload);
        let id = format!("{SUITE}/auto");
        let is_http = cases[index].offered == Offered::Http;
        let same = (0..cases.len())
            .find(|at| expected[*at] == Decision::Allowed && cases[*at].offered == cases[index].offered);
        let claim = match (&expected[index], same) {
            (Decision::Allowed, _) if is_http => {
                claims::let_through(&id, REQUIREMENT, exchange, Expected::Answered, workload, account)
            }
            (Decision::Allowed, _) => read_as_tcp(&id, exchange, account),
            (_, Some(control)) => {
                let how = if is_http { Expected::Http(403) } else { Expected::EndedBeforeAnswer };
                let control = &exchanges[control];
                let claim = claims::denied_by_proxy(&id, REQUIREMENT, exchange, how, control, workload, account);
                by_the_right_policy(claim, &expected[index], account, &workload.namespace)
            }
            (_, None) => Claim::error(format!("{id}/{}", exchange.dial.id), "there is no control"),
        };
        claim.with_evidence(format!("the model says: {}", expected[index]))
    });
    Ok(claims.collect())
}

/// The calls of meshed callers that the policy does not name, through their own proxies: directly, and through an east-west
/// gateway. The evidence says how the server's proxy read them.
async fn from_mesh(server: &Server, others: &[&Caller]) -> Result<Vec<Claim>> {
    let workload = &server.workload;
    let host = format!("auto.{}.svc.{}", workload.namespace, workload.cluster.record().domain);
    let place = HostPort::new(&host, AUTO_PORT);
    let asking = others.iter().map(async |caller| {
        await_known(caller, &place).await?;
        let id = format!("meshed/{}-to-{}", caller.name, workload.cluster.name());
        let mut dial = dial(id, Protocol::Http1, &host, AUTO_PORT);
        dial.path = Some("/status/251".into());
        Ok::<_, Error>(caller.vantage.dial(vec![dial]).await?)
    });
    let exchanges = try_join_all(asking).await?;
    let claims = exchanges.iter().flatten().map(|exchange| {
        let who = exchange.report.who.as_ref();
        // Only a proxy that reads HTTP adds the header.
        let told = who.and_then(|who| who.forwarded_client_cert.as_deref());
        let reading = if told.is_some() { "HTTP" } else { "TCP" };
        claims::answered(&format!("{SUITE}/auto"), REQUIREMENT, exchange, workload)
            .with_evidence(format!("the server's proxy read it as {reading}: x-forwarded-client-cert is {told:?}"))
    });
    Ok(claims.collect())
}

/// Claims that a request was answered on a connection that the server's proxy read as TCP.
fn read_as_tcp(id: &str, exchange: &Exchange, account: Option<&AccessEntry>) -> Claim {
    // A connection has no protocol in the log, a request has.
    let is_tcp = account.is_some_and(|account| account.get("protocol").is_none());
    Claim::about(format!("{id}/{}", exchange.dial.id), REQUIREMENT)
        .from(&exchange.vantage)
        .to(exchange.destination())
        .expects("answered, on a connection that the server's proxy logs as TCP")
        .observes(
            exchange,
            |exchange| exchange.outcome().to_string(),
            |exchange| is_tcp && exchange.outcome().is_answered(),
        )
}

fn expected(server: &Server, case: &Case) -> Decision {
    let http = HttpRequest::get(&server.workload.address, case.path);
    let call = Call {
        peer: Some(case.peer.clone()),
        source_ip: None,
        remote_ip: None,
        destination_ip: None,
        port: AUTO_PORT,
        server_name: None,
        http: (case.offered == Offered::Http).then_some(http),
        authorizer: Answer::Allows,
    };
    decide(&server.mesh, &server.policies, &call)
}

crate::trials! {
    policies_hold_on_a_port_of_unnamed_protocol,
}
