//! Events onto the events queue.
//!
//! The queue of the local system is found through its API, and takes any credentials. For another queue
//! region and credentials are those of the AWS SDK: environment, profile, container or instance.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Credentials;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use url::Url;
use webhooks_core::ids::UserId;
use webhooks_core::json::Data;
use webhooks_core::time::Timestamp;

use crate::api::{self, Api, cause, is_loopback, read};
use crate::args::{Publish, Target, Trigger};
use crate::error::Error;
use crate::output::Output;
use crate::session::Session;
use crate::system;

/// The region of the local queues.
const LOCAL_REGION: &str = "us-east-1";

/// The message (asyncapi.yaml).
#[derive(Serialize)]
struct Message<'a> {
    event_type: &'a str,
    user_id: &'a str,
    event_id: &'a str,
    occurred_at: Timestamp,
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Catalogue {
    items: Vec<EventType>,
}

#[derive(Deserialize)]
struct EventType {
    name: String,
    example: Box<RawValue>,
}

pub(crate) async fn publish(session: &Session, publish: Publish, out: Output) -> Result<(), Error> {
    find(&session.api, &publish.event_type).await?;
    let occurred_at = publish.occurred_at.map(|moment| moment.at(system::now()));
    send(session, &publish.event_type, &publish.data.0, occurred_at, publish.target, out).await
}

pub(crate) async fn trigger(session: &Session, trigger: Trigger, out: Output) -> Result<(), Error> {
    let EventType { name, example } = find(&session.api, &trigger.event_type).await?;
    send(session, &name, &example, None, trigger.target, out).await
}

/// The event type of this name. The service would send an event of another type to the dead-letter queue.
async fn find(api: &Api, name: &str) -> Result<EventType, Error> {
    let catalogue: Catalogue = read(&api.get(&["api", "webhooks", "event-types"], &[]).await?)?;
    catalogue.items.into_iter().find(|item| item.name == name).ok_or_else(|| {
        Error::Usage(format!(
            "TYPE: there is no event type {name}; `webhooks event-types` lists them"
        ))
    })
}

async fn send(
    session: &Session,
    event_type: &str,
    data: &RawValue,
    occurred_at: Option<Timestamp>,
    target: Target,
    out: Output,
) -> Result<(), Error> {
    let data = Data::from_raw(data).map_err(|error| Error::Usage(format!("--data {error}")))?;
    let user = target.user.or_else(|| session.api.user()).ok_or_else(|| {
        Error::Usage("the token does not say whose event it is: give --user".to_owned())
    })?;
    let owner: UserId = user.parse().map_err(|error| Error::Usage(format!("--user {error}")))?;
    let event_id =
        target.event_id.unwrap_or_else(|| format!("evt_{}", hex::encode(system::random::<16>())));
    let message = Message {
        event_type,
        user_id: &user,
        event_id: &event_id,
        occurred_at: occurred_at.unwrap_or_else(system::now),
        data: serde_json::from_str(data.as_str()).expect("it was JSON before it was compact"),
    };
    let body = serde_json::to_string(&message).expect("texts and JSON are JSON");
    let queue_url = match target.queue_url.or_else(|| session.queue_url.clone()) {
        Some(url) => url,
        None => local_queue(session.api.base()).await?,
    };
    let sent = client(&queue_url)
        .await
        .send_message()
        .queue_url(queue_url.as_str())
        .message_body(webhooks_core::json::escape_for_queue(body))
        .message_group_id(owner.message_group())
        .send()
        .await;
    sent.map_err(|error| {
        let reason = cause(&error);
        let text = format!("the queue {queue_url} does not accept the event: {reason}");
        match error {
            aws_sdk_sqs::error::SdkError::ServiceError(service)
                if service.raw().status().as_u16() < 500 =>
            {
                Error::Refused(text)
            }
            _ => Error::Unavailable(text),
        }
    })?;
    match out {
        Output { json: true, .. } => {
            out.line(json!({"event_id": event_id, "event_type": event_type, "user_id": user}))
        }
        Output { quiet: true, .. } => out.line(event_id),
        _ => out.line(format_args!("published {event_type} {event_id} of the user {user}")),
    }
}

async fn local_queue(api: &Url) -> Result<Url, Error> {
    #[derive(Deserialize)]
    struct Ready {
        events_queue_url: Url,
    }
    if !is_loopback(api) {
        return Err(Error::Usage(
            "the events queue is not known: give --queue-url, or save it with `webhooks login`"
                .to_owned(),
        ));
    }
    Ok(read::<Ready>(&api::local(api, Method::GET, "ready").await?)?.events_queue_url)
}

async fn client(queue_url: &Url) -> Client {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    let config = if is_loopback(queue_url) {
        config
            .endpoint_url(queue_url.origin().ascii_serialization())
            .region(Region::from_static(LOCAL_REGION))
            .credentials_provider(Credentials::new("local", "local", None, None, "cargo dev"))
    } else {
        match region(queue_url) {
            Some(region) => config.region(Region::new(region)),
            None => config,
        }
    };
    Client::new(&config.load().await)
}

/// The region of `sqs.REGION.amazonaws.com`.
fn region(queue_url: &Url) -> Option<String> {
    let rest = queue_url.host_str()?.strip_prefix("sqs.")?;
    let (region, domain) = rest.split_once('.')?;
    domain.starts_with("amazonaws.com").then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_is_that_of_the_queue() {
        let region = |url: &str| region(&Url::parse(url).unwrap());
        let url = "https://sqs.eu-central-1.amazonaws.com/123456789012/events";
        assert_eq!(region(url).as_deref(), Some("eu-central-1"));
        assert_eq!(
            region("https://sqs.cn-north-1.amazonaws.com.cn/1/q").as_deref(),
            Some("cn-north-1")
        );
        assert_eq!(region("https://sqs.example.com/1/q"), None);
    }
}
