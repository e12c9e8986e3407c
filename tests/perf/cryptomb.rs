//! The seed's Table 2: RSA signing for eight TLS handshakes at a time, at an ingress gateway with a core to itself.

use meshproof::judge::Arm;
use meshproof::load::Bench;
use meshproof::treatment::MultibufferTls;
use meshproof::{Error, Scope, Verdict};
use serial_test::file_serial;

use super::arms::{Applied, Benches, Row, interleave};
use super::{CLUSTER, SUITE};

/// One gateway, one listener, one certificate: the arms differ by the name that the client asks for, and by whose TLS ends
/// the connection. `more` are further arguments of the driver, in both.
async fn compare(scope: &Scope, id: &str, more: &[&str]) -> Result<(), Error> {
    let cluster = scope.testbed.cluster(CLUSTER)?;
    let bench = Bench::start_gateway(scope, cluster).await?;
    let gateway = bench.gateway().expect("it was started with one");
    let module = MultibufferTls::of(scope, gateway)?;
    let row = Row::of(id).asking(|arm| {
        let name = match arm {
            Arm::Control => "control.echo.test",
            Arm::Treatment => "treatment.echo.test",
        };
        // The certificate signs itself; whether it is the same in both arms is not the driver's to say.
        let mut arguments = vec!["--tls".into(), "--insecure".into(), "--path=/echo?size=1024".into()];
        arguments.extend([format!("--server-name={name}"), format!("--host={name}")]);
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        arguments
    });
    interleave(scope, [row], Applied::MultibufferTls(&module), &Benches::same(bench)).await
}

/// A new connection for each request, as the seed's k6 has it.
const NEW_CONNECTIONS: [&str; 2] = ["--reuse", "1"];

#[tokio::test]
#[file_serial(perf)]
async fn cryptomb_saturated() -> Verdict {
    Scope::run(SUITE, "cryptomb_saturated", async |scope| {
        compare(scope, "cryptomb_saturated/64", &NEW_CONNECTIONS).await
    })
    .await
}

#[tokio::test]
#[file_serial(perf)]
async fn cryptomb_cost() -> Verdict {
    Scope::run(SUITE, "cryptomb_cost", async |scope| compare(scope, "cryptomb_cost", &NEW_CONNECTIONS).await).await
}

#[tokio::test]
#[file_serial(perf)]
async fn cryptomb_low_rate() -> Verdict {
    Scope::run(SUITE, "cryptomb_low_rate", async |scope| compare(scope, "cryptomb_low_rate", &NEW_CONNECTIONS).await)
        .await
}

#[tokio::test]
#[file_serial(perf)]
async fn cryptomb_keepalive_control_shows_no_effect() -> Verdict {
    Scope::run(SUITE, "cryptomb_keepalive_control", async |scope| {
        compare(scope, "cryptomb_keepalive_control", &[]).await
    })
    .await
}
