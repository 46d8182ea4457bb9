//! Publishers and users: what they do, and what they may expect of the answer they get.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use webhooks_api::testing::Call;
use webhooks_core::delivery::Delivery;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::time::Timestamp;

use crate::executor::lock;
use crate::functions::{ask, clean};
use crate::plan::{Action, TYPES};
use crate::world::{Function, Invocation, World};

/// A change that a user was told is done must stand in the table at that moment.
const DONE: &str = "what a user was told is done is done";

/// The user of this number.
pub(crate) fn user(number: usize) -> String {
    format!("user-{number}")
}

fn event_name(number: usize) -> &'static str {
    TYPES.get(number).copied().unwrap_or(TYPES[0])
}

/// Does what somebody outside does.
pub(crate) fn act(world: &Arc<World>, number: usize, action: &Action) {
    world.log(|| format!("{action:?}"));
    match *action {
        Action::Publish { user, event_type, named, twice } => {
            publish(world, number, (user, event_name(event_type)), named);
            if twice {
                publish(world, number, (user, event_name(event_type)), named);
            }
        }
        Action::PublishBad(kind) => publish_bad(world, kind),
        Action::Create { user } => create(world, user, number, 3),
        Action::Cleanup => {
            clean(world, Duration::from_millis(10 + world.random.below(2_000)));
        }
        Action::Test { user } => with_webhook(world, Function::Test, user, test),
        Action::Redeliver { user } => redeliver(world, user),
        Action::Delete { user } => with_webhook(world, Function::Api, user, delete),
        Action::Rotate { user } => {
            with_webhook(world, Function::Api, user, |world, invocation, (user, id)| async move {
                let route = "POST /api/webhooks/{id}/rotate-secret";
                let call = Call::to(route).by(&user).with("id", id.as_str());
                ask(&world, &invocation, &call).await;
            });
        }
        Action::Pause { user } => patch(world, user, json!({"is_active": false})),
        Action::Resume { user } => patch(world, user, json!({"is_active": true})),
        Action::ChangeUrl { user } => {
            patch(world, user, json!({"url": format!("https://r{number}.example/moved")}));
        }
        Action::ChangeRetries { user, retries } => {
            patch(world, user, json!({"retry_count": retries}));
        }
        Action::ChangeTypes { user, event_type } => {
            patch(world, user, json!({"event_types": [event_name(event_type)]}));
        }
    }
}

