//! Records real comparisons without a mesh. A TCP echo server over loopback is compared with an identical server, and
//! with a server that delays each answer.
//!
//! ```console
//! $ cargo run --release --example loopback -- target/meshproof/loopback
//! $ cargo xtask judge target/meshproof/loopback --bounds fixtures/perf/recorded/bounds.toml
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use meshproof::host::{Host, Steal};
use meshproof::judge::{Arm, Bounds, Decision, Judge, Mode, Run, Trial, recorded};
use meshproof::report::table;

const BOUNDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/perf/recorded/bounds.toml");

/// The delay before each answer in the treatment arm of `loopback/delay`.
const DELAY: Duration = Duration::from_micros(100);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("where to? cargo run --example loopback -- DIRECTORY")?;
    let runs = Path::new(&directory).join("runs");
    let bounds = Bounds::load(BOUNDS.as_ref(), Mode::Quick)?;
    for trial in bounds.trials() {
        recorded::clear(&runs, &trial.id)?;
        let mut judge = Judge::new(trial);
        let comparisons = loop {
            judge.push(measure(trial, judge.order())?.record(&runs)?)?;
            if let Decision::Done(comparisons) = judge.decide() {
                break comparisons;
            }
        };
        println!("{}", table::comparisons(&comparisons));
    }
    Ok(())
}

fn measure(trial: &Trial, order: u32) -> Result<Run, Box<dyn Error>> {
    let mut run = Run::new(&trial.id, order, Host::this(), serde_json::to_value(&trial.plan)?);
    let (began, steal) = (Instant::now(), Steal::begin());
    let delay = (run.arm == Arm::Treatment && trial.id.ends_with("delay")).then_some(DELAY);
    let delayed = Arc::new(AtomicU64::new(0));
    let mut stream = TcpStream::connect(serve(delay, Arc::clone(&delayed))?)?;
    stream.set_nodelay(true)?;
    let mut histogram = Histogram::<u64>::new(3)?;
    let warm = began + Duration::from_secs_f64(trial.plan.warmup_s);
    let end = warm + Duration::from_secs_f64(trial.plan.run_s);
    let mut message = [0x5a; 64];
    loop {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        if sent >= warm {
            histogram.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
        }
    }
    run.requests = histogram.len();
    run.latency(&histogram)?;
    run.measure("requests_per_second", histogram.len() as f64 / trial.plan.run_s, "1/s");
    run.receipts.insert("delayed".into(), delayed.load(Ordering::Relaxed) as f64);
    run.host.steal = steal.share();
    run.duration = began.elapsed().as_secs_f64();
    Ok(run)
}

/// Starts a server that accepts one connection and echoes until the client closes the connection.
fn serve(delay: Option<Duration>, delayed: Arc<AtomicU64>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() {
            if let Some(delay) = delay {
                let asked = Instant::now();
                while asked.elapsed() < delay {
                    std::hint::spin_loop();
                }
                delayed.fetch_add(1, Ordering::Relaxed);
            }
            stream.write_all(&message)?;
        }
        Ok(())
    });
    Ok(address)
}
