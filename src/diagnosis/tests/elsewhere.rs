//! Calls to servers outside of the mesh, and through gateways that are not the mesh's.

use super::*;

/// A server outside of the mesh, in the caller's network: a proxy speaks plaintext to it.
#[tokio::test]
async fn a_server_outside_of_the_mesh_needs_no_sidecar_to_answer() {
    let mut mesh = healthy();
    mesh.here().pods.push(pod("legacy", "ledger", "10.1.0.8", labels("ledger")));
    mesh.here().pods[1].spec.as_mut().unwrap().containers.pop();
    mesh.here().policies = Policies::Known { root: "legacy".into(), policies: vec![strict("DISABLE")] };
    (mesh.call.destination, mesh.call.host) = (Some(place("here", "legacy", "ledger")), "10.1.0.8".into());
    assert_eq!(mesh.cause(), None, "by its address");
    mesh.call.host = "ledger.example".into();
    assert_eq!(mesh.cause(), None, "by the name of a ServiceEntry");
    mesh.call.host = "10.1.0.8".into();
    for (must, ended, speaks) in [
        (Must::Refuse, Ended::Answered, Speaks::Http1),
        (Must::Answer, Ended::Answered, Speaks::Http1),
        (Must::Answer, Ended::Otherwise, Speaks::Anything),
    ] {
        (mesh.call.must, mesh.call.ended, mesh.call.speaks) = (must, ended, speaks);
        let cause = mesh.cause().unwrap();
        assert_eq!(
            (cause.layer, cause.object.as_str()),
            (L::Sidecar, "Deployment legacy/ledger"),
            "{must:?} {ended:?}"
        );
    }
}

/// A gateway of the application's own takes any server name. Those of an east-west gateway are of Services, or are sent
/// to its address.
#[tokio::test]
async fn a_gateway_of_the_applications_own_is_not_taken_for_the_east_west_gateway() {
    let mut mesh = healthy();
    mesh.proxy(&gateway()).listeners.as_mut().unwrap()[0].server_names.clear();
    let mut sent = |host: &str, name: &str| {
        mesh.call.host = host.into();
        mesh.call.server_name = Some(name.into());
        mesh.cause().map(|cause| cause.layer)
    };
    assert_eq!(sent("10.2.0.7", "shop.example"), None);
    assert_eq!(sent("10.2.0.7", &crate::istio::sni_of(8080, HOST)), Some(L::Sni));
    assert_eq!(sent("10.2.0.3", "shop.example"), Some(L::Sni), "the address of a pod of the gateway");
    let address = mesh.there().cluster.record().eastwest_address().unwrap().host.clone();
    mesh.call.host = address;
    assert_eq!(mesh.cause().map(|cause| cause.layer), Some(L::Sni), "the address of the gateway");
    mesh.facts.silent.insert(destination(), vec![8080]);
    (mesh.call.host, mesh.call.is_meshed) = ("10.2.0.7".into(), false);
    assert_eq!(mesh.cause().map(|cause| cause.layer), Some(L::Application), "what lies behind it is still read");
}
