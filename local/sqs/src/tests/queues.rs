use serde_json::{Value, json};

use super::{BASE, Client, arn, url};
use crate::Code;

fn set(queue: &str, name: &str, value: &str) -> Value {
    json!({"QueueUrl": queue, "Attributes": {name: value}})
}

#[tokio::test]
async fn create_queue_is_idempotent_for_the_same_attributes() {
    let client = Client::new();
    let create = |value: &str| json!({"QueueName": "q", "Attributes": {"DelaySeconds": value}});
    let created = json!({"QueueUrl": url("q")});
    for request in [create("5"), create("5"), json!({"QueueName": "q"})] {
        assert_eq!(client.ok("CreateQueue", request).await, created);
    }
    let error = client.call("CreateQueue", create("6")).await.unwrap_err();
    assert_eq!(error.code, Code::QueueNameExists);
    assert!(error.message.ends_with("attribute DelaySeconds"), "{error}");
    assert_eq!(client.ok("GetQueueUrl", json!({"QueueName": "q"})).await, created);
}

#[tokio::test]
async fn invalid_names_and_requests_are_refused() {
    let client = Client::with_queue(&[]);
    let named = |name: &str| json!({"QueueName": name});
    let names = ["", "a b", "a.b", &"x".repeat(81)];
    let names = names.map(|name| (named(name), Code::InvalidParameterValue));
    client.refuses("CreateQueue", names).await;
    client.refuses("CreateQueue", [(json!({}), Code::MissingParameter)]).await;
    let error = client.call("CreateQueue", named("a.fifo")).await.unwrap_err();
    assert_eq!(error.code, Code::UnsupportedOperation);
    assert!(error.message.contains("FIFO"));
    let other = json!({"QueueName": "q", "QueueOwnerAWSAccountId": "111111111111"});
    let unknown = [named("p"), other].map(|request| (request, Code::QueueDoesNotExist));
    client.refuses("GetQueueUrl", unknown).await;
    client.refuses("AddPermission", [(json!({}), Code::UnknownOperation)]).await;
    let wrong_type = json!({"QueueUrl": "q", "MessageBody": 5});
    client.refuses("SendMessage", [(wrong_type, Code::Serialization)]).await;
    let foreign = crate::wire::dispatch(&client.sqs, "DynamoDB.ListTables", BASE, b"").await;
    assert_eq!(foreign.unwrap_err().code, Code::UnknownOperation);
}

#[tokio::test]
async fn queue_url_is_read_as_account_and_name() {
    let client = Client::with_queue(&[]);
    for good in
        ["q", "http://elsewhere:1/000000000000/q", "https://h/000000000000/q/", "000000000000/q"]
    {
        client.ok("GetQueueAttributes", json!({"QueueUrl": good})).await;
    }
    let bad = ["http://h/111111111111/q", "http://h/", "http://h", "other", "/"];
    let bad = bad.map(|url| (json!({"QueueUrl": url}), Code::QueueDoesNotExist));
    client.refuses("GetQueueAttributes", bad).await;
    let missing = [json!({}), json!({"QueueUrl": ""})];
    let missing = missing.map(|request| (request, Code::MissingParameter));
    client.refuses("GetQueueAttributes", missing).await;
}

#[tokio::test]
async fn queues_are_listed_by_prefix_and_page() {
    let client = Client::new();
    assert_eq!(client.ok("ListQueues", json!({})).await, json!({}));
    for name in ["b-1", "a-1", "a-3", "a-2"] {
        client.sqs.ensure_queue(name, &[]).unwrap();
    }
    let all = client.ok("ListQueues", json!({})).await;
    assert_eq!(all, json!({"QueueUrls": [url("a-1"), url("a-2"), url("a-3"), url("b-1")]}));
    let mut request = json!({"QueueNamePrefix": "a-", "MaxResults": 2});
    let first = client.ok("ListQueues", request.clone()).await;
    assert_eq!(first["QueueUrls"], json!([url("a-1"), url("a-2")]));
    request["NextToken"] = first["NextToken"].clone();
    let second = client.ok("ListQueues", request).await;
    assert_eq!(second, json!({"QueueUrls": [url("a-3")]}));
    let bad = [json!({"MaxResults": 0}), json!({"MaxResults": 1001}), json!({"NextToken": "?"})];
    client.refuses("ListQueues", bad.map(|request| (request, Code::InvalidParameterValue))).await;
}

#[tokio::test]
async fn requested_attributes_are_returned() {
    let client = Client::with_queue(&[]);
    let get = |names: &[&str]| json!({"QueueUrl": "q", "AttributeNames": names});
    let all = client.ok("GetQueueAttributes", get(&["All"])).await;
    assert_eq!(
        all["Attributes"],
        json!({
            "ApproximateNumberOfMessages": "0",
            "ApproximateNumberOfMessagesDelayed": "0",
            "ApproximateNumberOfMessagesNotVisible": "0",
            "CreatedTimestamp": "1700000000",
            "DelaySeconds": "0",
            "LastModifiedTimestamp": "1700000000",
            "MaximumMessageSize": "1048576",
            "MessageRetentionPeriod": "345600",
            "QueueArn": arn("q"),
            "ReceiveMessageWaitTimeSeconds": "0",
            "SqsManagedSseEnabled": "true",
            "VisibilityTimeout": "30",
        })
    );
    let some = client.ok("GetQueueAttributes", get(&["QueueArn", "Policy"])).await;
    assert_eq!(some, json!({"Attributes": {"QueueArn": arn("q")}}));
    assert_eq!(client.ok("GetQueueAttributes", get(&[])).await, json!({}));
    assert_eq!(
        client.error("GetQueueAttributes", get(&["Colour"])).await,
        Code::InvalidAttributeName
    );
    client.advance(5);
    client.sqs.ensure_queue("q", &[("DelaySeconds", "1")]).unwrap();
    assert_eq!(client.attribute("q", "CreatedTimestamp").await, "1700000000");
    assert_eq!(client.attribute("q", "LastModifiedTimestamp").await, "1700000005");
}

