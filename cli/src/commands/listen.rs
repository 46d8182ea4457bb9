//! `webhooks listen`: receives webhooks on this machine.
//!
//! | service | how |
//! |---|---|
//! | the local system | a listener on a free port, and a webhook that points at it until the command ends |
//! | a deployed one, which cannot reach this machine | new deliveries of the history, signed here with a secret of its own |
//!
//! Both print each request and send it to `--forward-to` as it is, with its signature.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use url::Url;
use webhooks_core::ids::{DeliveryId, EventId, SubscriptionId};
use webhooks_core::secret::{Secret, SigningSecrets};
use webhooks_core::signature;
use webhooks_core::time::Timestamp;

use super::deliveries;
use crate::api::{self, Api, cause, http_client, is_loopback, read};
use crate::args::Listen;
use crate::diagnosis::{Key, diagnose};
use crate::error::Error;
use crate::output::{Output, Tone, printable};
use crate::saved_request::SavedRequest;
use crate::system;

/// Larger than any delivery: 256 KiB of data with every character escaped.
const BODY_BYTES: usize = 4 * 1024 * 1024;
/// How often the history is asked for new deliveries.
const INTERVAL: Duration = Duration::from_secs(2);
/// How far back the history is asked: an event may be older than its delivery.
const OVERLAP: Duration = Duration::from_hours(24);
/// The most deliveries of one look into the history.
const HISTORY: usize = 1_000;
/// Headers of the connection, which are not forwarded.
const HOP_HEADERS: [&str; 4] = ["connection", "content-length", "host", "transfer-encoding"];

/// A request as it was received or made, and what became of it.
struct Handled {
    request: SavedRequest,
    is_valid: bool,
    reason: Option<String>,
    /// The status of the application; nothing without `--forward-to`.
    forwarded: Option<Result<u16, String>>,
    took: Duration,
}

pub(crate) async fn listen(api: &Api, listen: Listen, out: Output) -> Result<(), Error> {
    let forward = listen.forward_to.as_ref().map(Forward::new).transpose()?;
    if listen.from_history.is_none() && is_loopback(api.base()) {
        return receive(api, &listen, forward, out).await;
    }
    let work = poll(api, &listen, forward, out);
    tokio::select! {
        result = work => result,
        result = stopped() => result,
    }
}

/// Until Ctrl-C, or until the program is asked to end.
async fn stopped() -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Failed(error.to_string());
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result.map_err(failed),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.map_err(failed)
}

/// Sends requests to the application of the user.
struct Forward {
    http: reqwest::Client,
    to: Url,
}

impl Forward {
    fn new(to: &Url) -> Result<Self, Error> {
        if !matches!(to.scheme(), "http" | "https") {
            return Err(Error::Usage(format!(
                "--forward-to must be an http or https URL, not {to}"
            )));
        }
        Ok(Self { http: http_client(to)?, to: to.clone() })
    }

    async fn send(&self, request: &SavedRequest) -> Result<(u16, Bytes), String> {
        let mut outgoing = self.http.post(self.to.clone()).body(request.body.clone());
        for (name, value) in &request.headers {
            if !HOP_HEADERS.contains(&name.as_str()) {
                outgoing = outgoing.header(name, value);
            }
        }
        let response = outgoing.send().await.map_err(|error| cause(&error))?;
        let status = response.status().as_u16();
        // A receiver that breaks off in the body has responded all the same.
        Ok((status, response.bytes().await.unwrap_or_default()))
    }
}

/// What a request of the listener needs.
struct Listener {
    keys: Vec<Key>,
    forward: Option<Forward>,
    handled: mpsc::UnboundedSender<Handled>,
}

