//! The operator's event bus on Amazon EventBridge.

use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_smithy_types::DateTime;
use webhooks_core::operational::OperationalEvent;
use webhooks_core::ports::{EventBus, EventBusError};

/// The `source` of every event.
const SOURCE: &str = "webhooks";

/// A bus of EventBridge.
#[derive(Clone, Debug)]
pub struct EventBridgeBus {
    client: Client,
    name: String,
}

impl EventBridgeBus {
    /// The bus of this name.
    pub fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    fn entry(&self, event: &OperationalEvent) -> PutEventsRequestEntry {
        PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(event.event.event_type.name())
            .time(DateTime::from_millis(event.event.time.millis()))
            .detail(event.detail())
            .build()
    }
}

#[async_trait]
impl EventBus for EventBridgeBus {
    async fn put(&self, events: &[OperationalEvent]) -> Result<usize, EventBusError> {
        let entries = events.iter().map(|event| self.entry(event)).collect();
        let request = self.client.put_events().set_entries(Some(entries));
        let response = request.send().await.map_err(|error| EventBusError(error.into()))?;
        for refused in response.entries().iter().filter(|entry| entry.error_code().is_some()) {
            tracing::warn!(
                eventbridge.code = refused.error_code(),
                eventbridge.message = refused.error_message(),
                "an event was not taken by the event bus"
            );
        }
        Ok(usize::try_from(response.failed_entry_count()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::http::HeaderMap;
    use serde_json::{Value, json};
    use test_support::sample;
    use webhooks_core::subscription::DisabledReason;

    use super::*;
    use crate::clients;

    /// A bus that responds with `response`, and the requests that it got.
    async fn bus(response: Value) -> (EventBridgeBus, Arc<Mutex<Vec<(String, Value)>>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let app = Router::new().fallback(async move |headers: HeaderMap, body: String| {
            let operation = headers["x-amz-target"].to_str().unwrap().to_owned();
            seen.lock().unwrap().push((operation, serde_json::from_str(&body).unwrap()));
            response.to_string()
        });
        tokio::spawn(axum::serve(listener, app).into_future());
        (
            EventBridgeBus::new(clients::eventbridge(&clients::local(&url)), "ops".to_owned()),
            requests,
        )
    }

    fn disabled() -> OperationalEvent {
        let webhook = sample::subscription("u", 1);
        let (reason, health) = (DisabledReason::EndpointGone, webhook.health);
        OperationalEvent::disabled(&webhook, reason, &health, sample::at(7))
    }

    #[tokio::test]
    async fn event_is_put_with_source_type_time_and_detail() {
        let (bus, requests) =
            bus(json!({"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]})).await;
        let event = disabled();
        assert_eq!(bus.put(std::slice::from_ref(&event)).await.unwrap(), 0);
        let (operation, body) = requests.lock().unwrap().remove(0);
        assert_eq!(operation, "AWSEvents.PutEvents");
        let entry = &body["Entries"][0];
        assert_eq!(entry["EventBusName"], "ops");
        assert_eq!(
            (&entry["Source"], &entry["DetailType"]),
            (&json!("webhooks"), &json!("webhook.disabled"))
        );
        assert_eq!(entry["Time"], sample::at(7).seconds());
        let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
        assert_eq!(detail["event_id"], event.event.id.as_str());
        assert_eq!(
            (&detail["user_id"], &detail["event_type"]),
            (&json!("u"), &json!("webhook.disabled"))
        );
        assert_eq!(detail["timestamp"], sample::at(7).to_string());
        assert_eq!(detail["data"]["reason"], "endpoint_gone");
    }

    #[tokio::test]
    async fn refused_events_are_counted() {
        let refused = json!({"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"});
        let (bus, _) =
            bus(json!({"FailedEntryCount": 1, "Entries": [refused, {"EventId": "2"}]})).await;
        assert_eq!(bus.put(&[disabled(), disabled()]).await.unwrap(), 1);
    }
}
