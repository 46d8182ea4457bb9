use serde_json::{Value, json};

use super::{Desk, bodies, text};
use crate::Code;

fn change(handle: &Value, seconds: i64) -> Value {
    json!({"QueueUrl": "q", "ReceiptHandle": handle, "VisibilityTimeout": seconds})
}

fn delete(handle: &Value) -> Value {
    json!({"QueueUrl": "q", "ReceiptHandle": handle})
}

async fn handle(desk: &Desk) -> Value {
    desk.receive("q").await[0]["ReceiptHandle"].clone()
}

#[tokio::test]
async fn a_received_message_hides_for_the_visibility_timeout() {
    let desk = Desk::with_queue(&[("VisibilityTimeout", "10")]);
    desk.send("q", "x").await;
    desk.receive("q").await;
    assert_eq!(desk.attribute("q", "ApproximateNumberOfMessagesNotVisible").await, "1");
    desk.seconds_pass(9);
    assert!(desk.receive("q").await.is_empty());
    desk.seconds_pass(1);
    // The receive's own timeout goes before the queue's.
    assert_eq!(bodies(&desk.receive_hiding("q", Some(20)).await), ["x"]);
    desk.seconds_pass(19);
    assert!(desk.receive("q").await.is_empty());
    desk.seconds_pass(1);
    let again = desk.receive_hiding("q", Some(0)).await;
    assert_eq!(text(&again[0]["Attributes"], "ApproximateReceiveCount"), "3");
    // Hidden for no time at all.
    assert_eq!(bodies(&desk.receive("q").await), ["x"]);
}

#[tokio::test]
async fn visibility_can_be_changed_in_both_directions() {
    let desk = Desk::with_queue(&[]);
    desk.send("q", "x").await;
    let first = handle(&desk).await;
    desk.seconds_pass(20);
    desk.ok("ChangeMessageVisibility", change(&first, 60)).await;
    desk.seconds_pass(59);
    assert!(desk.receive("q").await.is_empty());
    desk.ok("ChangeMessageVisibility", change(&first, 0)).await;
    assert_eq!(bodies(&desk.receive("q").await), ["x"]);
}

#[tokio::test]
async fn one_receive_hides_a_message_for_less_than_twelve_hours() {
    let desk = Desk::with_queue(&[]);
    desk.send("q", "x").await;
    let handle = handle(&desk).await;
    for bad in [-1, 43_200, 43_201] {
        let code = desk.refused("ChangeMessageVisibility", change(&handle, bad)).await;
        assert_eq!(code, Code::InvalidParameterValue, "{bad}");
    }
    desk.ok("ChangeMessageVisibility", change(&handle, 43_199)).await;
    desk.seconds_pass(43_000);
    let error = desk.call("ChangeMessageVisibility", change(&handle, 200)).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidParameterValue);
    assert!(error.message.contains("beyond the limit [43200 seconds]"), "{error}");
    desk.ok("ChangeMessageVisibility", change(&handle, 199)).await;
    desk.seconds_pass(199);
    // The next receive starts the count again.
    let handle = self::handle(&desk).await;
    desk.ok("ChangeMessageVisibility", change(&handle, 43_199)).await;
}

#[tokio::test]
async fn visibility_needs_a_message_in_flight_and_its_latest_handle() {
    let desk = Desk::with_queue(&[]);
    desk.send("q", "x").await;
    let old = handle(&desk).await;
    desk.seconds_pass(30);
    let code = desk.refused("ChangeMessageVisibility", change(&old, 5)).await;
    assert_eq!(code, Code::MessageNotInflight);
    let new = handle(&desk).await;
    let code = desk.refused("ChangeMessageVisibility", change(&old, 5)).await;
    assert_eq!(code, Code::InvalidParameterValue);
    desk.ok("DeleteMessage", delete(&new)).await;
    let code = desk.refused("ChangeMessageVisibility", change(&new, 5)).await;
    assert_eq!(code, Code::InvalidParameterValue);
    let incomplete = json!({"QueueUrl": "q", "ReceiptHandle": new});
    assert_eq!(desk.refused("ChangeMessageVisibility", incomplete).await, Code::MissingParameter);
}

