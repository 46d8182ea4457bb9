use serde_json::{Value, json};

use super::{Desk, START_MS, bodies};
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
async fn a_message_may_be_one_mebibyte_with_its_attributes() {
    let desk = Desk::with_queue(&[]);
    desk.send("q", &"x".repeat(MIB)).await;
    let code = desk
        .refused("SendMessage", json!({"QueueUrl": "q", "MessageBody": "x".repeat(MIB + 1)}))
        .await;
    assert_eq!(code, Code::InvalidParameterValue);
    // Name 1, type 6 and value 3 bytes count: é is two bytes, the binary value is three.
    let with_attribute = |body: usize, attribute: Value| {
        json!({
            "QueueUrl": "q",
            "MessageBody": "x".repeat(body),
            "MessageAttributes": {"n": attribute},
        })
    };
    let attributes = [
        json!({"DataType": "String", "StringValue": "é."}),
        json!({"DataType": "Binary", "BinaryValue": "AAEC"}),
    ];
    for attribute in attributes {
        desk.ok("SendMessage", with_attribute(MIB - 10, attribute.clone())).await;
        let code = desk.refused("SendMessage", with_attribute(MIB - 9, attribute)).await;
        assert_eq!(code, Code::InvalidParameterValue);
    }
}

#[tokio::test]
async fn a_queue_may_take_less() {
    let desk = Desk::with_queue(&[("MaximumMessageSize", "1024")]);
    desk.send("q", &"x".repeat(1_024)).await;
    let entries = [entry("small", "x"), entry("large", &"x".repeat(1_025))];
    let answer = desk.ok("SendMessageBatch", batch(entries)).await;
    assert_eq!(answer["Successful"][0]["Id"], "small");
    assert_eq!(answer["Failed"][0]["Id"], "large");
    assert_eq!(answer["Failed"][0]["Code"], "InvalidParameterValue");
    assert_eq!(answer["Failed"][0]["SenderFault"], true);
}

#[tokio::test]
async fn a_batch_may_be_one_mebibyte_in_total() {
    let desk = Desk::with_queue(&[]);
    let half = "x".repeat(MIB / 2);
    desk.ok("SendMessageBatch", batch([entry("1", &half), entry("2", &half)])).await;
    let over = batch([entry("1", &half), entry("2", &half), entry("3", "x")]);
    let error = desk.call("SendMessageBatch", over).await.unwrap_err();
    assert_eq!(error.code, Code::BatchRequestTooLong);
    assert!(error.message.contains("1048577"), "{error}");
    assert_eq!(desk.depth("q"), (2, 0, 0));
}

#[tokio::test]
async fn batches_have_ten_entries_with_distinct_ids() {
    let desk = Desk::with_queue(&[]);
    let long = "x".repeat(81);
    for operation in ["SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"] {
        let ids = |ids: &[&str]| batch(ids.iter().map(|id| entry(id, "x")));
        let eleven: Vec<String> = (0..11).map(|n| n.to_string()).collect();
        let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
        let cases = [
            (json!({"QueueUrl": "q"}), Code::EmptyBatchRequest),
            (ids(&[]), Code::EmptyBatchRequest),
            (ids(&eleven), Code::TooManyEntriesInBatchRequest),
            (ids(&["a", "b", "a"]), Code::BatchEntryIdsNotDistinct),
            (ids(&["a", ""]), Code::InvalidBatchEntryId),
            (ids(&["a:b"]), Code::InvalidBatchEntryId),
            (ids(&[&long]), Code::InvalidBatchEntryId),
            (batch([json!({"MessageBody": "x"})]), Code::InvalidBatchEntryId),
        ];
        for (request, code) in cases {
            assert_eq!(desk.refused(operation, request.clone()).await, code, "{request}");
        }
        let nowhere = json!({"QueueUrl": "nowhere", "Entries": [entry("a", "x")]});
        assert_eq!(desk.refused(operation, nowhere).await, Code::QueueDoesNotExist);
    }
    let ten: Vec<Value> = (0..10).map(|n| entry(&format!("Id_{n}-"), "x")).collect();
    let answer = desk.ok("SendMessageBatch", batch(ten)).await;
    assert_eq!(answer["Successful"].as_array().unwrap().len(), 10);
    assert!(answer.get("Failed").is_none());
}

#[tokio::test]
async fn a_bad_entry_fails_by_itself() {
    let desk = Desk::with_queue(&[]);
    let mut late = entry("late", "x");
    late["DelaySeconds"] = json!(901);
    let mut attribute = entry("attribute", "x");
    attribute["MessageAttributes"] = json!({"a": {"DataType": "String"}});
    let entries = [
        entry("good", "g"),
        entry("chars", "\u{0}"),
        late,
        attribute,
        entry("empty", ""),
        entry("fine", "f"),
    ];
    let answer = desk.ok("SendMessageBatch", batch(entries)).await;
    let list = |name: &str, field: &str| -> Vec<Value> {
        answer[name].as_array().unwrap().iter().map(|entry| entry[field].clone()).collect()
    };
    assert_eq!(list("Successful", "Id"), ["good", "fine"]);
    assert_eq!(list("Failed", "Id"), ["chars", "late", "attribute", "empty"]);
    assert_eq!(
        list("Failed", "Code"),
        [
            "InvalidMessageContents",
            "InvalidParameterValue",
            "InvalidParameterValue",
            "MissingParameter"
        ]
    );
    assert_eq!(bodies(&desk.receive("q").await), ["g", "f"]);
}

#[tokio::test]
async fn the_parameters_of_a_receive_have_limits() {
    let desk = Desk::with_queue(&[]);
    let bad = [
        ("MaxNumberOfMessages", 0),
        ("MaxNumberOfMessages", 11),
        ("WaitTimeSeconds", -1),
        ("WaitTimeSeconds", 21),
        ("VisibilityTimeout", -1),
        ("VisibilityTimeout", 43_201),
    ];
    for (name, value) in bad {
        let request = json!({"QueueUrl": "q", name: value});
        let code = desk.refused("ReceiveMessage", request).await;
        assert_eq!(code, Code::InvalidParameterValue, "{name}={value}");
    }
    desk.send("q", "1").await;
    desk.send("q", "2").await;
    // One message unless told otherwise.
    let one = desk.ok("ReceiveMessage", json!({"QueueUrl": "q"})).await;
    assert_eq!(one["Messages"].as_array().unwrap().len(), 1);
    let longest = json!({"QueueUrl": "q", "VisibilityTimeout": 43_200});
    desk.ok("ReceiveMessage", longest).await;
    assert_eq!(desk.ok("ReceiveMessage", json!({"QueueUrl": "q"})).await, json!({}));
}

#[tokio::test]
async fn only_so_many_messages_may_be_in_flight() {
    let desk = Desk::with_queue(&[]);
    {
        let mut state = desk.sqs.lock();
        for _ in 1..MAX_IN_FLIGHT {
            let (seq, id) = state.next_id();
            let message = Message {
                seq,
                id,
                body: "x".to_owned(),
                attributes: std::collections::BTreeMap::new(),
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
    desk.send("q", "1").await;
    desk.send("q", "2").await;
    let messages = desk.receive("q").await;
    assert_eq!(bodies(&messages), ["1"]);
    let receive = json!({"QueueUrl": "q"});
    assert_eq!(desk.refused("ReceiveMessage", receive.clone()).await, Code::OverLimit);
    let handle = &messages[0]["ReceiptHandle"];
    desk.ok("DeleteMessage", json!({"QueueUrl": "q", "ReceiptHandle": handle})).await;
    assert_eq!(bodies(&desk.receive("q").await), ["2"]);
}
