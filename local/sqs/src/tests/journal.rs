use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Client, ManualClock, arn, bodies, clock, text};
use crate::{OpenError, Sqs};

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Client {
    let sqs = Sqs::open(dir, Arc::clone(clock) as _, "us-east-1").unwrap();
    Client { sqs: Arc::new(sqs), clock: Arc::clone(clock) }
}

/// Dropping the engine writes nothing, so this is a restart after `kill -9`.
fn reopen(client: Client, dir: &Path) -> Client {
    let clock = Arc::clone(&client.clock);
    drop(client);
    open(dir, &clock)
}

/// The whole state, after everything that is due.
fn state(client: &Client) -> Vec<String> {
    let snapshot = client.sqs.transact(|state, _| {
        Ok(state.snapshot().map(|change| serde_json::to_string(&change).unwrap()).collect())
    });
    snapshot.unwrap()
}

fn journal(dir: &Path) -> std::path::PathBuf {
    dir.join("queues.journal")
}

fn failure(dir: &Path) -> OpenError {
    Sqs::open(dir, clock(), "us-east-1").err().unwrap()
}

#[tokio::test]
async fn messages_survive_a_restart_in_every_place() {
    let dir = tempfile::tempdir().unwrap();
    let client = open(dir.path(), &clock());
    client.sqs.ensure_queue("q", &[("VisibilityTimeout", "7")]).unwrap();
    let attributes = json!({"b": {"DataType": "Binary", "BinaryValue": "AAEC"}});
    client.send("q", "hidden").await;
    let hidden = client.receive("q").await.remove(0);
    client.change_visibility(&hidden["ReceiptHandle"], 60).await;
    let visible = json!({"MessageBody": "visible é\n", "MessageAttributes": attributes});
    client.on_q("SendMessage", visible).await;
    client.on_q("SendMessage", json!({"MessageBody": "late", "DelaySeconds": 30})).await;

    let client = reopen(client, dir.path());
    assert_eq!(client.depth("q"), (1, 1, 1));
    assert_eq!(client.attribute("q", "VisibilityTimeout").await, "7");
    let messages = client.receive_hiding("q", Some(900)).await;
    assert_eq!(bodies(&messages), ["visible é\n"]);
    assert_eq!(messages[0]["MessageAttributes"], attributes);

    let client = reopen(client, dir.path());
    client.advance(30);
    assert_eq!(bodies(&client.receive_hiding("q", Some(900)).await), ["late"]);
    client.advance(30);
    let again = client.receive("q").await.remove(0);
    assert_eq!(again["MessageId"], hidden["MessageId"]);
    assert_eq!(text(&again["Attributes"], "ApproximateReceiveCount"), "2");
}

#[tokio::test]
async fn handles_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let client = open(dir.path(), &clock());
    client.sqs.ensure_queue("q", &[]).unwrap();
    client.send("q", "x").await;
    let handle = client.handle().await;
    let client = reopen(client, dir.path());
    client.delete(&handle).await;
    assert_eq!(client.depth("q"), (0, 0, 0));
    let client = reopen(client, dir.path());
    assert_eq!(client.depth("q"), (0, 0, 0));
}

/// A small generator of numbers that are the same in every run (Knuth's constants).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// One random operation on `q`, `dlq` or `other`.
async fn one_step(client: &Client, random: &mut Random, handles: &mut Vec<Value>) {
    let queue = ["q", "q", "dlq", "other"][usize::try_from(random.below(4)).unwrap()];
    let handle = |random: &mut Random| match handles.len() as u64 {
        0 => json!("none"),
        len => handles[usize::try_from(random.below(len)).unwrap()].clone(),
    };
    let (operation, request) = match random.below(12) {
        0..=3 => (
            "SendMessage",
            json!({"QueueUrl": queue, "MessageBody": "x", "DelaySeconds": random.below(20)}),
        ),
        4 => ("DeleteMessage", json!({"QueueUrl": queue, "ReceiptHandle": handle(random)})),
        5 => (
            "ChangeMessageVisibility",
            json!({"QueueUrl": queue, "ReceiptHandle": handle(random), "VisibilityTimeout": random.below(30)}),
        ),
        6 => ("TagQueue", json!({"QueueUrl": queue, "Tags": {"t": random.below(9).to_string()}})),
        7 if random.below(8) == 0 => ("PurgeQueue", json!({"QueueUrl": queue})),
        8 if random.below(4) == 0 => (
            "StartMessageMoveTask",
            json!({"SourceArn": arn("dlq"), "DestinationArn": arn("other"), "MaxNumberOfMessagesPerSecond": 1}),
        ),
        9 => {
            client.advance(random.below(15));
            return;
        }
        _ => {
            let messages =
                client.receive_hiding(queue, Some(u32::try_from(random.below(20)).unwrap())).await;
            handles.extend(messages.into_iter().map(|message| message["ReceiptHandle"].clone()));
            return;
        }
    };
    // A refused operation must not change the state either.
    let _ = client.call(operation, request).await;
}

