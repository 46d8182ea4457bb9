//! What comes out of the queues: events of publishers, and tasks.

use serde_json::Value;
use test_support::sample;
use webhooks_core::delivery::{DeliveryTask, NewDelivery};
use webhooks_core::event::{Event, payload};
use webhooks_core::json::Data;
use webhooks_core::limits::{EVENT_DATA_BYTES, OCCURRED_AT_AHEAD_MS, OCCURRED_AT_WINDOW_MS};

use crate::text;

/// The body of a message on the events queue.
pub fn event(input: &[u8]) {
    let Some(body) = text(input) else { return };
    if let Ok(data) = Data::parse(body) {
        check_data(body, &data);
    }
    let sent = sample::start();
    let event = match Event::parse(body, "message-1", sent) {
        Ok(event) => event,
        Err(error) => {
            // It becomes an attribute of the dead-lettered message, which SQS takes only when it is not empty.
            assert!(!error.reason().is_empty() && !error.to_string().is_empty());
            return;
        }
    };
    let age = sent.millis() - event.time.millis();
    let near = -OCCURRED_AT_AHEAD_MS..=OCCURRED_AT_WINDOW_MS;
    assert!(near.contains(&age), "its time is {age} ms before acceptance");
    check_payload(&event);

    // What it becomes is the same event again.
    let again = format!(
        r#"{{"event_type":{},"user_id":{},"event_id":{},"occurred_at":"{}","data":{}}}"#,
        json_string(event.event_type.name()),
        json_string(event.owner.as_str()),
        json_string(event.id.as_str()),
        event.time,
        event.data.as_str(),
    );
    assert_eq!(Event::parse(&again, "message-2", sent).as_ref(), Ok(&event));

    let subscription = sample::subscription_id("u", 1);
    let new = NewDelivery::of_event(&event, &subscription);
    assert_eq!(new.delivery_id.moment(), event.time);
    let other = NewDelivery::of_event(&event, &sample::subscription_id("u", 2));
    check_task(&DeliveryTask::first_attempts(vec![new.clone(), other]));
    check_task(&DeliveryTask::FirstAttempt(new));
}

/// The body of a message on the deliveries queue.
pub fn task(input: &[u8]) {
    let Some(body) = text(input) else { return };
    if let Ok(task) = DeliveryTask::from_json(body) {
        check_task(&task);
    }
}

/// A task survives its message, which is no larger than a message may be.
fn check_task(task: &DeliveryTask) {
    let json = task.to_json().unwrap();
    let ids = 40 * task.clone().split().len();
    assert!(json.len() <= EVENT_DATA_BYTES + 8 * 1024 + ids, "{} bytes", json.len());
    assert_eq!(&DeliveryTask::from_json(&json).unwrap(), task);
}

/// The body that is signed is ASCII, has the four members in their order, and means what the
/// publisher's data mean.
fn check_payload(event: &Event) {
    let body = payload(&event.id, event.event_type, event.time, &event.data);
    assert!(body.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "not printable ASCII");
    let [first, second, third, fourth] =
        [r#"{"event_id":"#, r#","event_type":"#, r#","timestamp":"#, r#","data":{"#]
            .map(|name| body.find(name).unwrap());
    assert!(first == 0 && first < second && second < third && third < fourth);
    // serde_json refuses half a surrogate pair where it has to make text of it.
    if let Ok(read) = serde_json::from_str::<Value>(&body) {
        assert_eq!(read["event_id"], event.id.as_str());
        assert_eq!(read["event_type"], event.event_type.name());
        assert_eq!(read["timestamp"], event.time.to_string());
        let data: Value = serde_json::from_str(event.data.as_str()).unwrap();
        assert_eq!(read["data"], data);
    }
}

fn check_data(given: &str, data: &Data) {
    // A character that a queue refuses is stored as an escape of six bytes.
    assert!(data.as_str().len() <= EVENT_DATA_BYTES.min(6 * given.len()));
    assert_eq!(Data::parse(data.as_str()).as_ref(), Ok(data), "compact is not compact");
    let mut ascii = String::new();
    data.write_ascii(&mut ascii);
    // Escapes are longer, so that the limit of size may be passed; nothing else may change.
    if let Ok(read) = Data::parse(&ascii) {
        let mut again = String::new();
        read.write_ascii(&mut again);
        assert_eq!(again, ascii, "the form that is sent is not final");
    } else {
        assert!(ascii.len() > EVENT_DATA_BYTES, "the form that is sent cannot be read");
    }
}

fn json_string(text: &str) -> String {
    Value::from(text).to_string()
}
