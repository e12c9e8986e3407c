//! Where the diagnosis of a claim about an exchange begins.

use meshproof_probe::{Dial, Outcome, Protocol};

use crate::cluster::Workload;
use crate::probe::{Exchange, Vantage};
use crate::report::{Call, Ended, Must, Place, Speaks, Subject};

/// Where a diagnosis begins of an exchange that `destination` must answer, for a claim of a suite's own.
pub fn must_be_answered(exchange: &Exchange, destination: &Workload) -> Subject {
    subject(exchange, None, Some(destination), Must::Answer)
}

/// Where a diagnosis of the exchange begins. `through` is the gateway that a caller outside of all clusters used.
pub(super) fn subject(
    exchange: &Exchange,
    through: Option<&Workload>,
    destination: Option<&Workload>,
    must: Must,
) -> Subject {
    let Dial { host, port, protocol, tls, .. } = &exchange.dial;
    let speaks = match protocol {
        Protocol::Http1 | Protocol::WebSocket => Speaks::Http1,
        Protocol::Http2 | Protocol::Grpc | Protocol::GrpcStream => Speaks::Http2,
        Protocol::Tcp | Protocol::ServerFirst => Speaks::Tcp,
        Protocol::Tls => Speaks::Tls,
        Protocol::TlsRaw | Protocol::ClientHello | Protocol::Bytes => Speaks::Anything,
    };
    let ended = match exchange.outcome() {
        Outcome::Answered { .. } => Ended::Answered,
        Outcome::Dns { .. } => Ended::NoName,
        Outcome::Http { status: 403, .. } | Outcome::Grpc { code: 7, .. } => Ended::Denied,
        _ => Ended::Otherwise,
    };
    let source = exchange.vantage.workload().or(through);
    Subject::Call(Call {
        source: source.map(place),
        is_meshed: matches!(exchange.vantage, Vantage::Meshed(_)) || through.is_some(),
        destination: destination.map(place),
        host: host.clone(),
        port: *port,
        server_name: tls.as_ref().and_then(|tls| tls.server_name.clone()),
        speaks,
        must,
        ended,
    })
}

fn place(workload: &Workload) -> Place {
    let Workload { cluster, namespace, pod, .. } = workload;
    Place { cluster: cluster.name().into(), namespace: namespace.clone(), pod: pod.clone() }
}
