use serde_json::{Value, json};

use super::{BASE, Desk, arn, url};
use crate::Code;

#[tokio::test]
async fn creating_twice_is_fine_with_the_same_attributes_only() {
    let desk = Desk::new();
    let create = |value: &str| json!({"QueueName": "q", "Attributes": {"DelaySeconds": value}});
    let made = desk.ok("CreateQueue", create("5")).await;
    assert_eq!(made, json!({"QueueUrl": url("q")}));
    assert_eq!(desk.ok("CreateQueue", create("5")).await, made);
    assert_eq!(desk.ok("CreateQueue", json!({"QueueName": "q"})).await, made);
    let error = desk.call("CreateQueue", create("6")).await.unwrap_err();
    assert_eq!(error.code, Code::QueueNameExists);
    assert!(error.message.ends_with("attribute DelaySeconds"), "{error}");
}

#[tokio::test]
async fn queue_names_are_checked_and_fifo_is_refused_clearly() {
    let desk = Desk::new();
    let long = "x".repeat(81);
    for name in ["", "a b", "a.b", long.as_str()] {
        let code = desk.refused("CreateQueue", json!({"QueueName": name})).await;
        assert_eq!(code, Code::InvalidParameterValue, "{name}");
    }
    let error = desk.call("CreateQueue", json!({"QueueName": "a.fifo"})).await.unwrap_err();
    assert_eq!(error.code, Code::UnsupportedOperation);
    assert!(error.message.contains("FIFO"));
    assert_eq!(desk.refused("CreateQueue", json!({})).await, Code::MissingParameter);
}

#[tokio::test]
async fn a_queue_url_means_its_account_and_name() {
    let desk = Desk::with_queue(&[]);
    for good in
        ["q", "http://elsewhere:1/000000000000/q", "https://h/000000000000/q/", "000000000000/q"]
    {
        desk.ok("GetQueueAttributes", json!({"QueueUrl": good})).await;
    }
    for bad in ["http://h/111111111111/q", "http://h/", "http://h", "other", "/"] {
        let code = desk.refused("GetQueueAttributes", json!({"QueueUrl": bad})).await;
        assert_eq!(code, Code::QueueDoesNotExist, "{bad}");
    }
    for missing in [json!({}), json!({"QueueUrl": ""})] {
        let code = desk.refused("GetQueueAttributes", missing).await;
        assert_eq!(code, Code::MissingParameter);
    }
}

#[tokio::test]
async fn a_queue_is_found_by_name() {
    let desk = Desk::with_queue(&[]);
    let found = desk.ok("GetQueueUrl", json!({"QueueName": "q"})).await;
    assert_eq!(found, json!({"QueueUrl": url("q")}));
    let code = desk.refused("GetQueueUrl", json!({"QueueName": "p"})).await;
    assert_eq!(code, Code::QueueDoesNotExist);
    let other = json!({"QueueName": "q", "QueueOwnerAWSAccountId": "111111111111"});
    assert_eq!(desk.refused("GetQueueUrl", other).await, Code::QueueDoesNotExist);
}

#[tokio::test]
async fn queues_are_listed_by_prefix_and_page() {
    let desk = Desk::new();
    assert_eq!(desk.ok("ListQueues", json!({})).await, json!({}));
    for name in ["b-1", "a-1", "a-3", "a-2"] {
        desk.sqs.ensure_queue(name, &[]).unwrap();
    }
    let all = desk.ok("ListQueues", json!({})).await;
    assert_eq!(all, json!({"QueueUrls": [url("a-1"), url("a-2"), url("a-3"), url("b-1")]}));
    let mut request = json!({"QueueNamePrefix": "a-", "MaxResults": 2});
    let first = desk.ok("ListQueues", request.clone()).await;
    assert_eq!(first["QueueUrls"], json!([url("a-1"), url("a-2")]));
    request["NextToken"] = first["NextToken"].clone();
    let second = desk.ok("ListQueues", request).await;
    assert_eq!(second, json!({"QueueUrls": [url("a-3")]}));
    for bad in [json!({"MaxResults": 0}), json!({"MaxResults": 1001}), json!({"NextToken": "?"})] {
        assert_eq!(desk.refused("ListQueues", bad).await, Code::InvalidParameterValue);
    }
}

