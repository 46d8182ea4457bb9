use serde_json::{Map, Value, json};

use super::{Client, bodies, text};
use crate::Code;

fn string(value: &str) -> Value {
    json!({"DataType": "String", "StringValue": value})
}

/// Attributes whose digests SQS itself returned (recordings of LocalStack).
fn recorded_attributes() -> Value {
    json!({"Help.Me": string("Me"), "Hello": string("There"), "General": string("Kenobi")})
}

const RECORDED_MD5: &str = "4c360f3fdafd970e05fae2f149d997f5";

#[tokio::test]
async fn received_message_has_the_digests_of_the_sent_message() {
    let client = Client::with_queue(&[]);
    let binary = "dHJhY2VwYXJlbnQeMDAtNzc0MDYyZDZjMzcwODFhNWEwYjliNWI4OGUzMDYyN2MtMmQyNDgyMjExZjY0ODlkYS0wMQ==";
    let binary = json!({"attr1": {"DataType": "Binary", "BinaryValue": binary}});
    for (attributes, md5) in
        [(recorded_attributes(), RECORDED_MD5), (binary, "8cbe4db156db8a94db8b801b7addb984")]
    {
        let send = json!({"MessageBody": "msg", "MessageAttributes": attributes});
        let sent = client.on_q("SendMessage", send).await;
        assert_eq!(text(&sent, "MD5OfMessageBody"), "6e2baaf3b97dbeef01c0043275f9a0e7");
        assert_eq!(text(&sent, "MD5OfMessageAttributes"), md5);
        let received = client.receive("q").await.remove(0);
        assert_eq!(received["MessageId"], sent["MessageId"]);
        assert_eq!(received["MD5OfBody"], sent["MD5OfMessageBody"]);
        assert_eq!(received["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
        assert_eq!(received["MessageAttributes"], attributes);
    }
}

#[tokio::test]
async fn attributes_are_filtered_by_name_and_prefix() {
    let client = Client::with_queue(&[("VisibilityTimeout", "0")]);
    let send = json!({"MessageBody": "msg", "MessageAttributes": recorded_attributes()});
    client.on_q("SendMessage", send).await;
    let cases: [(&[&str], Option<&str>); 7] = [
        (&[], None),
        (&["foo"], None),
        (&["All"], Some(RECORDED_MD5)),
        (&[".*"], Some(RECORDED_MD5)),
        (&["General", "Hello"], Some("fca026605781cb4126a1e9044df24232")),
        (&["Hello", "foo"], Some("a311262e065454b75da111d535b8dacd")),
        (&["Hel.*"], Some("83fee93c1bcd8b9a5a923ffacdc636c7")),
    ];
    for (names, md5) in cases {
        let received = client.on_q("ReceiveMessage", json!({"MessageAttributeNames": names})).await;
        let message = &received["Messages"][0];
        assert_eq!(message["MD5OfMessageAttributes"].as_str(), md5, "{names:?}");
        assert_eq!(message.get("MessageAttributes").is_some(), md5.is_some(), "{names:?}");
        assert!(message.get("Attributes").is_none());
    }
}

#[tokio::test]
async fn requested_system_attributes_are_returned() {
    let client = Client::with_queue(&[]);
    let send = json!({
        "MessageBody": "x",
        "MessageGroupId": "tenant-1",
        "MessageSystemAttributes": {"AWSTraceHeader": string("Root=1")},
    });
    let sent = client.on_q("SendMessage", send).await;
    assert!(sent.get("MD5OfMessageSystemAttributes").is_some());
    client.advance(2);
    let received = client.receive_hiding("q", Some(1)).await;
    assert_eq!(
        received[0]["Attributes"],
        json!({
            "AWSTraceHeader": "Root=1",
            "ApproximateFirstReceiveTimestamp": "1700000002000",
            "ApproximateReceiveCount": "1",
            "MessageGroupId": "tenant-1",
            "SenderId": "000000000000",
            "SentTimestamp": "1700000000000",
        })
    );
    client.advance(1);
    // A second receive, with the older parameter name besides.
    let request = json!({
        "AttributeNames": ["ApproximateReceiveCount"],
        "MessageSystemAttributeNames": ["ApproximateFirstReceiveTimestamp", "SequenceNumber"],
    });
    let received = client.on_q("ReceiveMessage", request).await;
    let expected = json!({
        "ApproximateFirstReceiveTimestamp": "1700000002000",
        "ApproximateReceiveCount": "2",
    });
    assert_eq!(received["Messages"][0]["Attributes"], expected);
    let unknown = json!({"QueueUrl": "q", "AttributeNames": ["Colour"]});
    assert_eq!(client.error("ReceiveMessage", unknown).await, Code::InvalidAttributeName);
}

#[tokio::test]
async fn message_attributes_are_validated() {
    let client = Client::with_queue(&[]);
    let send = |name: &str, attribute: Value| json!({"QueueUrl": "q", "MessageBody": "x", "MessageAttributes": {name: attribute}});
    let typed = |kind: &str, field: &str, value: &str| json!({"DataType": kind, field: value});
    let good = [
        ("a-b_c.D9", string("x")),
        ("n", typed("Number.int", "StringValue", "-1.5e3")),
        ("b", typed("Binary.png", "BinaryValue", "AAEC")),
        ("s", typed("String.json", "StringValue", "{}")),
    ];
    for (name, attribute) in good {
        client.ok("SendMessage", send(name, attribute)).await;
    }
    let long = "x".repeat(257);
    let bad_names = ["", "a b", "AWS.x", "amazon.x", ".x", "x.", "x..y", &long];
    let bad_names = bad_names.map(|name| (send(name, string("x")), Code::InvalidParameterValue));
    client.refuses("SendMessage", bad_names).await;
    let bad = [
        string(""),
        string("\u{1}"),
        json!({"StringValue": "x"}),
        typed("Text", "StringValue", "x"),
        typed(&long, "StringValue", "x"),
        typed("Number", "StringValue", "one"),
        typed("Number", "StringValue", "inf"),
        typed("Binary", "StringValue", "x"),
        typed("Binary", "BinaryValue", "?"),
    ];
    let bad = bad.map(|attribute| (send("x", attribute), Code::InvalidParameterValue));
    client.refuses("SendMessage", bad).await;
    for (count, fine) in [(10, true), (11, false)] {
        let many: Map<String, Value> = (0..count).map(|n| (format!("a{n}"), string("x"))).collect();
        let send = json!({"QueueUrl": "q", "MessageBody": "x", "MessageAttributes": many});
        assert_eq!(client.call("SendMessage", send).await.is_ok(), fine);
    }
    let system = |attributes: Value| json!({"QueueUrl": "q", "MessageBody": "x", "MessageSystemAttributes": attributes});
    let bad = [
        json!({"Other": string("x")}),
        json!({"AWSTraceHeader": typed("Number", "StringValue", "1")}),
    ];
    let bad = bad.map(|attributes| (system(attributes), Code::InvalidParameterValue));
    client.refuses("SendMessage", bad).await;
}

#[tokio::test]
async fn bodies_delays_and_group_ids_are_validated() {
    let client = Client::with_queue(&[]);
    for good in ["\t\n\r \u{20}", "\u{D7FF}\u{E000}\u{FFFD}", "\u{10000}\u{10FFFF}", "é😀"] {
        client.send("q", good).await;
    }
    let body = |body: &str| json!({"QueueUrl": "q", "MessageBody": body});
    let bad = ["a\0", "\u{1F}", "\u{FFFE}", "\u{FFFF}"];
    let bad = bad.map(|text| (body(text), Code::InvalidMessageContents));
    client.refuses("SendMessage", bad).await;
    let missing = [json!({"QueueUrl": "q"}), body("")].map(|send| (send, Code::MissingParameter));
    client.refuses("SendMessage", missing).await;
    let with = |name: &str, value: Value| {
        let mut send = body("x");
        send[name] = value;
        (send, Code::InvalidParameterValue)
    };
    let bad = [
        with("MessageGroupId", json!("")),
        with("MessageGroupId", json!("a b")),
        with("MessageGroupId", json!("g".repeat(129))),
        with("MessageDeduplicationId", json!("d")),
        with("DelaySeconds", json!(-1)),
        with("DelaySeconds", json!(901)),
    ];
    client.refuses("SendMessage", bad).await;
    client.ok("SendMessage", with("DelaySeconds", json!(900)).0).await;
}

#[tokio::test]
async fn delay_hides_a_message_for_its_time() {
    let client = Client::with_queue(&[("DelaySeconds", "10")]);
    client.send("q", "of the queue").await;
    client.on_q("SendMessage", json!({"MessageBody": "its own", "DelaySeconds": 5})).await;
    client.on_q("SendMessage", json!({"MessageBody": "none", "DelaySeconds": 0})).await;
    assert_eq!(client.attribute("q", "ApproximateNumberOfMessages").await, "1");
    assert_eq!(client.attribute("q", "ApproximateNumberOfMessagesDelayed").await, "2");
    assert_eq!(client.attribute("q", "ApproximateNumberOfMessagesNotVisible").await, "0");
    assert_eq!(bodies(&client.receive("q").await), ["none"]);
    client.advance(5);
    assert_eq!(bodies(&client.receive("q").await), ["its own"]);
    client.advance(4);
    assert!(client.receive("q").await.is_empty());
    client.advance(1);
    assert_eq!(bodies(&client.receive("q").await), ["of the queue"]);
}

#[tokio::test]
async fn message_is_deleted_at_the_end_of_the_retention_period() {
    let client = Client::with_queue(&[("MessageRetentionPeriod", "60")]);
    client.send("q", "in flight").await;
    client.receive_hiding("q", Some(600)).await;
    client.advance(30);
    client.send("q", "visible").await;
    client.advance(59);
    assert_eq!(client.depth("q"), (1, 0, 0));
    client.advance(1);
    assert_eq!(client.depth("q"), (0, 0, 0));
    // A change of the period applies to messages that are already there.
    client.sqs.ensure_queue("q", &[("MessageRetentionPeriod", "1209600")]).unwrap();
    client.send("q", "x").await;
    client.advance(120);
    assert_eq!(client.depth("q"), (1, 0, 0));
    client.sqs.ensure_queue("q", &[("MessageRetentionPeriod", "60")]).unwrap();
    assert_eq!(client.depth("q"), (0, 0, 0));
}

#[tokio::test]
async fn messages_are_received_in_order_of_visibility() {
    let client = Client::with_queue(&[]);
    for body in ["1", "2", "3"] {
        client.send("q", body).await;
    }
    let first = client.on_q("ReceiveMessage", json!({"VisibilityTimeout": 1})).await;
    assert_eq!(first["Messages"][0]["Body"], "1");
    client.advance(1);
    assert_eq!(bodies(&client.receive("q").await), ["2", "3", "1"]);
}

#[tokio::test]
async fn ids_and_handles_of_two_runs_differ() {
    let (one, two) = (Client::with_queue(&[]), Client::with_queue(&[]));
    let (a, b) = (one.send("q", "x").await, two.send("q", "x").await);
    assert_ne!(a["MessageId"], b["MessageId"]);
    assert_eq!(text(&a, "MessageId").len(), 36);
    let handle = one.handle().await;
    two.receive("q").await;
    two.delete(&handle).await;
    assert_eq!(two.depth("q"), (0, 1, 0));
}
