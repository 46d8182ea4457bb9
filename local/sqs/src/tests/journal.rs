use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Desk, ManualClock, arn, bodies, clock, text};
use crate::{OpenError, Sqs};

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Desk {
    let sqs = Sqs::open(dir, Arc::clone(clock) as _, "us-east-1").unwrap();
    Desk { sqs: Arc::new(sqs), clock: Arc::clone(clock) }
}

/// Nothing is done at the end of a process: what `kill -9` leaves is what dropping leaves.
fn reopen(desk: Desk, dir: &Path) -> Desk {
    let clock = Arc::clone(&desk.clock);
    drop(desk);
    open(dir, &clock)
}

/// All there is to know, after what is due has happened.
fn state(desk: &Desk) -> Vec<String> {
    let snapshot = desk.sqs.transact(|state, _| {
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
async fn messages_survive_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path(), &clock());
    desk.sqs.ensure_queue("q", &[("VisibilityTimeout", "7")]).unwrap();
    let attributes = json!({"b": {"DataType": "Binary", "BinaryValue": "AAEC"}});
    desk.send("q", "hidden").await;
    let hidden = desk.receive("q").await.remove(0);
    let retry =
        json!({"QueueUrl": "q", "ReceiptHandle": hidden["ReceiptHandle"], "VisibilityTimeout": 60});
    desk.ok("ChangeMessageVisibility", retry).await;
    let visible =
        json!({"QueueUrl": "q", "MessageBody": "visible é\n", "MessageAttributes": attributes});
    desk.ok("SendMessage", visible).await;
    desk.ok("SendMessage", json!({"QueueUrl": "q", "MessageBody": "late", "DelaySeconds": 30}))
        .await;

    let desk = reopen(desk, dir.path());
    assert_eq!(desk.depth("q"), (1, 1, 1));
    assert_eq!(desk.attribute("q", "VisibilityTimeout").await, "7");
    let messages = desk.receive_hiding("q", Some(900)).await;
    assert_eq!(bodies(&messages), ["visible é\n"]);
    assert_eq!(messages[0]["MessageAttributes"], attributes);

    let desk = reopen(desk, dir.path());
    desk.seconds_pass(30);
    assert_eq!(bodies(&desk.receive_hiding("q", Some(900)).await), ["late"]);
    desk.seconds_pass(30);
    let again = desk.receive("q").await.remove(0);
    assert_eq!(again["MessageId"], hidden["MessageId"]);
    assert_eq!(text(&again["Attributes"], "ApproximateReceiveCount"), "2");
}

#[tokio::test]
async fn handles_of_the_last_run_still_work() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path(), &clock());
    desk.sqs.ensure_queue("q", &[]).unwrap();
    desk.send("q", "x").await;
    let handle = desk.receive("q").await[0]["ReceiptHandle"].clone();
    let desk = reopen(desk, dir.path());
    desk.ok("DeleteMessage", json!({"QueueUrl": "q", "ReceiptHandle": handle})).await;
    assert_eq!(desk.depth("q"), (0, 0, 0));
    let desk = reopen(desk, dir.path());
    assert_eq!(desk.depth("q"), (0, 0, 0));
}

/// A small generator of numbers that are the same in every run (Knuth's constants).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One operation of a long random story about `q`, `dlq` and `other`.
async fn one_step(desk: &Desk, dice: &mut Dice, handles: &mut Vec<Value>) {
    let queue = ["q", "q", "dlq", "other"][usize::try_from(dice.roll(4)).unwrap()];
    let handle = |dice: &mut Dice| match handles.len() as u64 {
        0 => json!("none"),
        len => handles[usize::try_from(dice.roll(len)).unwrap()].clone(),
    };
    let (operation, request) = match dice.roll(12) {
        0..=3 => (
            "SendMessage",
            json!({"QueueUrl": queue, "MessageBody": "x", "DelaySeconds": dice.roll(20)}),
        ),
        4 => ("DeleteMessage", json!({"QueueUrl": queue, "ReceiptHandle": handle(dice)})),
        5 => (
            "ChangeMessageVisibility",
            json!({"QueueUrl": queue, "ReceiptHandle": handle(dice), "VisibilityTimeout": dice.roll(30)}),
        ),
        6 => ("TagQueue", json!({"QueueUrl": queue, "Tags": {"t": dice.roll(9).to_string()}})),
        7 if dice.roll(8) == 0 => ("PurgeQueue", json!({"QueueUrl": queue})),
        8 if dice.roll(4) == 0 => (
            "StartMessageMoveTask",
            json!({"SourceArn": arn("dlq"), "DestinationArn": arn("other"), "MaxNumberOfMessagesPerSecond": 1}),
        ),
        9 => {
            desk.seconds_pass(dice.roll(15));
            return;
        }
        _ => {
            let messages =
                desk.receive_hiding(queue, Some(u32::try_from(dice.roll(20)).unwrap())).await;
            handles.extend(messages.into_iter().map(|message| message["ReceiptHandle"].clone()));
            return;
        }
    };
    // Refusals are part of the story: they must leave no trace either.
    let _ = desk.call(operation, request).await;
}