/// Against the local system.
async fn receive(
    api: &Api,
    listen: &Listen,
    forward: Option<Forward>,
    out: Output,
) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot listen: {error}"));
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let url = format!("http://{}/", socket.local_addr().map_err(failed)?);
    let body =
        json!({"url": url, "event_types": listen.event_types, "description": "webhooks listen"});
    let webhook: Value = read(&api.post(&["api", "webhooks"], &body).await?)?;
    let text = |name: &str| webhook[name].as_str().unwrap_or_default().to_owned();
    let (id, secret) = (text("id"), text("secret"));
    out.note(format_args!("listening as webhook {id}, until Ctrl-C"));
    out.note(format_args!("signing secret: {secret}"));

    let (handled, mut received) = mpsc::unbounded_channel();
    let listener = Arc::new(Listener { keys: vec![Key::Secret(secret)], forward, handled });
    let router =
        Router::new().fallback(take).layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(listener);
    let server = tokio::spawn(async move { axum::serve(socket, router).await });
    let print_all = async {
        let mut left = listen.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(one) = received.recv().await else { break };
            print(&one, out)?;
            left -= 1;
        }
        Ok(())
    };
    let result = tokio::select! {
        result = print_all => result,
        result = stopped() => result,
    };
    // The last response is on its way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.abort();
    let deleted = api.delete(&["api", "webhooks", &id], &[]).await;
    result.and(deleted.map(|_| out.note(format_args!("deleted webhook {id}"))))
}

async fn take(State(listener): State<Arc<Listener>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes())));
    let request = SavedRequest { headers: headers.collect(), body: body.to_vec() };
    let diagnosis = diagnose(&request, &listener.keys, system::now());
    let (response, forwarded, took) = match &listener.forward {
        None => (StatusCode::OK.into_response(), None, Duration::ZERO),
        Some(forward) => {
            let begun = Instant::now();
            let result = forward.send(&request).await;
            let response = match &result {
                Ok((status, body)) => {
                    let status =
                        StatusCode::from_u16(*status).expect("it is the status of a response");
                    (status, Body::from(body.clone())).into_response()
                }
                Err(error) => (StatusCode::BAD_GATEWAY, error.clone()).into_response(),
            };
            (response, Some(result.map(|(status, _)| status)), begun.elapsed())
        }
    };
    let reason = diagnosis.reasons.into_iter().next().map(|reason| reason.detail);
    let handled = Handled { request, is_valid: diagnosis.valid, reason, forwarded, took };
    // Nobody receives it when the command is ending.
    let _ = listener.handled.send(handled);
    response
}

/// What the history tells of a delivery.
#[derive(Deserialize)]
struct Delivery {
    id: String,
    webhook_id: String,
    event_type: String,
}

#[derive(Deserialize)]
struct Detail {
    event_id: EventId,
    webhook_id: SubscriptionId,
    payload: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Payload {
    timestamp: Timestamp,
}

/// Against a deployed service. Ends after `--count` requests.
async fn poll(
    api: &Api,
    listen: &Listen,
    forward: Option<Forward>,
    out: Output,
) -> Result<(), Error> {
    let secret: Secret = match &listen.secret {
        Some(text) => Secret::parse(text).map_err(|_| {
            Error::Usage("--secret must be `whsec_` and Base64 of at least 24 bytes".to_owned())
        })?,
        None => Secret::from_random(&system::random()),
    };
    let webhook = listen.from_history.as_deref().filter(|id| *id != "all");
    let mut seen: HashSet<String> =
        new(api, webhook, &HashSet::new()).await?.into_iter().map(|d| d.id).collect();
    out.note("waiting for new deliveries of the history, until Ctrl-C");
    out.note(format_args!("signing secret: {}", secret.expose()));
    let mut left = listen.count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::time::sleep(INTERVAL).await;
        let mut new = new(api, webhook, &seen).await?;
        // The list is newest first.
        new.reverse();
        for delivery in new {
            seen.insert(delivery.id.clone());
            if !is_selected(&listen.event_types, &delivery.event_type) || left == 0 {
                continue;
            }
            let Some(request) = request(api, &delivery, &secret).await? else {
                out.note(format_args!("{}: the payload is not kept", delivery.id));
                continue;
            };
            let begun = Instant::now();
            let forwarded = match &forward {
                None => None,
                Some(forward) => Some(forward.send(&request).await.map(|(status, _)| status)),
            };
            let handled =
                Handled { request, is_valid: true, reason: None, forwarded, took: begun.elapsed() };
            print(&handled, out)?;
            left -= 1;
        }
    }
    Ok(())
}