#[tokio::test]
async fn attributes_are_validated_and_set_together() {
    let client = Client::with_queue(&[]);
    let good = [
        ("DelaySeconds", "900"),
        ("KmsMasterKeyId", "alias/x"),
        ("MaximumMessageSize", "1024"),
        ("MessageRetentionPeriod", "1209600"),
        ("Policy", "{}"),
        ("RedriveAllowPolicy", "{}"),
        ("ReceiveMessageWaitTimeSeconds", "20"),
        ("SqsManagedSseEnabled", "false"),
        ("VisibilityTimeout", "43200"),
    ];
    for (name, value) in good {
        client.ok("SetQueueAttributes", set("q", name, value)).await;
        assert_eq!(client.attribute("q", name).await, value);
    }
    let bad = [
        ("DelaySeconds", "901"),
        ("DelaySeconds", "-1"),
        ("DelaySeconds", "soon"),
        ("MaximumMessageSize", "1023"),
        ("MaximumMessageSize", "1048577"),
        ("MessageRetentionPeriod", "59"),
        ("MessageRetentionPeriod", "1209601"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
        ("VisibilityTimeout", "43201"),
    ];
    let bad = bad.map(|(name, value)| (set("q", name, value), Code::InvalidAttributeValue));
    client.refuses("SetQueueAttributes", bad).await;
    let unknown = ["QueueArn", "FifoQueue", "Colour", "All"];
    let unknown = unknown.map(|name| (set("q", name, "true"), Code::InvalidAttributeName));
    client.refuses("SetQueueAttributes", unknown).await;
    let mixed =
        json!({"QueueUrl": "q", "Attributes": {"DelaySeconds": "1", "VisibilityTimeout": "x"}});
    client.refuses("SetQueueAttributes", [(mixed, Code::InvalidAttributeValue)]).await;
    assert_eq!(client.attribute("q", "DelaySeconds").await, "900");
}

#[tokio::test]
async fn redrive_policies_are_validated() {
    let client = Client::with_queue(&[]);
    client.sqs.ensure_queue("dlq", &[]).unwrap();
    let set = |policy: &Value| set("q", "RedrivePolicy", &policy.to_string());
    let policy =
        |arn: &str, count: Value| json!({"deadLetterTargetArn": arn, "maxReceiveCount": count});
    let bad = [
        policy("dummy", json!(3)),
        policy(&arn("nowhere"), json!(3)),
        policy(&arn("q"), json!(3)),
        policy("arn:aws:sqs:eu-west-1:000000000000:dlq", json!(3)),
        policy(&arn("dlq"), json!(0)),
        policy(&arn("dlq"), json!(1001)),
        policy(&arn("dlq"), json!("x")),
        json!({"deadLetterTargetArn": arn("dlq")}),
        json!({"maxReceiveCount": 3}),
    ];
    let bad = bad.map(|policy| (set(&policy), Code::InvalidParameterValue));
    client.refuses("SetQueueAttributes", bad).await;
    client.ok("SetQueueAttributes", set(&policy(&arn("dlq"), json!("3")))).await;
    let shown: Value = serde_json::from_str(&client.attribute("q", "RedrivePolicy").await).unwrap();
    assert_eq!(shown, policy(&arn("dlq"), json!(3)));
    client.ok("SetQueueAttributes", self::set("q", "RedrivePolicy", "")).await;
    let request = json!({"QueueUrl": "q", "AttributeNames": ["RedrivePolicy"]});
    assert_eq!(client.ok("GetQueueAttributes", request).await, json!({}));
}

#[tokio::test]
async fn tags_are_added_and_removed() {
    let client = Client::new();
    client.ok("CreateQueue", json!({"QueueName": "q", "tags": {"a": "1"}})).await;
    client.on_q("TagQueue", json!({"Tags": {"b": "2", "c": "3"}})).await;
    client.on_q("UntagQueue", json!({"TagKeys": ["a", "c", "z"]})).await;
    assert_eq!(client.on_q("ListQueueTags", json!({})).await, json!({"Tags": {"b": "2"}}));
}

#[tokio::test]
async fn deleted_queue_is_gone_with_its_messages() {
    let client = Client::with_queue(&[]);
    client.send("q", "x").await;
    client.on_q("DeleteQueue", json!({})).await;
    let send = json!({"QueueUrl": "q", "MessageBody": "x"});
    client.refuses("DeleteQueue", [(json!({"QueueUrl": "q"}), Code::QueueDoesNotExist)]).await;
    client.refuses("SendMessage", [(send, Code::QueueDoesNotExist)]).await;
    client.sqs.ensure_queue("q", &[]).unwrap();
    assert_eq!(client.depth("q"), (0, 0, 0));
}

#[tokio::test]
async fn purge_empties_a_queue_once_a_minute() {
    let client = Client::with_queue(&[]);
    client.send("q", "in flight").await;
    client.receive("q").await;
    client.send("q", "visible").await;
    client.on_q("SendMessage", json!({"MessageBody": "late", "DelaySeconds": 9})).await;
    assert_eq!(client.depth("q"), (1, 1, 1));
    client.on_q("PurgeQueue", json!({})).await;
    assert_eq!(client.depth("q"), (0, 0, 0));
    client.advance(59);
    client.refuses("PurgeQueue", [(json!({"QueueUrl": "q"}), Code::PurgeQueueInProgress)]).await;
    client.advance(1);
    client.on_q("PurgeQueue", json!({})).await;
}
