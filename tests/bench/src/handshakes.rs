//! TLS handshakes and processor time for each delivery: with connections that are kept, as deployed,
//! and with a connection for each delivery.
//!
//! The client has one thread, as a function does. The receiver runs on a thread of its own and speaks
//! HTTP/1.1 over TLS 1.3.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_rustls::TlsAcceptor;
use webhooks_core::outbound::{OutboundRequest, Outcome as Sent};
use webhooks_core::ports::Sender as _;
use webhooks_core::target::TargetPolicy;
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;
use webhooks_outbound::{GuardedClient, Options};

use crate::Outcome;
use crate::report::{Check, conclude, number};

/// The deliveries that one invocation sends concurrently.
const BATCH: usize = 10;
/// The most that may be made for 1,000 deliveries when connections are kept.
const HANDSHAKES_MAX: f64 = 50.0;
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The figures of one run.
struct Figures {
    handshakes: f64,
    cpu_us: f64,
}

pub(crate) fn run(deliveries: usize) -> Outcome<bool> {
    let mut rows = Vec::new();
    let mut checks = Vec::new();
    for endpoints in [1, 10] {
        for keep in [true, false] {
            let figures = std::thread::spawn(move || measure(deliveries, endpoints, keep))
                .join()
                .map_err(|_| "the client panicked".to_owned())??;
            let pool = if keep { "kept" } else { "one for each delivery" };
            rows.push(vec![
                endpoints.to_string(),
                pool.to_owned(),
                format!("{:.0}", figures.handshakes),
                format!("{:.0}", figures.cpu_us),
            ]);
            if keep {
                let what = "handshakes of 1,000 deliveries";
                checks.push(Check::most(HANDSHAKES_MAX, what, figures.handshakes, ""));
            }
        }
    }
    say(format!("{deliveries} deliveries over TLS, in batches of {BATCH}"));
    let header = ["endpoints", "connections", "handshakes per 1,000", "CPU µs per delivery"];
    say(lay_out(&header, &rows, &[0, 2, 3]));
    Ok(conclude(&checks))
}

fn measure(deliveries: usize, endpoints: usize, keep_connections: bool) -> Outcome<Figures> {
    let hosts: Vec<_> = (0..endpoints).map(|number| format!("e{number}.localhost")).collect();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(hosts.clone()).map_err(|error| error.to_string())?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(str::to_owned)?;
    let (port, handshakes) = start_receiver(cert.der().clone(), key)?;

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).map_err(|error| error.to_string())?;
    let idle_per_host = if keep_connections { Options::default().idle_per_host } else { 0 };
    let options = Options { name_servers: Some(Vec::new()), roots, idle_per_host };
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let before = cpu_time();
    runtime.block_on(async {
        let client = GuardedClient::with_options(TargetPolicy::Development, options)
            .map_err(|error| error.to_string())?;
        for batch in 0..deliveries / BATCH {
            let urls = (0..BATCH).map(|number| {
                let host = &hosts[(batch * BATCH + number) % endpoints];
                format!("https://{host}:{port}/hook")
            });
            let posts = urls.map(|url| post(&client, url));
            join_all(posts).await.into_iter().collect::<Outcome<Vec<()>>>()?;
        }
        Ok::<_, String>(())
    })?;
    let cpu = cpu_time().saturating_sub(before);
    let deliveries = number(deliveries / BATCH * BATCH);
    Ok(Figures {
        handshakes: number(handshakes.load(Ordering::Relaxed)) * 1000.0 / deliveries,
        cpu_us: cpu.as_secs_f64() * 1e6 / deliveries,
    })
}

async fn post(client: &GuardedClient, url: String) -> Outcome<()> {
    let headers = vec![("content-type", "application/json".to_owned())];
    let body = "{}".to_owned();
    let request = OutboundRequest {
        url,
        headers,
        owner_headers: Vec::new(),
        wait: Duration::ZERO,
        body,
        timeout: Duration::from_secs(20),
    };
    match client.post(request).await.outcome {
        Sent::Response { status: 200, .. } => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Responds on a thread of its own; gives back the port and the count of handshakes.
fn start_receiver(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Outcome<(u16, Arc<AtomicUsize>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(|error| error.to_string())?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let handshakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&handshakes);
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&counter)));
            }
        });
    });
    Ok((port, handshakes))
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, handshakes: Arc<AtomicUsize>) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    handshakes.fetch_add(1, Ordering::Relaxed);
    let mut request = Vec::new();
    while matches!(stream.read_buf(&mut request).await, Ok(1..)) {
        if request.ends_with(b"\r\n\r\n{}") {
            request.clear();
            if stream.write_all(RESPONSE).await.is_err() {
                return;
            }
        }
    }
}

/// What this thread has used of a processor. Only Linux tells.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}
