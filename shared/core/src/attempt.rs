//! One attempt: sign the delivery, send it, keep what came back.

use std::time::Duration;

use crate::delivery::{Attempt, Delivery};
use crate::outbound::{Failure, HttpResult, OutboundRequest, Outcome};
use crate::ports::{Clock, Sender};
use crate::secret::{OpenError, SecretOpener, SigningSecrets};
use crate::signature;
use crate::subscription::Subscription;
use crate::target::{TargetPolicy, TargetUrl};
use crate::time::Timestamp;

/// Product name and version, as receivers see them.
pub const USER_AGENT: &str = concat!("Serverless-Webhooks/", env!("CARGO_PKG_VERSION"));

/// Makes the delivery's next attempt and adds it to the record. What follows is for the caller to
/// decide. Without the secrets there is no attempt.
pub async fn send(
    delivery: &mut Delivery,
    subscription: &Subscription,
    timeout: Duration,
    policy: TargetPolicy,
    opener: &dyn SecretOpener,
    sender: &dyn Sender,
    clock: &dyn Clock,
) -> Result<Outcome, OpenError> {
    let started_at = clock.now();
    let secrets = subscription.signing_secrets(opener, started_at)?;
    let answer = match request(delivery, subscription, &secrets, timeout, policy, started_at) {
        Ok(request) => sender.post(request).await,
        Err(answer) => answer,
    };
    delivery.attempts.push(Attempt::new(started_at, &answer));
    Ok(answer.outcome)
}

/// The signed request of the next attempt. An URL that the rules of today refuse is answered as a
/// blocked address would be.
fn request(
    delivery: &Delivery,
    subscription: &Subscription,
    secrets: &SigningSecrets,
    timeout: Duration,
    policy: TargetPolicy,
    now: Timestamp,
) -> Result<OutboundRequest, HttpResult> {
    let url = TargetUrl::parse(&subscription.url, policy).map_err(|error| HttpResult {
        outcome: Outcome::NoResponse {
            failure: Failure::Blocked,
            detail: format!("The URL {error}."),
        },
        duration_ms: 0,
    })?;
    let body = delivery.body();
    let mut headers = signature::headers(secrets, delivery.id.as_str(), now, &body).to_vec();
    headers.extend([
        ("content-type", "application/json".to_owned()),
        ("user-agent", USER_AGENT.to_owned()),
        ("x-webhook-event", delivery.event_type.name().to_owned()),
        ("x-webhook-delivery-id", delivery.id.to_string()),
        ("x-webhook-attempt", (delivery.attempt_count() + 1).to_string()),
    ]);
    Ok(OutboundRequest { url, headers, body, timeout })
}
