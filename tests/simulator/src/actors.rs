//! Publishers and users: what they do, and what they may expect of the response they get.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::TestSealer;
use webhooks_api::testing::TestRequest;
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::Delivery;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::executor::lock;
use crate::functions::{ask, clean};
use crate::harness::{Function, Harness, Invocation};
use crate::plan::{Action, TYPES};
use crate::receivers::ABUSIVE;
use crate::rules::Rule;

/// The user of this number.
pub(crate) fn user(number: usize) -> String {
    format!("user-{number}")
}

fn event_name(number: usize) -> &'static str {
    TYPES.get(number).copied().unwrap_or(TYPES[0])
}

/// Does what a user or a publisher does.
pub(crate) fn act(harness: &Arc<Harness>, number: usize, action: &Action) {
    harness.log(|| format!("{action:?}"));
    match *action {
        Action::Publish { user, event_type, named, twice } => {
            publish(harness, number, (user, event_name(event_type)), named);
            if twice {
                publish(harness, number, (user, event_name(event_type)), named);
            }
        }
        Action::PublishBad(kind) => publish_bad(harness, kind),
        Action::Create { user, then_published } => {
            create(harness, user, number, (3, then_published));
        }
        Action::Cleanup { days } => {
            clean(harness, days, Duration::from_millis(10 + harness.random.below(2_000)));
        }
        Action::CreateAbusive { user, webhooks } => create_abusive(harness, user, webhooks),
        Action::Test { user } => with_webhook(harness, Function::Test, user, test),
        Action::Redeliver { user } => redeliver(harness, user),
        Action::Recover { user, successes, cancelled } => {
            recover(harness, user, successes, cancelled);
        }
        Action::Delete { user } => with_webhook(harness, Function::Api, user, delete),
        Action::Rotate { user, overlap } => rotate(harness, user, overlap),
        Action::Pause { user } => patch(harness, user, json!({"is_active": false})),
        Action::Resume { user, then_published } => resume(harness, number, user, then_published),
        Action::ChangeUrl { user } => {
            patch(harness, user, json!({"url": format!("https://r{number}.example/moved")}));
        }
        Action::ChangeRetries { user, retries } => {
            patch(harness, user, json!({"retry_count": retries}));
        }
        Action::ChangeHolding { user, holds } => {
            let while_inactive = if holds { "hold" } else { "drop" };
            patch(harness, user, json!({"while_inactive": while_inactive}));
        }
        Action::ChangeTypes { user, event_type } => {
            patch(harness, user, json!({"event_types": [event_name(event_type)]}));
        }
    }
}