fn publish(world: &World, number: usize, (who, event_type): (usize, &'static str), named: bool) {
    let (now, user) = (world.now(), user(who));
    let data = json!({ "n": number }).to_string();
    let mut body = json!({ "event_type": event_type, "user_id": user, "data": {"n": number} });
    if named {
        body["event_id"] = format!("event-{number}").into();
        body["occurred_at"] = now.to_string().into();
    }
    let whims = world.faults().queue();
    let message = lock(&world.events).send(body.to_string(), 0, now, whims, &world.random);
    let id = if named { format!("event-{number}") } else { message };
    if let Ok(owner) = user.parse::<UserId>() {
        lock(&world.model).published(id, owner, event_type, data, now);
    }
}

/// Bodies that can never be an event.
pub(crate) const BAD: [&str; 4] = [
    "not json",
    r#"{"event_type":"no.such.type","user_id":"user-0","data":{}}"#,
    r#"{"event_type":"task.created","data":{}}"#,
    r#"{"event_type":"task.created","user_id":"user-0"}"#,
];

fn publish_bad(world: &World, kind: usize) {
    let body = BAD.get(kind).copied().unwrap_or(BAD[0]).to_owned();
    let whims = world.faults().queue();
    lock(&world.events).send(body.clone(), 0, world.now(), whims, &world.random);
    lock(&world.model).bad.push(body);
}

/// A user makes a webhook.
pub(crate) fn create(world: &Arc<World>, who: usize, number: usize, retries: u64) {
    let shared = Arc::clone(world);
    world.invoke(Function::Api, |invocation| {
        Box::pin(async move { create_as(&shared, &invocation, who, number, retries).await })
    });
}

pub(crate) async fn create_as(
    world: &Arc<World>,
    invocation: &Arc<Invocation>,
    who: usize,
    number: usize,
    retries: u64,
) {
    let wanted = if number.is_multiple_of(3) { &TYPES[..] } else { &TYPES[number % 3..][..1] };
    let timeout = [1, 10, 60][number % 3];
    let body = json!({
        "url": format!("https://r{number}.example/hook"),
        "event_types": wanted,
        "retry_count": retries,
        "timeout_seconds": timeout,
    });
    let user = user(who);
    let reply = ask(world, invocation, &Call::to("POST /api/webhooks").by(&user).body(&body)).await;
    if reply.status() == 201 {
        let json = reply.json();
        let id = json["id"].as_str().and_then(|id| id.parse::<SubscriptionId>().ok());
        let mut model = lock(&world.model);
        if !id.as_ref().is_some_and(|id| model.subscriptions.contains_key(id)) {
            model.violate(DONE, || format!("{id:?} was created"));
        }
    }
}

/// A webhook that the user has now, if any.
fn webhook_of(world: &World, who: usize) -> Option<(String, SubscriptionId)> {
    let user = user(who);
    let owner: UserId = user.parse().ok()?;
    let now = world.now();
    let model = lock(&world.model);
    let mut ids: Vec<SubscriptionId> =
        model.subscriptions_at(&owner, now).into_iter().map(|webhook| webhook.id).collect();
    let at = usize::try_from(world.random.below(ids.len() as u64)).ok()?;
    (at < ids.len()).then(|| (user, ids.swap_remove(at)))
}

/// Calls the API for one of the user's webhooks.
fn with_webhook<F>(
    world: &Arc<World>,
    function: Function,
    who: usize,
    job: impl FnOnce(Arc<World>, Arc<Invocation>, (String, SubscriptionId)) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Some(webhook) = webhook_of(world, who) else { return };
    let shared = Arc::clone(world);
    world.invoke(function, |invocation| Box::pin(job(shared, invocation, webhook)));
}

async fn delete(
    world: Arc<World>,
    invocation: Arc<Invocation>,
    (user, id): (String, SubscriptionId),
) {
    let call = Call::to("DELETE /api/webhooks/{id}").by(&user).with("id", id.as_str());
    let reply = ask(&world, &invocation, &call).await;
    let now = world.now();
    let mut model = lock(&world.model);
    if reply.status() == 204 && !model.was(&id, now, now, |webhook| webhook.is_none()) {
        model.violate(DONE, || format!("{id} was deleted"));
    }
}

fn patch(world: &Arc<World>, who: usize, body: Value) {
    with_webhook(world, Function::Api, who, |world, invocation, (user, id)| async move {
        let began = world.now();
        let call = Call::to("PATCH /api/webhooks/{id}").by(&user).with("id", id.as_str());
        let reply = ask(&world, &invocation, &call.body(&body)).await;
        if reply.status() == 200 {
            check_patch(&world, &id, &body, began);
        }
    });
}

fn check_patch(world: &World, id: &SubscriptionId, body: &Value, began: Timestamp) {
    let now = world.now();
    let mut model = lock(&world.model);
    let stands = model.was(id, began, now, |webhook| {
        webhook.is_some_and(|webhook| {
            let types: Vec<&str> = webhook.event_types.iter().map(|known| known.name()).collect();
            let all = json!({
                "is_active": webhook.is_active, "url": webhook.url,
                "retry_count": webhook.retry_count, "event_types": types,
            });
            body.as_object().is_none_or(|body| body.iter().all(|(name, v)| all[name] == *v))
        })
    });
    if !stands {
        model.violate(DONE, || format!("{body} of {id}"));
    }
}

async fn test(
    world: Arc<World>,
    invocation: Arc<Invocation>,
    (user, id): (String, SubscriptionId),
) {
    let call = Call::to("POST /api/webhooks/{id}/test").by(&user).with("id", id.as_str());
    let reply = ask(&world, &invocation, &call).await;
    if reply.status() != 200 {
        return;
    }
    let json = reply.json();
    let (now, success) = (world.now(), json["success"] == true);
    let name = json["delivery_id"].as_str().and_then(|id| id.parse().ok());
    let mut model = lock(&world.model);
    let record = name.and_then(|name| model.delivery_at(&name, now));
    let deleted = model.was(&id, world.plan.start, now, |webhook| webhook.is_none());
    if !deleted && record.is_none_or(|record| success != succeeded(&record)) {
        model.violate("the answer to a test stands in the history", || json.to_string());
    }
}

fn succeeded(record: &Delivery) -> bool {
    record.status == webhooks_core::delivery::Status::Success
}

/// A user asks for the newest delivery of a webhook again.
fn redeliver(world: &Arc<World>, who: usize) {
    with_webhook(world, Function::Api, who, |world, invocation, (user, id)| async move {
        let list = Call::to("GET /api/webhooks/{id}/deliveries").by(&user).with("id", id.as_str());
        let reply = ask(&world, &invocation, &list.query("limit=1")).await;
        if reply.status() != 200 {
            return;
        }
        let json = reply.json();
        let newest = &json["items"][0];
        let (Some(name), Some(event)) = (newest["id"].as_str(), newest["event_id"].as_str()) else {
            return;
        };
        *lock(&world.model).repeats.entry((event.to_owned(), id.clone())).or_default() += 1;
        let asked = world.now();
        let route = "POST /api/webhooks/{id}/deliveries/{delivery_id}/redeliver";
        let call = Call::to(route).by(&user).with("id", id.as_str()).with("delivery_id", name);
        let reply = ask(&world, &invocation, &call).await;
        if reply.status() == 202 {
            let json = reply.json();
            let again = json["id"].as_str().and_then(|id| id.parse().ok());
            if let Some(again) = again {
                lock(&world.model).promised.push((again, id, asked));
            }
        }
    });
}
