//! What the documents say of the catalogue is what `write-catalogue` writes, and the examples for
//! publishers work.

use deployment::documents::sections;
use serde_json::{Value, json};
use webhooks_core::event::Event;
use webhooks_core::time::Timestamp;
use webhooks_local::template::from_yaml;

use crate::source;

fn deploying() -> String {
    std::fs::read_to_string(source::root().join("docs/DEPLOYING.md")).unwrap()
}

/// The first block of code in this language after a heading.
fn block<'a>(text: &'a str, heading: &str, language: &str) -> &'a str {
    let (_, section) = text.split_once(heading).unwrap();
    let (_, block) = section.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0
}

const PUBLISHERS: &str = "### Publishers in other accounts, SNS and EventBridge";

/// EventBridge puts the JSON of each value in the place of its `<name>`.
#[test]
fn input_transformer_of_the_guide_makes_an_event() {
    let text = deploying();
    let transformer: Value = serde_json::from_str(block(&text, PUBLISHERS, "json")).unwrap();
    let detail = json!({"user": "user-1", "task": {"task_id": "t1", "title": "Write \"tests\""}});
    let published = json!({
        "version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "Task Created",
        "source": "tasks", "account": "123456789012", "time": "2026-01-31T09:30:00Z",
        "region": "eu-central-1", "resources": [], "detail": detail,
    });
    let mut message = transformer["InputTemplate"].as_str().unwrap().to_owned();
    for (name, path) in transformer["InputPathsMap"].as_object().unwrap() {
        let path = path.as_str().unwrap().strip_prefix('$').unwrap().replace('.', "/");
        let value = published.pointer(&path).unwrap_or_else(|| panic!("no {path}"));
        message = message.replace(&format!("<{name}>"), &value.to_string());
    }
    let sent = Timestamp::parse("2026-01-31T09:30:02Z").unwrap();
    let event = Event::parse(&message, "m1", sent).unwrap();
    assert_eq!(event.event_type.to_string(), "task.created");
    assert_eq!(event.id.as_str(), published["id"].as_str().unwrap());
    assert_eq!(event.owner.as_str(), "user-1");
    assert_eq!(event.time, Timestamp::parse("2026-01-31T09:30:00Z").unwrap());
    let data: Value = serde_json::from_str(event.data.as_str()).unwrap();
    assert_eq!(data, published["detail"]["task"]);
}

/// Each allows one kind of publisher to send to the events queue, and nothing else.
#[test]
fn queue_policy_of_the_guide_allows_sending_events_only() {
    let text = deploying();
    let statements = from_yaml(block(&text, PUBLISHERS, "yaml")).unwrap();
    let statements = statements.as_array().unwrap();
    let principals: Vec<&Value> = statements.iter().map(|one| &one["Principal"]).collect();
    assert_eq!(principals.len(), 3);
    assert!(principals[0]["AWS"].as_str().unwrap().starts_with("arn:aws:iam::"));
    for (statement, service) in statements[1..].iter().zip(["sns", "events"]) {
        assert_eq!(statement["Principal"], json!({"Service": format!("{service}.amazonaws.com")}));
        let source = statement["Condition"]["ArnEquals"]["aws:SourceArn"].as_str().unwrap();
        assert!(source.starts_with(&format!("arn:aws:{service}:")), "{source}");
    }
    for statement in statements {
        assert_eq!(statement["Effect"], "Allow");
        assert_eq!(statement["Action"], "sqs:SendMessage");
        assert_eq!(statement["Resource"], json!({"Fn::GetAtt": "EventsQueue.Arn"}));
    }
}

#[test]
fn documents_show_the_catalogue() {
    for section in sections() {
        let file = std::fs::read_to_string(source::root().join(section.file)).unwrap();
        assert!(
            section.put_into(&file).as_ref() == Some(&file),
            "{} does not show the catalogue: `cargo run --bin write-catalogue`",
            section.file
        );
    }
}