#[tokio::test]
async fn attributes_are_shown_as_asked() {
    let desk = Desk::with_queue(&[]);
    let all =
        desk.ok("GetQueueAttributes", json!({"QueueUrl": "q", "AttributeNames": ["All"]})).await;
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
    let some = json!({"QueueUrl": "q", "AttributeNames": ["QueueArn", "Policy"]});
    let some = desk.ok("GetQueueAttributes", some).await;
    assert_eq!(some, json!({"Attributes": {"QueueArn": arn("q")}}));
    assert_eq!(desk.ok("GetQueueAttributes", json!({"QueueUrl": "q"})).await, json!({}));
    let unknown = json!({"QueueUrl": "q", "AttributeNames": ["Colour"]});
    assert_eq!(desk.refused("GetQueueAttributes", unknown).await, Code::InvalidAttributeName);
}

#[tokio::test]
async fn attributes_are_validated_and_set_all_or_none() {
    let desk = Desk::with_queue(&[]);
    let set = |name: &str, value: &str| json!({"QueueUrl": "q", "Attributes": {name: value}});
    let good = [
        ("DelaySeconds", "900"),
        ("KmsDataKeyReusePeriodSeconds", "60"),
        ("KmsMasterKeyId", "alias/x"),
        ("MaximumMessageSize", "1024"),
        ("MessageRetentionPeriod", "1209600"),
        ("Policy", "{}"),
        ("ReceiveMessageWaitTimeSeconds", "20"),
        ("SqsManagedSseEnabled", "false"),
        ("VisibilityTimeout", "43200"),
    ];
    for (name, value) in good {
        desk.ok("SetQueueAttributes", set(name, value)).await;
        assert_eq!(desk.attribute("q", name).await, value);
    }
    let bad = [
        ("DelaySeconds", "901"),
        ("DelaySeconds", "-1"),
        ("DelaySeconds", "soon"),
        ("KmsDataKeyReusePeriodSeconds", "59"),
        ("MaximumMessageSize", "1023"),
        ("MaximumMessageSize", "1048577"),
        ("MessageRetentionPeriod", "59"),
        ("MessageRetentionPeriod", "1209601"),
        ("Policy", "{"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
        ("SqsManagedSseEnabled", "yes"),
        ("VisibilityTimeout", "43201"),
    ];
    for (name, value) in bad {
        let code = desk.refused("SetQueueAttributes", set(name, value)).await;
        assert_eq!(code, Code::InvalidAttributeValue, "{name}={value}");
    }
    for name in ["QueueArn", "FifoQueue", "Colour", "All"] {
        let code = desk.refused("SetQueueAttributes", set(name, "true")).await;
        assert_eq!(code, Code::InvalidAttributeName, "{name}");
    }
    let mixed =
        json!({"QueueUrl": "q", "Attributes": {"DelaySeconds": "1", "VisibilityTimeout": "x"}});
    assert_eq!(desk.refused("SetQueueAttributes", mixed).await, Code::InvalidAttributeValue);
    assert_eq!(desk.attribute("q", "DelaySeconds").await, "900");
}

#[tokio::test]
async fn setting_attributes_changes_the_modified_time_only() {
    let desk = Desk::with_queue(&[]);
    desk.seconds_pass(5);
    desk.sqs.ensure_queue("q", &[("DelaySeconds", "1")]).unwrap();
    assert_eq!(desk.attribute("q", "CreatedTimestamp").await, "1700000000");
    assert_eq!(desk.attribute("q", "LastModifiedTimestamp").await, "1700000005");
}

#[tokio::test]
async fn redrive_policies_are_validated() {
    let desk = Desk::with_queue(&[]);
    desk.sqs.ensure_queue("dlq", &[]).unwrap();
    let set = |policy: Value| json!({"QueueUrl": "q", "Attributes": {"RedrivePolicy": policy.to_string()}});
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
    for bad in bad {
        let code = desk.refused("SetQueueAttributes", set(bad.clone())).await;
        assert_eq!(code, Code::InvalidParameterValue, "{bad}");
    }
    desk.ok("SetQueueAttributes", set(policy(&arn("dlq"), json!("3")))).await;
    let shown: Value = serde_json::from_str(&desk.attribute("q", "RedrivePolicy").await).unwrap();
    assert_eq!(shown, policy(&arn("dlq"), json!(3)));
    let sources = desk.ok("ListDeadLetterSourceQueues", json!({"QueueUrl": "dlq"})).await;
    assert_eq!(sources, json!({"queueUrls": [format!("{BASE}/q")]}));

    let clear = json!({"QueueUrl": "q", "Attributes": {"RedrivePolicy": ""}});
    desk.ok("SetQueueAttributes", clear).await;
    let sources = desk.ok("ListDeadLetterSourceQueues", json!({"QueueUrl": "dlq"})).await;
    assert_eq!(sources, json!({"queueUrls": []}));
}

#[tokio::test]
async fn a_redrive_allow_policy_says_who_may_redrive() {
    let desk = Desk::with_queue(&[]);
    desk.sqs.ensure_queue("dlq", &[]).unwrap();
    let allow = |policy: Value| json!({"QueueUrl": "dlq", "Attributes": {"RedriveAllowPolicy": policy.to_string()}});
    let redrive = json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 1}).to_string();
    let redrive = json!({"QueueUrl": "q", "Attributes": {"RedrivePolicy": redrive}});
    let cases = [
        (json!({"redrivePermission": "denyAll"}), false),
        (json!({"redrivePermission": "byQueue", "sourceQueueArns": [arn("p")]}), false),
        (json!({"redrivePermission": "byQueue", "sourceQueueArns": [arn("q")]}), true),
    ];
    for (policy, allowed) in cases {
        desk.ok("SetQueueAttributes", allow(policy.clone())).await;
        let shown = desk.attribute("dlq", "RedriveAllowPolicy").await;
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), policy);
        let result = desk.call("SetQueueAttributes", redrive.clone()).await;
        assert_eq!(result.is_ok(), allowed, "{policy}");
    }
    for bad in
        [json!({}), json!({"redrivePermission": "some"}), json!({"redrivePermission": "byQueue"})]
    {
        let code = desk.refused("SetQueueAttributes", allow(bad)).await;
        assert_eq!(code, Code::InvalidParameterValue);
    }
}

