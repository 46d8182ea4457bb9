//! What `cargo dev` offers besides the system itself.

use std::process::Stdio;

use serde_json::json;

use crate::harness::{Local, dev, event, token};

#[tokio::test]
async fn a_busy_port_names_its_flag() {
    let local = Local::start().await;
    let busy = local.api.strip_prefix("http://").unwrap();
    for flag in ["--api-addr", "--sqs-addr", "--dynamodb-addr", "--receiver-addr"] {
        let mut command = dev();
        for other in ["--api-addr", "--sqs-addr", "--dynamodb-addr", "--receiver-addr"] {
            command.args([other, if other == flag { busy } else { "127.0.0.1:0" }]);
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(flag) && error.contains(busy), "{error}");
    }
}

#[test]
fn a_token_is_one_line_and_nothing_else() {
    let token = token("grace");
    assert_eq!(token.split('.').count(), 3);
    assert!(!token.contains(char::is_whitespace));
    assert!(!dev().args(["token"]).output().unwrap().status.success());
}

#[test]
fn the_demo_shows_the_main_job() {
    let output = dev().arg("demo").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for name in webhooks_core::catalogue::EventType::all() {
        assert!(text.contains(name.name()), "{name}");
    }
}

#[tokio::test]
async fn the_monitoring_questions_are_answered() {
    let local = Local::start().await;
    let receiver = local.receiver.clone();
    let subscribe = async |path: &str, retries: u32| {
        let body = json!({
            "url": format!("{receiver}{path}"), "event_types": ["task.created"],
            "retry_count": retries,
        });
        local.subscribe("u", body).await.0
    };
    let good = subscribe("/", 3).await;
    let bad = subscribe("/status/500", 0).await;
    let waiting = subscribe("/status/503", 10).await;
    for n in 0..4 {
        local.publish(&event("u", "task.created", n)).await;
    }
    local.ended("u", &good, 4).await;
    local.ended("u", &bad, 4).await;
    local
        .eventually(async || (local.deliveries("u", &waiting).await.len() == 4).then_some(()))
        .await;
    let address = local.api.strip_prefix("http://").unwrap();
    let stats = local
        .eventually(async || {
            let output = dev().args(["stats", "--json", "--api-addr", address]).output().unwrap();
            assert!(output.status.success());
            let stats: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            (stats["retries"]["waiting"] == 4).then_some(stats)
        })
        .await;
    assert_eq!(stats["last_24_hours"]["success_rate"], 50.0);
    assert_eq!(stats["top_failing_7_days"][0]["webhook_id"], bad);
    assert_eq!(stats["top_failing_7_days"][0]["failed"], 4);
}