#[tokio::test]
async fn the_latest_handle_deletes_and_an_older_one_does_nothing() {
    let desk = Desk::with_queue(&[]);
    desk.send("q", "x").await;
    let old = handle(&desk).await;
    desk.seconds_pass(30);
    let new = handle(&desk).await;
    desk.ok("DeleteMessage", delete(&old)).await;
    assert_eq!(desk.depth("q"), (0, 1, 0));
    // Also after its timeout, as long as nobody received it again.
    desk.seconds_pass(30);
    assert_eq!(desk.depth("q"), (1, 0, 0));
    desk.ok("DeleteMessage", delete(&new)).await;
    assert_eq!(desk.depth("q"), (0, 0, 0));
    desk.ok("DeleteMessage", delete(&new)).await;
}

#[tokio::test]
async fn a_bad_handle_is_refused() {
    let desk = Desk::with_queue(&[]);
    desk.sqs.ensure_queue("other", &[]).unwrap();
    desk.send("other", "x").await;
    let foreign = desk.receive("other").await[0]["ReceiptHandle"].clone();
    for bad in [json!("nonsense"), json!("bm9uc2Vuc2U"), json!(""), foreign] {
        for operation in ["DeleteMessage", "ChangeMessageVisibility"] {
            let code = desk.refused(operation, change(&bad, 1)).await;
            assert_eq!(code, Code::ReceiptHandleIsInvalid, "{bad}");
        }
    }
    let code = desk.refused("DeleteMessage", json!({"QueueUrl": "q"})).await;
    assert_eq!(code, Code::MissingParameter);
}

#[tokio::test]
async fn in_a_batch_a_bad_handle_fails_its_entry_only() {
    let desk = Desk::with_queue(&[]);
    for body in ["1", "2", "3"] {
        desk.send("q", body).await;
    }
    let messages = desk.receive("q").await;
    let entry = |id: &str, handle: &Value, seconds: i64| json!({"Id": id, "ReceiptHandle": handle, "VisibilityTimeout": seconds});
    let handles: Vec<&Value> = messages.iter().map(|message| &message["ReceiptHandle"]).collect();
    let bad = json!("bad");
    let request = json!({"QueueUrl": "q", "Entries": [
        entry("a", handles[0], 0),
        entry("b", &bad, 0),
        entry("c", handles[1], 43_200),
        entry("d", handles[2], 100),
    ]});
    let answer = desk.ok("ChangeMessageVisibilityBatch", request).await;
    assert_eq!(answer["Successful"], json!([{"Id": "a"}, {"Id": "d"}]));
    assert_eq!(answer["Failed"][0]["Code"], "ReceiptHandleIsInvalid");
    assert_eq!(answer["Failed"][1]["Code"], "InvalidParameterValue");
    assert_eq!(desk.depth("q"), (1, 2, 0));

    let entries = [entry("a", handles[0], 0), entry("b", &bad, 0), entry("c", handles[1], 0)];
    let answer = desk.ok("DeleteMessageBatch", json!({"QueueUrl": "q", "Entries": entries})).await;
    assert_eq!(answer["Successful"], json!([{"Id": "a"}, {"Id": "c"}]));
    assert_eq!(answer["Failed"][0]["Id"], "b");
    assert_eq!(answer["Failed"][0]["Code"], "ReceiptHandleIsInvalid");
    assert_eq!(answer["Failed"][0]["SenderFault"], true);
    assert_eq!(desk.depth("q"), (0, 1, 0));
    let not_in_flight = json!({"QueueUrl": "q", "Entries": [entry("d", handles[2], 0)]});
    desk.ok("ChangeMessageVisibilityBatch", not_in_flight.clone()).await;
    let answer = desk.ok("ChangeMessageVisibilityBatch", not_in_flight).await;
    assert_eq!(answer["Failed"][0]["Code"], "MessageNotInflight");
}

#[tokio::test]
async fn what_a_lost_consumer_held_is_released_but_not_what_was_hidden_on_purpose() {
    let desk = Desk::with_queue(&[("VisibilityTimeout", "100")]);
    desk.send("q", "held").await;
    desk.receive("q").await;
    desk.send("q", "hidden").await;
    let hidden = handle(&desk).await;
    desk.send("q", "waiting").await;
    desk.ok("ChangeMessageVisibility", change(&hidden, 50)).await;
    desk.seconds_pass(1);
    assert_eq!(desk.sqs.release("q").unwrap(), 1);
    assert_eq!(bodies(&desk.receive("q").await), ["waiting", "held"]);
    desk.seconds_pass(48);
    assert!(desk.receive("q").await.is_empty());
    desk.seconds_pass(1);
    assert_eq!(bodies(&desk.receive("q").await), ["hidden"]);
}