#[tokio::test]
async fn replaying_the_journal_restores_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = open(dir.path(), &clock());
    let policy = json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 2}).to_string();
    client.sqs.ensure_queue("dlq", &[("MessageRetentionPeriod", "200")]).unwrap();
    client.sqs.ensure_queue("q", &[("RedrivePolicy", &policy)]).unwrap();
    client.sqs.ensure_queue("other", &[("MessageRetentionPeriod", "90")]).unwrap();
    let (mut random, mut handles) = (Random(1), Vec::new());
    for _ in 0..20 {
        for _ in 0..50 {
            one_step(&client, &mut random, &mut handles).await;
        }
        let before = state(&client);
        client = reopen(client, dir.path());
        assert_eq!(state(&client), before);
    }
    let finished = client.sqs.lock().tasks.iter().any(|task| task.moved > 0);
    assert!(finished, "the random operations include a move task");
}

#[tokio::test]
async fn incomplete_last_line_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let client = open(dir.path(), &clock());
    client.sqs.ensure_queue("q", &[]).unwrap();
    client.send("q", "1").await;
    let whole = fs::metadata(journal(dir.path())).unwrap().len();
    client.send("q", "2").await;
    drop(client);
    let bytes = fs::read(journal(dir.path())).unwrap();
    for length in [usize::try_from(whole).unwrap() + 1, bytes.len() - 1] {
        fs::write(journal(dir.path()), &bytes[..length]).unwrap();
        let client = open(dir.path(), &clock());
        assert_eq!(bodies(&client.receive("q").await), ["1"]);
        // What is written now does not follow the incomplete line.
        client.send("q", "3").await;
        assert_eq!(reopen(client, dir.path()).depth("q"), (1, 1, 0));
    }
}

#[tokio::test]
async fn damage_is_reported_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let client = open(dir.path(), &clock());
    client.sqs.ensure_queue("q", &[]).unwrap();
    client.send("q", "first").await;
    client.send("q", "second").await;
    drop(client);
    let good = fs::read_to_string(journal(dir.path())).unwrap();
    let offset = good.lines().take(3).map(|line| line.len() as u64 + 1).sum::<u64>();
    fs::write(journal(dir.path()), good.replace("first", "fir5t")).unwrap();
    let error = failure(dir.path());
    let OpenError::Damaged { line, offset: at, .. } = &error else { panic!("{error}") };
    assert_eq!((*line, *at), (4, offset));
    assert!(error.to_string().contains("queues.journal is damaged at line 4"), "{error}");
    assert!(fs::read_to_string(journal(dir.path())).unwrap().contains("fir5t"), "left as it was");

    // A line that is missing shows in the next one that needs it.
    let mut lines: Vec<&str> = good.lines().collect();
    lines.remove(2);
    let without_queue = lines.join("\n") + "\n";
    fs::write(journal(dir.path()), without_queue).unwrap();
    assert!(failure(dir.path()).to_string().contains("line 3"), "{}", failure(dir.path()));

    fs::write(journal(dir.path()), "something else\n").unwrap();
    assert!(failure(dir.path()).to_string().contains("line 1"));
}

#[tokio::test]
async fn journal_of_deleted_messages_is_compacted() {
    let dir = tempfile::tempdir().unwrap();
    let client = open(dir.path(), &clock());
    client.sqs.ensure_queue("q", &[]).unwrap();
    client.send("q", "kept").await;
    let large = "x".repeat(131_072);
    for _ in 0..9 {
        client.send("q", &large).await;
        for message in client.receive_hiding("q", Some(0)).await {
            if message["Body"] != "kept" {
                client.delete(&message["ReceiptHandle"]).await;
            }
        }
    }
    let size = fs::metadata(journal(dir.path())).unwrap().len();
    assert!(size < 1_048_576, "{size} bytes for one short message");
    let client = reopen(client, dir.path());
    assert_eq!(bodies(&client.receive("q").await), ["kept"]);
    assert!(fs::metadata(journal(dir.path())).unwrap().len() < 2_000);
}
