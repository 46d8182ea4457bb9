//! One attempt: sign the delivery, send it, keep what came back.

use std::time::Duration;

use crate::delivery::{Attempt, Delivery};
use crate::kept_headers::KeptHeaders;
use crate::outbound::{HttpResult, OutboundRequest, Outcome};
use crate::ports::{Clock, Sender};
use crate::secret::{OpenError, SecretOpener, SigningSecrets};
use crate::signature;
use crate::subscription::Subscription;
use crate::time::Timestamp;
use crate::traceparent::TRACEPARENT;
use crate::verification::{CHALLENGE_TYPE, VerificationToken};

/// Product name and version, as receivers see them.
pub const USER_AGENT: &str = concat!("Serverless-Webhooks/", env!("CARGO_PKG_VERSION"));

/// Makes the delivery's next attempt, not before `start`, which is soon, and adds it to the record. The
/// caller decides what follows.
/// Without the secrets there is no attempt.
pub async fn send(
    delivery: &mut Delivery,
    subscription: &Subscription,
    timeout: Duration,
    start: Option<Timestamp>,
    opener: &dyn SecretOpener,
    sender: &dyn Sender,
    clock: &dyn Clock,
) -> Result<Outcome, OpenError> {
    sender.prepare().await;
    let now = clock.now();
    let started_at = start.map_or(now, |start| start.max(now));
    let secrets = subscription.signing_secrets(opener, started_at)?;
    let owner_headers = subscription.open_headers(opener)?;
    let mut request = request(delivery, subscription, &secrets, timeout, started_at);
    request.owner_headers = owner_headers;
    request.wait = now.until(started_at);
    let request_headers = KeptHeaders::of_request(&request);
    let result = sender.post(request).await;
    delivery.attempts.push(Attempt::new(started_at, delivery.trigger, request_headers, &result));
    Ok(result.outcome)
}

/// Sends the challenge with this id and token, signed like a delivery. It is no delivery and is not
/// recorded.
pub async fn challenge(
    id: &str,
    token: &VerificationToken,
    subscription: &Subscription,
    timeout: Duration,
    opener: &dyn SecretOpener,
    sender: &dyn Sender,
    clock: &dyn Clock,
) -> Result<HttpResult, OpenError> {
    sender.prepare().await;
    let now = clock.now();
    let secrets = subscription.signing_secrets(opener, now)?;
    let body = token.challenge(id, now);
    let mut headers = signature::headers(&secrets, id, now, &body);
    headers.extend([
        ("content-type", "application/json".to_owned()),
        ("user-agent", USER_AGENT.to_owned()),
        ("x-webhook-event", CHALLENGE_TYPE.to_owned()),
    ]);
    let url = subscription.url.clone();
    let owner_headers = subscription.open_headers(opener)?;
    Ok(sender
        .post(OutboundRequest { url, headers, owner_headers, body, timeout, wait: Duration::ZERO })
        .await)
}

/// The signed request of the next attempt.
fn request(
    delivery: &Delivery,
    subscription: &Subscription,
    secrets: &SigningSecrets,
    timeout: Duration,
    now: Timestamp,
) -> OutboundRequest {
    let body = delivery.body();
    let mut headers = signature::headers(secrets, delivery.message_id().as_str(), now, &body);
    headers.extend([
        ("content-type", "application/json".to_owned()),
        ("user-agent", USER_AGENT.to_owned()),
        ("x-webhook-event", delivery.event_type.name().to_owned()),
        ("x-webhook-delivery-id", delivery.id.to_string()),
        ("x-webhook-attempt", (delivery.attempt_count() + 1).to_string()),
    ]);
    if let Some(traceparent) = &delivery.traceparent {
        headers.push((TRACEPARENT, traceparent.to_string()));
    }
    let owner_headers = Vec::new();
    let (url, wait) = (subscription.url.clone(), Duration::ZERO);
    OutboundRequest { url, headers, owner_headers, body, wait, timeout }
}