#[tokio::test]
async fn tags_are_kept() {
    let desk = Desk::new();
    desk.ok("CreateQueue", json!({"QueueName": "q", "tags": {"a": "1"}})).await;
    desk.ok("TagQueue", json!({"QueueUrl": "q", "Tags": {"b": "2", "c": "3"}})).await;
    desk.ok("UntagQueue", json!({"QueueUrl": "q", "TagKeys": ["a", "c", "z"]})).await;
    let tags = desk.ok("ListQueueTags", json!({"QueueUrl": "q"})).await;
    assert_eq!(tags, json!({"Tags": {"b": "2"}}));
}

#[tokio::test]
async fn a_deleted_queue_is_gone_with_its_messages() {
    let desk = Desk::with_queue(&[]);
    desk.send("q", "x").await;
    desk.ok("DeleteQueue", json!({"QueueUrl": "q"})).await;
    assert_eq!(
        desk.refused("DeleteQueue", json!({"QueueUrl": "q"})).await,
        Code::QueueDoesNotExist
    );
    let send = json!({"QueueUrl": "q", "MessageBody": "x"});
    assert_eq!(desk.refused("SendMessage", send).await, Code::QueueDoesNotExist);
    desk.sqs.ensure_queue("q", &[]).unwrap();
    assert_eq!(desk.depth("q"), (0, 0, 0));
}

#[tokio::test]
async fn a_purge_empties_the_queue_once_a_minute() {
    let desk = Desk::with_queue(&[]);
    let purge = json!({"QueueUrl": "q"});
    desk.send("q", "in flight").await;
    desk.receive("q").await;
    desk.send("q", "visible").await;
    desk.ok("SendMessage", json!({"QueueUrl": "q", "MessageBody": "late", "DelaySeconds": 9}))
        .await;
    assert_eq!(desk.depth("q"), (1, 1, 1));
    desk.ok("PurgeQueue", purge.clone()).await;
    assert_eq!(desk.depth("q"), (0, 0, 0));
    desk.seconds_pass(59);
    assert_eq!(desk.refused("PurgeQueue", purge.clone()).await, Code::PurgeQueueInProgress);
    desk.seconds_pass(1);
    desk.ok("PurgeQueue", purge).await;
}

#[tokio::test]
async fn what_cannot_be_read_or_is_not_known_is_refused() {
    let desk = Desk::with_queue(&[]);
    assert_eq!(desk.refused("AddPermission", json!({})).await, Code::UnknownOperation);
    let wrong_type = json!({"QueueUrl": "q", "MessageBody": 5});
    assert_eq!(desk.refused("SendMessage", wrong_type).await, Code::Serialization);
    let answer = crate::wire::dispatch(&desk.sqs, "DynamoDB.ListTables", BASE, b"").await;
    assert_eq!(answer.unwrap_err().code, Code::UnknownOperation);
}