fn publish(
    harness: &Harness,
    number: usize,
    (who, event_type): (usize, &'static str),
    named: bool,
) {
    let (now, user) = (harness.now(), user(who));
    let data = json!({ "n": number }).to_string();
    let mut body = json!({ "event_type": event_type, "user_id": user, "data": {"n": number} });
    if named {
        body["event_id"] = format!("event-{number}").into();
        body["occurred_at"] = now.to_string().into();
    }
    let queue_faults = harness.faults().queue();
    let message =
        lock(&harness.events).send(body.to_string(), 0, now, queue_faults, &harness.random);
    let id = if named { format!("event-{number}") } else { message };
    if let Ok(owner) = user.parse::<UserId>() {
        lock(&harness.model).published(id, owner, event_type, data, now);
    }
}

/// Bodies that can never be an event.
pub(crate) const BAD: [&str; 4] = [
    "not json",
    r#"{"event_type":"no.such.type","user_id":"user-0","data":{}}"#,
    r#"{"event_type":"task.created","data":{}}"#,
    r#"{"event_type":"task.created","user_id":"user-0"}"#,
];

fn publish_bad(harness: &Harness, kind: usize) {
    let body = BAD.get(kind).copied().unwrap_or(BAD[0]).to_owned();
    let queue_faults = harness.faults().queue();
    lock(&harness.events).send(body.clone(), 0, harness.now(), queue_faults, &harness.random);
    lock(&harness.model).bad.push(body);
}

/// The rate limits of webhooks, by their number.
const RATE_LIMITS: [Option<u32>; 5] = [None, Some(1), None, Some(5), None];

/// A user makes a webhook.
fn create(harness: &Arc<Harness>, who: usize, number: usize, how: (u64, bool)) {
    let shared = Arc::clone(harness);
    harness.invoke(Function::Api, |invocation| {
        Box::pin(async move { create_as(&shared, &invocation, who, number, how).await })
    });
}

/// An abusive user makes many webhooks, one in three of which may take a minute.
fn create_abusive(harness: &Arc<Harness>, who: usize, webhooks: usize) {
    let has_one_url = harness.plan.abuse.is_some_and(|abuse| abuse.has_one_url);
    for number in 0..webhooks {
        let host = if has_one_url { 0 } else { number };
        let body = json!({
            "url": format!("{ABUSIVE}{host}.example/hook"),
            "event_types": TYPES,
            "timeout_seconds": if number % 3 == 2 { 60 } else { 10 },
        });
        let shared = Arc::clone(harness);
        harness.invoke(Function::Api, |invocation| {
            Box::pin(async move {
                let call = TestRequest::to("POST /api/webhooks");
                ask(&shared, &invocation, &call.by(&user(who)).body(&body)).await;
            })
        });
    }
}

/// Makes a webhook with this number of retries; an event that it wants follows immediately if it is
/// `then_published`.
pub(crate) async fn create_as(
    harness: &Arc<Harness>,
    invocation: &Arc<Invocation>,
    who: usize,
    number: usize,
    (retries, then_published): (u64, bool),
) {
    let wanted = if number.is_multiple_of(3) { &TYPES[..] } else { &TYPES[number % 3..][..1] };
    let timeout = [1, 10, 60][number % 3];
    // Some webhooks share an endpoint, which tells them apart by their secrets.
    let host = if harness.random.chance(200) { 999 } else { number };
    let operational = EventType::operational().map(EventType::name);
    // Some are told about the others of their owner.
    let told = operational.filter(|_| number.is_multiple_of(2));
    let types: Vec<&str> = wanted.iter().copied().chain(told).collect();
    let mut body = json!({
        "url": format!("https://r{host}.example/hook"),
        "event_types": types,
        "timeout_seconds": timeout,
        "rate_limit": RATE_LIMITS[number % RATE_LIMITS.len()],
        "while_inactive": if number.is_multiple_of(2) { "hold" } else { "drop" },
        "auto_recover": number % 4 < 2,
    });
    match number % 7 {
        _ if harness.options.outage => body["retry_schedule"] = json!("standard"),
        // Waits of each kind: in the queue hidden and delayed, and in the table.
        1 => body["retry_schedule"] = json!([3, 70, 1_000, 4_000]),
        2 => body["retry_schedule"] = json!("standard"),
        _ => body["retry_count"] = json!(retries),
    }
    let user = user(who);
    let reply =
        ask(harness, invocation, &TestRequest::to("POST /api/webhooks").by(&user).body(&body))
            .await;
    if reply.status() == 201 {
        check_secret(harness, &reply.json(), harness.now());
        if then_published {
            publish(harness, number, (who, wanted[0]), true);
        }
    }
}

/// The webhook that a user was shown is in the table, with the secret that came with it.
fn check_secret(harness: &Harness, shown: &Value, began: Timestamp) {
    let id = shown["id"].as_str().and_then(|id| id.parse::<SubscriptionId>().ok());
    let now = harness.now();
    let mut model = lock(&harness.model);
    let stands = id.as_ref().is_some_and(|id| {
        model.was(id, began, now, |webhook| {
            webhook.is_some_and(|webhook| {
                shown["secret"] == TestSealer.secrets_of(webhook)[0].expose()
            })
        })
    });
    if !stands {
        model.violate(Rule::Done, || format!("{id:?} with its secret"));
    }
}

fn rotate(harness: &Arc<Harness>, who: usize, overlap: Option<u64>) {
    with_webhook(harness, Function::Api, who, |harness, invocation, (user, id)| async move {
        let began = harness.now();
        let route = "POST /api/webhooks/{id}/rotate-secret";
        let mut call = TestRequest::to(route).by(&user).with("id", id.as_str());
        if let Some(seconds) = overlap {
            call = call.body(&json!({"overlap_seconds": seconds}));
        }
        let reply = ask(&harness, &invocation, &call).await;
        if reply.status() == 200 {
            check_secret(&harness, &reply.json(), began);
        }
    });
}

/// A webhook that the user has now, if any; rather one that is `preferred`.
fn webhook_of(
    harness: &Harness,
    who: usize,
    preferred: fn(&Subscription) -> bool,
) -> Option<(String, SubscriptionId)> {
    let user = user(who);
    let owner: UserId = user.parse().ok()?;
    let now = harness.now();
    let mut webhooks = lock(&harness.model).subscriptions_at(&owner, now);
    if webhooks.iter().any(preferred) {
        webhooks.retain(preferred);
    }
    let at = usize::try_from(harness.random.below(webhooks.len() as u64)).ok()?;
    (at < webhooks.len()).then(|| (user, webhooks.swap_remove(at).id))
}

/// Calls the API for one of the user's webhooks.
fn with_webhook<F>(
    harness: &Arc<Harness>,
    function: Function,
    who: usize,
    job: impl FnOnce(Arc<Harness>, Arc<Invocation>, (String, SubscriptionId)) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(webhook) = webhook_of(harness, who, |_| true) else { return };
    let shared = Arc::clone(harness);
    harness.invoke(function, |invocation| Box::pin(job(shared, invocation, webhook)));
}

async fn delete(
    harness: Arc<Harness>,
    invocation: Arc<Invocation>,
    (user, id): (String, SubscriptionId),
) {
    let call = TestRequest::to("DELETE /api/webhooks/{id}").by(&user).with("id", id.as_str());
    let reply = ask(&harness, &invocation, &call).await;
    let now = harness.now();
    let mut model = lock(&harness.model);
    if reply.status() == 204 && !model.was(&id, now, now, |webhook| webhook.is_none()) {
        model.violate(Rule::Done, || format!("{id} was deleted"));
    }
}

fn patch(harness: &Arc<Harness>, who: usize, body: Value) {
    with_webhook(harness, Function::Api, who, |harness, invocation, (user, id)| async move {
        let began = harness.now();
        let call = TestRequest::to("PATCH /api/webhooks/{id}").by(&user).with("id", id.as_str());
        let reply = ask(&harness, &invocation, &call.body(&body)).await;
        if reply.status() == 200 {
            check_patch(&harness, &id, &body, began);
        }
    });
}

/// Activates a webhook, rather one that is not active.
fn resume(harness: &Arc<Harness>, number: usize, who: usize, then_published: bool) {
    let Some((user, id)) = webhook_of(harness, who, |webhook| !webhook.is_active) else { return };
    let shared = Arc::clone(harness);
    harness.invoke(Function::Api, |invocation| {
        Box::pin(async move {
            let began = shared.now();
            let body = json!({"is_active": true});
            let call =
                TestRequest::to("PATCH /api/webhooks/{id}").by(&user).with("id", id.as_str());
            let reply = ask(&shared, &invocation, &call.body(&body)).await;
            if reply.status() != 200 {
                return;
            }
            check_patch(&shared, &id, &body, began);
            let wanted = TYPES.iter().find(|name| reply.json()["event_types"][0] == **name);
            if let Some(wanted) = wanted.filter(|_| then_published) {
                publish(&shared, number, (who, wanted), true);
            }
        })
    });
}

fn check_patch(harness: &Harness, id: &SubscriptionId, body: &Value, began: Timestamp) {
    let now = harness.now();
    let mut model = lock(&harness.model);
    let stands = model.was(id, began, now, |webhook| {
        webhook.is_some_and(|webhook| {
            let all = json!({
                "is_active": webhook.is_active, "url": webhook.url,
                "retry_count": webhook.retry_schedule.retry_count(), "event_types": webhook.event_types,
                "while_inactive": webhook.while_inactive,
            });
            body.as_object().is_none_or(|body| body.iter().all(|(name, v)| all[name] == *v))
        })
    });
    if !stands {
        model.violate(Rule::Done, || format!("{body} of {id}"));
    }
}

async fn test(
    harness: Arc<Harness>,
    invocation: Arc<Invocation>,
    (user, id): (String, SubscriptionId),
) {
    let call = TestRequest::to("POST /api/webhooks/{id}/test").by(&user).with("id", id.as_str());
    let reply = ask(&harness, &invocation, &call).await;
    if reply.status() != 200 {
        return;
    }
    let json = reply.json();
    let (now, success) = (harness.now(), json["success"] == true);
    let name = json["delivery_id"].as_str().and_then(|id| id.parse().ok());
    let mut model = lock(&harness.model);
    let record = name.and_then(|name| model.delivery_at(&name, now));
    let deleted = model.was(&id, harness.plan.start, now, |webhook| webhook.is_none());
    if !deleted && record.is_none_or(|record| success != succeeded(&record)) {
        model.violate(Rule::TestStands, || json.to_string());
    }
}

fn succeeded(record: &Delivery) -> bool {
    record.status == webhooks_core::delivery::Status::Success
}

/// A user asks for one of the newest deliveries of a webhook again.
fn redeliver(harness: &Arc<Harness>, who: usize) {
    with_webhook(harness, Function::Api, who, |harness, invocation, (user, id)| async move {
        let list =
            TestRequest::to("GET /api/webhooks/{id}/deliveries").by(&user).with("id", id.as_str());
        let reply = ask(&harness, &invocation, &list.query("limit=5")).await;
        if reply.status() != 200 {
            return;
        }
        let json = reply.json();
        let items = json["items"].as_array().map_or(0, Vec::len);
        let one = usize::try_from(harness.random.below(items as u64)).unwrap_or(0);
        let one = &json["items"][one];
        let (Some(name), Some(event)) = (one["id"].as_str(), one["event_id"].as_str()) else {
            return;
        };
        *lock(&harness.model).repeats.entry((event.to_owned(), id.clone())).or_default() += 1;
        let asked = harness.now();
        let route = "POST /api/webhooks/{id}/deliveries/{delivery_id}/redeliver";
        let call =
            TestRequest::to(route).by(&user).with("id", id.as_str()).with("delivery_id", name);
        let reply = ask(&harness, &invocation, &call).await;
        if reply.status() == 202 {
            let json = reply.json();
            let again = json["id"].as_str().and_then(|id| id.parse().ok());
            if let Some(again) = again {
                lock(&harness.model).promised.push((again, id, asked));
            }
        }
    });
}

/// A user asks for a recovery of everything that failed, or that succeeded, looks at it, and cancels
/// it if it is to be `cancelled`.
fn recover(harness: &Arc<Harness>, who: usize, successes: bool, cancelled: bool) {
    with_webhook(harness, Function::Api, who, move |harness, invocation, (user, id)| async move {
        *lock(&harness.model).recoveries.entry(id.clone()).or_default() += 1;
        let to = |route| TestRequest::to(route).by(&user).with("id", id.as_str());
        let status = if successes { "success" } else { "failed" };
        let body = json!({"since": harness.plan.start.to_string(), "status": status});
        let reply =
            ask(&harness, &invocation, &to("POST /api/webhooks/{id}/recoveries").body(&body)).await;
        if reply.status() != 202 {
            return;
        }
        ask(&harness, &invocation, &to("GET /api/webhooks/{id}/recoveries")).await;
        let json = reply.json();
        let name = json["id"].as_str().unwrap_or_default();
        let one = |route| to(route).with("recovery_id", name);
        ask(&harness, &invocation, &one("GET /api/webhooks/{id}/recoveries/{recovery_id}")).await;
        if cancelled {
            let cancel = one("DELETE /api/webhooks/{id}/recoveries/{recovery_id}");
            ask(&harness, &invocation, &cancel).await;
        }
    });
}