/// The deliveries that were not seen, newest first.
async fn new(
    api: &Api,
    webhook: Option<&str>,
    seen: &HashSet<String>,
) -> Result<Vec<Delivery>, Error> {
    let since = system::now().minus(OVERLAP).to_string();
    let page = deliveries::newest(api, webhook, &[("since", &since)], HISTORY).await?;
    let all = page.items.iter().map(|item| api::read::<Delivery>(item.get()));
    let is_new = |delivery: &Result<Delivery, Error>| match delivery {
        Ok(delivery) => !seen.contains(&delivery.id),
        Err(_) => true,
    };
    all.filter(is_new).collect()
}

/// The request that the service made for a delivery, signed with another secret; nothing if its payload
/// is not kept.
async fn request(
    api: &Api,
    delivery: &Delivery,
    secret: &Secret,
) -> Result<Option<SavedRequest>, Error> {
    let path = ["api", "webhooks", &delivery.webhook_id, "deliveries", &delivery.id];
    let detail: Detail = read(&api.get(&path, &[]).await?)?;
    let Some(payload) = detail.payload else { return Ok(None) };
    let body = payload.get();
    let time = read::<Payload>(body)?.timestamp;
    let id = DeliveryId::of(&detail.event_id, &detail.webhook_id, time);
    let secrets = SigningSecrets { current: secret.clone().into(), previous: Vec::new() };
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-webhook-event".to_owned(), delivery.event_type.clone()),
        ("x-webhook-delivery-id".to_owned(), delivery.id.clone()),
        ("x-webhook-attempt".to_owned(), "1".to_owned()),
    ];
    let signatures = signature::headers(&secrets, id.as_str(), system::now(), body);
    headers.extend(signatures.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(Some(SavedRequest { headers, body: body.as_bytes().to_vec() }))
}

/// Whether a name or a wildcard of `--event-types` selects this type.
fn is_selected(selectors: &[String], event_type: &str) -> bool {
    selectors.iter().any(|selector| match selector.strip_suffix('*') {
        Some(start) => event_type.starts_with(start),
        None => selector == event_type,
    })
}

fn print(handled: &Handled, out: Output) -> Result<(), Error> {
    let Handled { request, is_valid, reason, forwarded, took } = handled;
    let header = |name: &str| request.header(name).unwrap_or("-").to_owned();
    let (event_type, id) = (header("x-webhook-event"), header("x-webhook-delivery-id"));
    let body = String::from_utf8_lossy(&request.body);
    if out.json {
        let headers: serde_json::Map<String, Value> = request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let (status, error) = match forwarded {
            Some(Ok(status)) => (Some(status), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        return out.line(json!({
            "event_type": event_type, "delivery_id": id, "signature_valid": is_valid, "reason": reason,
            "forward_status": status, "forward_error": error, "headers": headers, "body": body,
        }));
    }
    if out.quiet {
        return out.line(printable(&id));
    }
    let mark = if *is_valid { out.toned("✓", Tone::Good) } else { out.toned("✗", Tone::Bad) };
    let result = match forwarded {
        None => String::new(),
        Some(Ok(status)) => {
            let tone = if (200..300).contains(status) { Tone::Good } else { Tone::Bad };
            format!("  → {} in {} ms", out.toned(&status.to_string(), tone), took.as_millis())
        }
        Some(Err(error)) => format!("  → {}", out.toned(&printable(error), Tone::Bad)),
    };
    let time = system::now().to_string();
    out.line(format_args!(
        "{}  {}  {}  attempt {}  signature {mark}{result}",
        &time[11..19],
        printable(&event_type),
        printable(&id),
        printable(&header("x-webhook-attempt")),
    ))?;
    if let Some(reason) = reason {
        out.line(format_args!("  {}", printable(reason)))?;
    }
    out.line(format_args!("  {}", printable(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_wildcards_select_types() {
        let selectors = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        for (text, event_type, is) in [
            ("*", "task.created", true),
            ("task.*", "task.created", true),
            ("task.*", "taskforce.created", false),
            ("email.sent,task.created", "task.created", true),
            ("task.created", "task.created.again", false),
        ] {
            assert_eq!(is_selected(&selectors(text), event_type), is, "{text} {event_type}");
        }
    }
}
