use serde_json::{Value, json};

use super::{Desk, bodies, text};
use crate::Code;

#[tokio::test]
async fn a_message_comes_back_with_its_digests() {
    let desk = Desk::with_queue(&[]);
    // Body and attributes with digests that SQS itself returned (LocalStack's recordings).
    let attributes = json!({
        "Help.Me": {"DataType": "String", "StringValue": "Me"},
        "Hello": {"DataType": "String", "StringValue": "There"},
        "General": {"DataType": "String", "StringValue": "Kenobi"},
    });
    let send = json!({"QueueUrl": "q", "MessageBody": "msg", "MessageAttributes": attributes});
    let sent = desk.ok("SendMessage", send).await;
    assert_eq!(text(&sent, "MD5OfMessageBody"), "6e2baaf3b97dbeef01c0043275f9a0e7");
    assert_eq!(text(&sent, "MD5OfMessageAttributes"), "4c360f3fdafd970e05fae2f149d997f5");
    let received = desk.receive("q").await.remove(0);
    assert_eq!(received["MessageId"], sent["MessageId"]);
    assert_eq!(received["MD5OfBody"], sent["MD5OfMessageBody"]);
    assert_eq!(received["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"]);
    assert_eq!(received["MessageAttributes"], attributes);
}

#[tokio::test]
async fn binary_attributes_have_the_right_digest() {
    let desk = Desk::with_queue(&[]);
    let value = "dHJhY2VwYXJlbnQeMDAtNzc0MDYyZDZjMzcwODFhNWEwYjliNWI4OGUzMDYyN2MtMmQyNDgyMjExZjY0ODlkYS0wMQ==";
    let attributes = json!({"attr1": {"DataType": "Binary", "BinaryValue": value}});
    let send = json!({"QueueUrl": "q", "MessageBody": "test", "MessageAttributes": attributes});
    let sent = desk.ok("SendMessage", send).await;
    assert_eq!(text(&sent, "MD5OfMessageAttributes"), "8cbe4db156db8a94db8b801b7addb984");
    assert_eq!(desk.receive("q").await[0]["MessageAttributes"], attributes);
}

#[tokio::test]
async fn attributes_are_filtered_by_name_and_prefix() {
    let desk = Desk::with_queue(&[("VisibilityTimeout", "0")]);
    let attributes = json!({
        "Help.Me": {"DataType": "String", "StringValue": "Me"},
        "Hello": {"DataType": "String", "StringValue": "There"},
        "General": {"DataType": "String", "StringValue": "Kenobi"},
    });
    let send = json!({"QueueUrl": "q", "MessageBody": "msg", "MessageAttributes": attributes});
    desk.ok("SendMessage", send).await;
    let cases: [(&[&str], Option<&str>); 7] = [
        (&[], None),
        (&["foo"], None),
        (&["All"], Some("4c360f3fdafd970e05fae2f149d997f5")),
        (&[".*"], Some("4c360f3fdafd970e05fae2f149d997f5")),
        (&["General", "Hello"], Some("fca026605781cb4126a1e9044df24232")),
        (&["Hello", "foo"], Some("a311262e065454b75da111d535b8dacd")),
        (&["Hel.*"], Some("83fee93c1bcd8b9a5a923ffacdc636c7")),
    ];
    for (names, md5) in cases {
        let request = json!({"QueueUrl": "q", "MessageAttributeNames": names});
        let answer = desk.ok("ReceiveMessage", request).await;
        let message = &answer["Messages"][0];
        assert_eq!(message["MD5OfMessageAttributes"].as_str(), md5, "{names:?}");
        assert_eq!(message.get("MessageAttributes").is_some(), md5.is_some(), "{names:?}");
        assert!(message.get("Attributes").is_none());
    }
}

