//! What `cargo dev` offers besides the system itself.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Local, dev, event, token};

#[tokio::test]
async fn json_start_up_is_one_line_with_addresses_and_token() {
    let flags = ["--api-addr", "--sqs-addr", "--dynamodb-addr", "--receiver-addr"];
    let mut child = dev()
        .args(flags.into_iter().flat_map(|flag| [flag, "0"]))
        .args(["--json", "--log", "info"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let mut started: Value = serde_json::from_str(&line).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = |path: &str| format!("{}{path}", started["api"].as_str().unwrap());
    let list = http.get(url("/api/webhooks")).bearer_auth(started["token"].as_str().unwrap());
    assert_eq!(list.send().await.unwrap().status(), 200);
    let ready = http.get(url("/_local/ready")).send().await.unwrap().bytes().await.unwrap();
    let foreign = http.get(url("/_local/ready")).header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    started.as_object_mut().unwrap().retain(|name, _| name != "token" && name != "user_id");
    assert_eq!(started, serde_json::from_slice::<Value>(&ready).unwrap());

    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(!rest.to_lowercase().contains("error") && !rest.contains("WARN"), "{rest}");
}

#[test]
fn token_is_one_line_and_nothing_else() {
    let token = token("grace");
    assert_eq!(token.split('.').count(), 3);
    assert!(!token.contains(char::is_whitespace));
    assert!(!dev().args(["token"]).output().unwrap().status.success());
}

#[test]
fn demo_delivers_every_event_type() {
    let output = dev().arg("demo").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for name in webhooks_core::catalogue::EventType::all() {
        assert!(text.contains(name.name()), "{name}");
    }
}

#[tokio::test]
async fn monitoring_questions_are_responded() {
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