#[tokio::test]
async fn replaying_leads_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = open(dir.path(), &clock());
    let policy = json!({"deadLetterTargetArn": arn("dlq"), "maxReceiveCount": 2}).to_string();
    desk.sqs.ensure_queue("dlq", &[("MessageRetentionPeriod", "200")]).unwrap();
    desk.sqs.ensure_queue("q", &[("RedrivePolicy", &policy)]).unwrap();
    desk.sqs.ensure_queue("other", &[("MessageRetentionPeriod", "90")]).unwrap();
    let (mut dice, mut handles) = (Dice(1), Vec::new());
    for _ in 0..20 {
        for _ in 0..50 {
            one_step(&desk, &mut dice, &mut handles).await;
        }
        let before = state(&desk);
        desk = reopen(desk, dir.path());
        assert_eq!(state(&desk), before);
    }
    let finished = desk.sqs.lock().tasks.iter().any(|task| task.moved > 0);
    assert!(finished, "the story has a move task in it");
}

#[tokio::test]
async fn a_torn_last_line_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path(), &clock());
    desk.sqs.ensure_queue("q", &[]).unwrap();
    desk.send("q", "1").await;
    let whole = fs::metadata(journal(dir.path())).unwrap().len();
    desk.send("q", "2").await;
    drop(desk);
    let bytes = fs::read(journal(dir.path())).unwrap();
    for length in [usize::try_from(whole).unwrap() + 1, bytes.len() - 1] {
        fs::write(journal(dir.path()), &bytes[..length]).unwrap();
        let desk = open(dir.path(), &clock());
        assert_eq!(bodies(&desk.receive("q").await), ["1"]);
        // What is written now does not end up behind the torn line.
        desk.send("q", "3").await;
        assert_eq!(reopen(desk, dir.path()).depth("q"), (1, 1, 0));
    }
}

#[tokio::test]
async fn damage_is_an_error_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path(), &clock());
    desk.sqs.ensure_queue("q", &[]).unwrap();
    desk.send("q", "first").await;
    desk.send("q", "second").await;
    drop(desk);
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
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path(), &clock());
    assert!(matches!(failure(dir.path()), OpenError::Locked { .. }));
    drop(desk);
    open(dir.path(), &clock());
}

#[tokio::test]
async fn a_journal_that_is_mostly_history_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open(dir.path(), &clock());
    desk.sqs.ensure_queue("q", &[]).unwrap();
    desk.send("q", "kept").await;
    let large = "x".repeat(131_072);
    for _ in 0..9 {
        desk.send("q", &large).await;
        for message in desk.receive_hiding("q", Some(0)).await {
            if message["Body"] != "kept" {
                let delete = json!({"QueueUrl": "q", "ReceiptHandle": message["ReceiptHandle"]});
                desk.ok("DeleteMessage", delete).await;
            }
        }
    }
    let size = fs::metadata(journal(dir.path())).unwrap().len();
    assert!(size < 1_048_576, "{size} bytes for one short message");
    let desk = reopen(desk, dir.path());
    assert_eq!(bodies(&desk.receive("q").await), ["kept"]);
    assert!(fs::metadata(journal(dir.path())).unwrap().len() < 2_000);
}