#[tokio::test]
async fn system_attributes_are_shown_as_asked() {
    let desk = Desk::with_queue(&[]);
    let trace = json!({"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}});
    let sent = desk
        .ok(
            "SendMessage",
            json!({
                "QueueUrl": "q",
                "MessageBody": "x",
                "MessageGroupId": "tenant-1",
                "MessageSystemAttributes": trace,
            }),
        )
        .await;
    assert!(sent.get("MD5OfMessageSystemAttributes").is_some());
    desk.seconds_pass(2);
    let received = desk.receive_hiding("q", Some(1)).await;
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
    desk.seconds_pass(1);
    // The older parameter name, and a second receive.
    let request = json!({
        "QueueUrl": "q",
        "AttributeNames": ["ApproximateReceiveCount"],
        "MessageSystemAttributeNames": ["ApproximateFirstReceiveTimestamp", "SequenceNumber"],
    });
    let answer = desk.ok("ReceiveMessage", request).await;
    assert_eq!(
        answer["Messages"][0]["Attributes"],
        json!({
            "ApproximateFirstReceiveTimestamp": "1700000002000",
            "ApproximateReceiveCount": "2",
        })
    );
    let unknown = json!({"QueueUrl": "q", "AttributeNames": ["Colour"]});
    assert_eq!(desk.refused("ReceiveMessage", unknown).await, Code::InvalidAttributeName);
}

#[tokio::test]
async fn message_attributes_are_validated() {
    let desk = Desk::with_queue(&[]);
    let send = |name: &str, attribute: Value| json!({"QueueUrl": "q", "MessageBody": "x", "MessageAttributes": {name: attribute}});
    let string = |value: &str| json!({"DataType": "String", "StringValue": value});
    let good = [
        ("a-b_c.D9", string("x")),
        ("n", json!({"DataType": "Number.int", "StringValue": "-1.5e3"})),
        ("b", json!({"DataType": "Binary.png", "BinaryValue": "AAEC"})),
        ("s", json!({"DataType": "String.json", "StringValue": "{}"})),
    ];
    for (name, attribute) in good {
        desk.ok("SendMessage", send(name, attribute)).await;
    }
    let long = "x".repeat(257);
    let bad = [
        ("", string("x")),
        ("a b", string("x")),
        ("AWS.x", string("x")),
        ("amazon.x", string("x")),
        (".x", string("x")),
        ("x.", string("x")),
        ("x..y", string("x")),
        (long.as_str(), string("x")),
        ("x", string("")),
        ("x", string("\u{1}")),
        ("x", json!({"StringValue": "x"})),
        ("x", json!({"DataType": "Text", "StringValue": "x"})),
        ("x", json!({"DataType": long, "StringValue": "x"})),
        ("x", json!({"DataType": "Number", "StringValue": "one"})),
        ("x", json!({"DataType": "Number", "StringValue": "inf"})),
        ("x", json!({"DataType": "Binary", "StringValue": "x"})),
        ("x", json!({"DataType": "Binary", "BinaryValue": "?"})),
    ];
    for (name, attribute) in bad {
        let code = desk.refused("SendMessage", send(name, attribute.clone())).await;
        assert_eq!(code, Code::InvalidParameterValue, "{name}: {attribute}");
    }
    for (count, fine) in [(10, true), (11, false)] {
        let many: serde_json::Map<String, Value> =
            (0..count).map(|n| (format!("a{n}"), string("x"))).collect();
        let send = json!({"QueueUrl": "q", "MessageBody": "x", "MessageAttributes": many});
        assert_eq!(desk.call("SendMessage", send).await.is_ok(), fine);
    }
    for trace in [
        json!({"Other": string("x")}),
        json!({"AWSTraceHeader": {"DataType": "Number", "StringValue": "1"}}),
    ] {
        let send = json!({"QueueUrl": "q", "MessageBody": "x", "MessageSystemAttributes": trace});
        assert_eq!(desk.refused("SendMessage", send).await, Code::InvalidParameterValue);
    }
}

#[tokio::test]
async fn bodies_and_group_ids_are_validated() {
    let desk = Desk::with_queue(&[]);
    for good in ["\t\n\r \u{20}", "\u{D7FF}\u{E000}\u{FFFD}", "\u{10000}\u{10FFFF}", "é😀"] {
        desk.send("q", good).await;
    }
    for bad in ["a\u{0}", "\u{1F}", "\u{FFFE}", "\u{FFFF}"] {
        let send = json!({"QueueUrl": "q", "MessageBody": bad});
        assert_eq!(desk.refused("SendMessage", send).await, Code::InvalidMessageContents);
    }
    for missing in [json!({"QueueUrl": "q"}), json!({"QueueUrl": "q", "MessageBody": ""})] {
        assert_eq!(desk.refused("SendMessage", missing).await, Code::MissingParameter);
    }
    let long = "g".repeat(129);
    for group in ["", "a b", long.as_str()] {
        let send = json!({"QueueUrl": "q", "MessageBody": "x", "MessageGroupId": group});
        assert_eq!(desk.refused("SendMessage", send).await, Code::InvalidParameterValue);
    }
    let fifo_only = json!({"QueueUrl": "q", "MessageBody": "x", "MessageDeduplicationId": "d"});
    assert_eq!(desk.refused("SendMessage", fifo_only).await, Code::InvalidParameterValue);
}

#[tokio::test]
async fn a_delay_hides_a_message_for_its_time() {
    let desk = Desk::with_queue(&[("DelaySeconds", "10")]);
    desk.send("q", "by the queue").await;
    let own = json!({"QueueUrl": "q", "MessageBody": "by itself", "DelaySeconds": 5});
    desk.ok("SendMessage", own).await;
    let none = json!({"QueueUrl": "q", "MessageBody": "at once", "DelaySeconds": 0});
    desk.ok("SendMessage", none).await;
    assert_eq!(desk.attribute("q", "ApproximateNumberOfMessages").await, "1");
    assert_eq!(desk.attribute("q", "ApproximateNumberOfMessagesDelayed").await, "2");
    assert_eq!(desk.attribute("q", "ApproximateNumberOfMessagesNotVisible").await, "0");
    assert_eq!(bodies(&desk.receive("q").await), ["at once"]);
    desk.seconds_pass(5);
    assert_eq!(bodies(&desk.receive("q").await), ["by itself"]);
    desk.seconds_pass(4);
    assert!(desk.receive("q").await.is_empty());
    desk.seconds_pass(1);
    assert_eq!(bodies(&desk.receive("q").await), ["by the queue"]);
    for bad in [-1, 901] {
        let send = json!({"QueueUrl": "q", "MessageBody": "x", "DelaySeconds": bad});
        assert_eq!(desk.refused("SendMessage", send).await, Code::InvalidParameterValue);
    }
    let longest = json!({"QueueUrl": "q", "MessageBody": "x", "DelaySeconds": 900});
    desk.ok("SendMessage", longest).await;
}

#[tokio::test]
async fn messages_end_with_the_retention_period() {
    let desk = Desk::with_queue(&[("MessageRetentionPeriod", "60")]);
    desk.send("q", "in flight").await;
    desk.receive_hiding("q", Some(600)).await;
    desk.seconds_pass(30);
    desk.send("q", "visible").await;
    desk.seconds_pass(30);
    assert_eq!(desk.depth("q"), (1, 0, 0));
    desk.seconds_pass(29);
    assert_eq!(desk.depth("q"), (1, 0, 0));
    desk.seconds_pass(1);
    assert_eq!(desk.depth("q"), (0, 0, 0));
    // A shorter period counts for messages that are there already.
    desk.sqs.ensure_queue("q", &[("MessageRetentionPeriod", "1209600")]).unwrap();
    desk.send("q", "x").await;
    desk.seconds_pass(120);
    assert_eq!(desk.depth("q"), (1, 0, 0));
    desk.sqs.ensure_queue("q", &[("MessageRetentionPeriod", "60")]).unwrap();
    assert_eq!(desk.depth("q"), (0, 0, 0));
}

#[tokio::test]
async fn messages_come_in_the_order_in_which_they_became_visible() {
    let desk = Desk::with_queue(&[]);
    for body in ["1", "2", "3"] {
        desk.send("q", body).await;
    }
    let one = json!({"QueueUrl": "q", "VisibilityTimeout": 1});
    let first = desk.ok("ReceiveMessage", one).await;
    assert_eq!(first["Messages"][0]["Body"], "1");
    desk.seconds_pass(1);
    assert_eq!(bodies(&desk.receive("q").await), ["2", "3", "1"]);
}

#[tokio::test]
async fn ids_and_handles_are_never_shared() {
    let (one, two) = (Desk::with_queue(&[]), Desk::with_queue(&[]));
    let (a, b) = (one.send("q", "x").await, two.send("q", "x").await);
    assert_ne!(a["MessageId"], b["MessageId"]);
    assert_eq!(text(&a, "MessageId").len(), 36);
    // The first message of another run: a handle of this run does not delete it.
    let handle = one.receive("q").await[0]["ReceiptHandle"].clone();
    two.receive("q").await;
    two.ok("DeleteMessage", json!({"QueueUrl": "q", "ReceiptHandle": handle})).await;
    assert_eq!(two.depth("q"), (0, 1, 0));
}
