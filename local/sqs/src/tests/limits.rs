use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Client, START_MS, bodies, text};
use crate::Code;
use crate::message::{Message, Place};
use crate::queue::MAX_IN_FLIGHT;
use crate::state::Change;

const MIB: usize = 1_048_576;

fn batch(entries: impl IntoIterator<Item = Value>) -> Value {
    json!({"QueueUrl": "q", "Entries": entries.into_iter().collect::<Vec<_>>()})
}

fn entry(id: &str, body: &str) -> Value {
    json!({"Id": id, "MessageBody": body})
}

#[tokio::test]
async fn message_may_be_one_mebibyte_with_its_attributes() {
    let client = Client::with_queue(&[]);
    let send = |body: usize, attributes: Value| json!({"QueueUrl": "q", "MessageBody": "x".repeat(body), "MessageAttributes": attributes});
    // Name 1, type 6 and value 3 bytes count: é is two bytes, the binary value is three.
    for (attributes, bytes) in [
        (json!({}), 0),
        (json!({"n": {"DataType": "String", "StringValue": "é."}}), 10),
        (json!({"n": {"DataType": "Binary", "BinaryValue": "AAEC"}}), 10),
    ] {
        client.ok("SendMessage", send(MIB - bytes, attributes.clone())).await;
        let large = send(MIB - bytes + 1, attributes);
        assert_eq!(client.error("SendMessage", large).await, Code::InvalidParameterValue);
    }
    client.sqs.ensure_queue("q", &[("MaximumMessageSize", "1024")]).unwrap();
    let entries = [entry("small", &"x".repeat(1_024)), entry("large", &"x".repeat(1_025))];
    let result = client.ok("SendMessageBatch", batch(entries)).await;
    assert_eq!(result["Successful"][0]["Id"], "small");
    assert_eq!(result["Failed"][0]["Id"], "large");
    assert_eq!(result["Failed"][0]["Code"], "InvalidParameterValue");
    assert_eq!(result["Failed"][0]["SenderFault"], true);
}

#[tokio::test]
async fn batch_may_be_one_mebibyte_in_total() {
    let client = Client::with_queue(&[]);
    let half = "x".repeat(MIB / 2);
    client.ok("SendMessageBatch", batch([entry("1", &half), entry("2", &half)])).await;
    let over = batch([entry("1", &half), entry("2", &half), entry("3", "x")]);
    let error = client.call("SendMessageBatch", over).await.unwrap_err();
    assert_eq!(error.code, Code::BatchRequestTooLong);
    assert!(error.message.contains("1048577"), "{error}");
    assert_eq!(client.depth("q"), (2, 0, 0));
}

#[tokio::test]
async fn batch_has_one_to_ten_entries_with_distinct_ids() {
    let client = Client::with_queue(&[]);
    let ids = |ids: &[&str]| batch(ids.iter().map(|id| entry(id, "x")));
    let numbered = |count| batch((0..count).map(|n| entry(&format!("Id_{n}-"), "x")));
    for operation in ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
        let nowhere = json!({"QueueUrl": "nowhere", "Entries": [entry("a", "x")]});
        let cases = [
            (json!({"QueueUrl": "q"}), Code::EmptyBatchRequest),
            (ids(&[]), Code::EmptyBatchRequest),
            (numbered(11), Code::TooManyEntriesInBatchRequest),
            (ids(&["a", "b", "a"]), Code::BatchEntryIdsNotDistinct),
            (ids(&["a", ""]), Code::InvalidBatchEntryId),
            (ids(&["a:b"]), Code::InvalidBatchEntryId),
            (ids(&[&"x".repeat(81)]), Code::InvalidBatchEntryId),
            (batch([json!({"MessageBody": "x"})]), Code::InvalidBatchEntryId),
            (nowhere, Code::QueueDoesNotExist),
        ];
        client.refuses(operation, cases).await;
    }
    let result = client.ok("SendMessageBatch", numbered(10)).await;
    assert_eq!(result["Successful"].as_array().unwrap().len(), 10);
    assert!(result.get("Failed").is_none());
}

#[tokio::test]
async fn invalid_entry_fails_alone() {
    let client = Client::with_queue(&[]);
    let mut late = entry("late", "x");
    late["DelaySeconds"] = json!(901);
    let mut attribute = entry("attribute", "x");
    attribute["MessageAttributes"] = json!({"a": {"DataType": "String"}});
    let entries = [
        entry("1", "g"),
        entry("chars", "\0"),
        late,
        attribute,
        entry("empty", ""),
        entry("2", "f"),
    ];
    let result = client.ok("SendMessageBatch", batch(entries)).await;
    let ids = [&result["Successful"][0]["Id"], &result["Successful"][1]["Id"]];
    assert_eq!(ids, ["1", "2"]);
    let failed = result["Failed"].as_array().unwrap().iter();
    let failed: Vec<_> = failed.map(|entry| (text(entry, "Id"), text(entry, "Code"))).collect();
    let expected = [
        ("chars", "InvalidMessageContents"),
        ("late", "InvalidParameterValue"),
        ("attribute", "InvalidParameterValue"),
        ("empty", "MissingParameter"),
    ];
    assert_eq!(failed, expected);
    assert_eq!(bodies(&client.receive("q").await), ["g", "f"]);
}

#[tokio::test]
async fn receive_parameters_have_limits() {
    let client = Client::with_queue(&[]);
    let bad = [
        ("MaxNumberOfMessages", 0),
        ("MaxNumberOfMessages", 11),
        ("WaitTimeSeconds", -1),
        ("WaitTimeSeconds", 21),
        ("VisibilityTimeout", -1),
        ("VisibilityTimeout", 43_201),
    ];
    let bad = bad.map(|(name, n)| (json!({"QueueUrl": "q", name: n}), Code::InvalidParameterValue));
    client.refuses("ReceiveMessage", bad).await;
    client.send("q", "1").await;
    client.send("q", "2").await;
    let one = client.on_q("ReceiveMessage", json!({})).await;
    assert_eq!(one["Messages"].as_array().unwrap().len(), 1, "the default is one message");
    client.on_q("ReceiveMessage", json!({"VisibilityTimeout": 43_200})).await;
    assert_eq!(client.on_q("ReceiveMessage", json!({})).await, json!({}));
}

#[tokio::test]
async fn messages_in_flight_are_limited() {
    let client = Client::with_queue(&[]);
    {
        let mut state = client.sqs.lock();
        for _ in 1..MAX_IN_FLIGHT {
            let (seq, id) = state.next_id();
            let message = Message {
                seq,
                id,
                body: "x".to_owned(),
                attributes: BTreeMap::new(),
                group: None,
                trace: None,
                sent_at: START_MS,
                first_received_at: None,
                received_at: START_MS,
                receive_count: 1,
                visible_at: START_MS + 30_000,
                place: Place::InFlight,
                source_arn: None,
            };
            state.record(Change::Sent { queue: "q".to_owned(), message }).unwrap();
        }
    }
    client.send("q", "1").await;
    client.send("q", "2").await;
    let messages = client.receive("q").await;
    assert_eq!(bodies(&messages), ["1"]);
    assert_eq!(client.error("ReceiveMessage", json!({"QueueUrl": "q"})).await, Code::OverLimit);
    client.delete(&messages[0]["ReceiptHandle"]).await;
    assert_eq!(bodies(&client.receive("q").await), ["2"]);
}
