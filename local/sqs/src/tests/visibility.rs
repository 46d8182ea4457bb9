use serde_json::{Value, json};

use super::{Client, bodies, text};
use crate::Code;

fn change(handle: &Value, seconds: i64) -> Value {
    json!({"QueueUrl": "q", "ReceiptHandle": handle, "VisibilityTimeout": seconds})
}

#[tokio::test]
async fn received_message_is_hidden_for_the_visibility_timeout() {
    let client = Client::with_queue(&[("VisibilityTimeout", "10")]);
    client.send("q", "x").await;
    client.receive("q").await;
    assert_eq!(client.attribute("q", "ApproximateNumberOfMessagesNotVisible").await, "1");
    client.advance(9);
    assert!(client.receive("q").await.is_empty());
    client.advance(1);
    // The timeout of the receive overrides that of the queue.
    assert_eq!(bodies(&client.receive_hiding("q", Some(20)).await), ["x"]);
    client.advance(19);
    assert!(client.receive("q").await.is_empty());
    client.advance(1);
    let again = client.receive_hiding("q", Some(0)).await;
    assert_eq!(text(&again[0]["Attributes"], "ApproximateReceiveCount"), "3");
    assert_eq!(bodies(&client.receive("q").await), ["x"]);
}

#[tokio::test]
async fn visibility_can_be_lengthened_and_shortened() {
    let client = Client::with_queue(&[]);
    client.send("q", "x").await;
    let handle = client.handle().await;
    client.advance(20);
    client.change_visibility(&handle, 60).await;
    client.advance(59);
    assert!(client.receive("q").await.is_empty());
    client.change_visibility(&handle, 0).await;
    assert_eq!(bodies(&client.receive("q").await), ["x"]);
}

#[tokio::test]
async fn one_receive_hides_a_message_for_less_than_twelve_hours() {
    let client = Client::with_queue(&[]);
    client.send("q", "x").await;
    let handle = client.handle().await;
    let bad = [-1, 43_200, 43_201].map(|n| (change(&handle, n), Code::InvalidParameterValue));
    client.refuses("ChangeMessageVisibility", bad).await;
    client.change_visibility(&handle, 43_199).await;
    client.advance(43_000);
    let error = client.call("ChangeMessageVisibility", change(&handle, 200)).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidParameterValue);
    assert!(error.message.contains("beyond the limit [43200 seconds]"), "{error}");
    client.change_visibility(&handle, 199).await;
    client.advance(199);
    // The next receive starts the count again.
    let handle = client.handle().await;
    client.change_visibility(&handle, 43_199).await;
}

#[tokio::test]
async fn older_handle_does_not_change_the_visibility() {
    let client = Client::with_queue(&[]);
    client.send("q", "x").await;
    let old = client.handle().await;
    client.advance(30);
    client.refuses("ChangeMessageVisibility", [(change(&old, 5), Code::MessageNotInflight)]).await;
    let new = client.handle().await;
    let incomplete = json!({"QueueUrl": "q", "ReceiptHandle": new});
    let cases =
        [(change(&old, 5), Code::InvalidParameterValue), (incomplete, Code::MissingParameter)];
    client.refuses("ChangeMessageVisibility", cases).await;
    client.delete(&new).await;
    let deleted = [(change(&new, 5), Code::InvalidParameterValue)];
    client.refuses("ChangeMessageVisibility", deleted).await;
}

#[tokio::test]
async fn older_handle_does_not_delete() {
    let client = Client::with_queue(&[]);
    client.send("q", "x").await;
    let old = client.handle().await;
    client.advance(30);
    let new = client.handle().await;
    client.delete(&old).await;
    assert_eq!(client.depth("q"), (0, 1, 0));
    // The latest handle also works after its timeout, until the message is received again.
    client.advance(30);
    assert_eq!(client.depth("q"), (1, 0, 0));
    client.delete(&new).await;
    assert_eq!(client.depth("q"), (0, 0, 0));
    client.delete(&new).await;
}

#[tokio::test]
async fn invalid_handle_is_refused() {
    let client = Client::with_queue(&[]);
    client.sqs.ensure_queue("other", &[]).unwrap();
    client.send("other", "x").await;
    let foreign = client.receive("other").await[0]["ReceiptHandle"].clone();
    for operation in ["DeleteMessage", "ChangeMessageVisibility"] {
        let bad = [json!("nonsense"), json!("bm9uc2Vuc2U"), json!(""), foreign.clone()];
        let bad = bad.map(|handle| (change(&handle, 1), Code::ReceiptHandleIsInvalid));
        client.refuses(operation, bad).await;
        client.refuses(operation, [(json!({"QueueUrl": "q"}), Code::MissingParameter)]).await;
    }
}

#[tokio::test]
async fn invalid_entries_of_a_batch_fail_alone() {
    let client = Client::with_queue(&[]);
    for body in ["1", "2", "3"] {
        client.send("q", body).await;
    }
    let messages = client.receive("q").await;
    let [a, b, c] = [0, 1, 2].map(|n| messages[n]["ReceiptHandle"].clone());
    let bad = json!("bad");
    let entries = |entries: &[(&str, &Value, i64)]| {
        let entry = |(id, handle, seconds): &(&str, &Value, i64)| json!({"Id": id, "ReceiptHandle": handle, "VisibilityTimeout": seconds});
        json!({"Entries": entries.iter().map(entry).collect::<Vec<_>>()})
    };
    let request = entries(&[("a", &a, 0), ("bad", &bad, 0), ("b", &b, 43_200), ("c", &c, 100)]);
    let result = client.on_q("ChangeMessageVisibilityBatch", request).await;
    assert_eq!(result["Successful"], json!([{"Id": "a"}, {"Id": "c"}]));
    assert_eq!(result["Failed"][0]["Code"], "ReceiptHandleIsInvalid");
    assert_eq!(result["Failed"][1]["Code"], "InvalidParameterValue");
    assert_eq!(client.depth("q"), (1, 2, 0));

    let request = entries(&[("a", &a, 0), ("bad", &bad, 0), ("b", &b, 0)]);
    let result = client.on_q("DeleteMessageBatch", request).await;
    assert_eq!(result["Successful"], json!([{"Id": "a"}, {"Id": "b"}]));
    let failed = &result["Failed"][0];
    assert_eq!((&failed["Id"], &failed["Code"]), (&bad, &json!("ReceiptHandleIsInvalid")));
    assert_eq!(failed["SenderFault"], true);
    assert_eq!(client.depth("q"), (0, 1, 0));
    client.on_q("ChangeMessageVisibilityBatch", entries(&[("c", &c, 0)])).await;
    let result = client.on_q("ChangeMessageVisibilityBatch", entries(&[("c", &c, 0)])).await;
    assert_eq!(result["Failed"][0]["Code"], "MessageNotInflight");
}

#[tokio::test]
async fn release_shows_received_messages_and_not_waiting_retries() {
    let client = Client::with_queue(&[("VisibilityTimeout", "100")]);
    client.send("q", "held").await;
    client.receive("q").await;
    client.send("q", "retry").await;
    let retry = client.handle().await;
    client.send("q", "visible").await;
    client.change_visibility(&retry, 50).await;
    client.advance(1);
    assert_eq!(client.sqs.release("q").unwrap(), 1);
    assert_eq!(bodies(&client.receive("q").await), ["visible", "held"]);
    client.advance(48);
    assert!(client.receive("q").await.is_empty());
    client.advance(1);
    assert_eq!(bodies(&client.receive("q").await), ["retry"]);
}
