//! What every POST is held to, as its receiver sees it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use test_support::TestSealer;
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::outbound::{HttpResult, OutboundRequest};
use webhooks_core::signature::SIGNATURE_HEADER;
use webhooks_core::signing_key::SigningKey;
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::harness::Function;
use crate::milestones::Milestone;
use crate::model::abuse::Attempt;
use crate::model::{Model, Said, Sent, Track, lagging};
use crate::rules::Rule;

/// How early an attempt may be: visibility timeouts count whole seconds.
const EARLY_MS: i64 = 1_000;
/// How late a retry may be when nothing fails and every response comes immediately.
const LATE_SECONDS: u64 = 10;
/// How long before a POST arrives its signature may have been made, in milliseconds: requests that
/// are slow take four seconds.
const SIGNED_BEFORE_MS: i64 = 5_000;

/// A POST on its way.
pub(crate) struct Posted<'a> {
    pub(crate) invocation: u64,
    pub(crate) request: &'a OutboundRequest,
    pub(crate) response: &'a HttpResult,
    /// How long the response takes.
    pub(crate) took: Duration,
}

/// The body that receivers get.
#[derive(Deserialize)]
struct Body<'a> {
    event_id: String,
    event_type: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The `data` of an operational event.
#[derive(Deserialize)]
struct About {
    webhook_id: SubscriptionId,
}

/// What a receiver reads in a POST.
struct Post<'a> {
    url: &'a str,
    id: DeliveryId,
    number: u32,
    body: Body<'a>,
    signed: Signed<'a>,
    request: &'a OutboundRequest,
}

/// What a POST is signed with.
#[derive(Clone, Copy)]
struct Signed<'a> {
    id: &'a str,
    timestamp: i64,
    standard: &'a str,
    reference: Option<&'a str>,
    body: &'a str,
}

impl<'a> Post<'a> {
    fn read(request: &'a OutboundRequest) -> Option<Self> {
        let header = |name| {
            let mut headers = request.headers.iter();
            headers.find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
        };
        let id = header("webhook-id")?;
        Some(Self {
            url: request.url.as_str(),
            id: header("x-webhook-delivery-id")?.parse().ok()?,
            number: header("x-webhook-attempt")?.parse().ok()?,
            body: serde_json::from_str(&request.body).ok()?,
            signed: Signed {
                id,
                timestamp: header("webhook-timestamp")?.parse().ok()?,
                standard: header("webhook-signature")?,
                reference: header(SIGNATURE_HEADER),
                body: &request.body,
            },
            request,
        })
    }
}

impl Signed<'_> {
    /// Whether it is signed with exactly the secrets of this version that sign at its moment: each
    /// in Standard Webhooks' header, the newest in the reference's.
    fn is_by(self, subscription: &Subscription) -> bool {
        let signing = |at| subscription.signing_secrets(&TestSealer, at);
        // The header counts whole seconds; within that second a secret may have run out.
        let from = Timestamp::from_seconds(self.timestamp);
        let to = Timestamp::from_millis(from.millis() + 999);
        let (Ok(may), Ok(must)) = (signing(from), signing(to)) else { return false };
        if may.current.reference_signature(self.body).as_deref() != self.reference {
            return false;
        }
        let mut given = self.standard.split(' ');
        let standard =
            |key: &SigningKey| key.standard_signature(self.id, self.timestamp, self.body);
        let fitting =
            may.iter().map_while(|secret| (given.next()? == standard(secret)).then_some(()));
        fitting.count() >= must.iter().count() && given.next().is_none()
    }
}

impl Model {
    /// A POST was sent.
    pub(crate) fn posted(&mut self, now: Timestamp, posted: &Posted<'_>) -> Option<DeliveryId> {
        let Posted { invocation, request, response, took } = *posted;
        let Some(post) = Post::read(request) else {
            self.violate(Rule::PostWhole, || format!("{request:?}"));
            return None;
        };
        let (began, function) = match self.calls.get(&invocation) {
            Some(call) => (call.began, call.function),
            None => (now, Function::Deliver),
        };
        let window = (lagging(began), now);
        let Some(subscription) = self.whose(&post, window) else {
            self.violate(Rule::UrlKnown, || post.url.to_owned());
            return None;
        };
        self.check_event(&post, &subscription);
        self.check_body(&post);
        self.check_name(&post, &subscription);
        self.check_subscription(&post, &subscription, window, function);
        self.check_record(&post, window);
        if function == Function::Deliver {
            let attempt = Attempt {
                subscription: &subscription,
                event: &post.body.event_id,
                number: post.number,
                url: post.url,
            };
            self.check_isolation(&attempt, invocation, window);
            self.check_rate(&subscription, window);
            self.probe(&subscription, &post.id, invocation, window);
        }

        let said = Said::of(&response.outcome);
        let track = self.track(&post.id, &subscription);
        if track.body.is_empty() {
            track.body.clone_from(&request.body);
        }
        let same = track.body == request.body;
        track.posts += 1;
        track.flying.push((invocation, post.number));
        track.got_2xx += u32::from(said.is_2xx());
        if said.is_410() {
            track.got_410.get_or_insert((now, post.url.to_owned()));
        }
        if track.posts > track.unrecorded + post.number {
            self.reach(Milestone::Doubled);
        }
        if !same {
            self.violate(Rule::SameBody, || post.id.to_string());
        }
        // A test neither disables a webhook nor shows that its endpoint is healthy.
        if function != Function::Test {
            self.endpoint_responded(&subscription, said, now);
        }
        if let Some(call) = self.calls.get_mut(&invocation) {
            let delivery = post.id.clone();
            let (url, responded) = (post.url.to_owned(), now.plus(took));
            call.sent.push(Sent { delivery, subscription, url, said, began: now, responded });
        }
        self.check_host_concurrency(invocation, now);
        Some(post.id)
    }

    /// Whose POST it is: of several with this URL the one whose secret signed it.
    fn whose(
        &self,
        post: &Post<'_>,
        (from, now): (Timestamp, Timestamp),
    ) -> Option<SubscriptionId> {
        let owners = self.urls.get(post.url)?;
        if owners.len() == 1 {
            return owners.first().cloned();
        }
        let signed = |id: &&SubscriptionId| {
            self.was(id, from, now, |s| s.is_some_and(|s| post.signed.is_by(s)))
                || self.subscriptions.get(*id).is_some_and(|versions| {
                    versions.all.iter().flat_map(|(_, s)| s).any(|s| post.signed.is_by(s))
                })
        };
        owners.iter().find(signed).or(owners.first()).cloned()
    }

    fn check_event(&mut self, post: &Post<'_>, to: &SubscriptionId) {
        let body = &post.body;
        let owner = self.subscriptions.get(to).map(|versions| versions.user.clone());
        let problem = match self.events.get(&body.event_id) {
            // A test has a sample of its own, which its owner may ask for again.
            None if body.event_id.starts_with("test_") => None,
            // What the service tells about another webhook of the same owner.
            None if body.event_id.starts_with("op_") => {
                let about = serde_json::from_str::<About>(body.data.get()).ok();
                let about = about.map(|about| about.webhook_id).filter(|about| about != to);
                let user = about.and_then(|about| Some(&self.subscriptions.get(&about)?.user));
                (user.is_none() || user != owner.as_ref()).then_some(Rule::Told)
            }
            None => Some(Rule::OnlyPublished),
            Some(event) if Some(&event.owner) != owner.as_ref() => Some(Rule::OnlyOwner),
            Some(event) if event.event_type != body.event_type || event.data != body.data.get() => {
                Some(Rule::Unchanged)
            }
            Some(_) => None,
        };
        if let Some(rule) = problem {
            self.violate(rule, || format!("{} to {to}", body.event_id));
        }
    }

    /// The body has the time of the event, which is a part of the `webhook-id`, too.
    fn check_body(&mut self, post: &Post<'_>) {
        let body = &post.request.body;
        let is_same = self.events.get_mut(&post.body.event_id).is_none_or(|event| {
            if event.body.is_empty() {
                event.body.clone_from(body);
            }
            event.body == *body
        });
        if !is_same {
            self.violate(Rule::SameBody, || post.id.to_string());
        }
    }

    fn check_name(&mut self, post: &Post<'_>, subscription: &SubscriptionId) {
        let event = &post.body.event_id;
        let key = (event.clone(), subscription.clone());
        let recoveries = self.recoveries.get(subscription).copied().unwrap_or(0);
        let most = 1 + self.repeats.get(&key).copied().unwrap_or(0) + recoveries;
        let names = self.names.entry(key).or_default();
        if !names.contains(&post.id) {
            names.insert(post.id.clone());
        }
        let too_many = names.len() > most;
        let key = (event.clone(), subscription.clone());
        let message_id = self.message_ids.entry(key).or_insert_with(|| post.signed.id.to_owned());
        if too_many || message_id != post.signed.id {
            self.violate(Rule::SameId, || format!("{event}: {}", post.id));
        }
    }

    fn check_subscription(
        &mut self,
        post: &Post<'_>,
        subscription: &SubscriptionId,
        (from, now): (Timestamp, Timestamp),
        function: Function,
    ) {
        let was = |so: &dyn Fn(&Subscription) -> bool| {
            self.was(subscription, from, now, |s| s.is_some_and(so))
        };
        let is_test = function == Function::Test;
        let timeout = post.request.timeout;
        let seconds = (now.millis() - SIGNED_BEFORE_MS) / 1_000..=now.seconds();
        let rules = [
            (Rule::NotDeleted, was(&|_| true)),
            (Rule::UrlHolds, was(&|s| s.url == post.url)),
            (Rule::Signed, was(&|s| post.signed.is_by(s))),
            (Rule::Signed, seconds.contains(&post.signed.timestamp)),
            (Rule::Timed, is_test || was(&|s| s.timeout() == timeout)),
            (Rule::NotPaused, is_test || was(&|s| s.is_active)),
            (
                Rule::BreakerHolds,
                is_test || was(&|s| s.health.open_until.is_none_or(|until| until <= now)),
            ),
        ];
        if post.signed.standard.contains(' ') {
            self.reach(Milestone::SignedTwice);
        }
        for (rule, _) in rules.into_iter().filter(|(_, holds)| !holds) {
            self.violate(rule, || format!("{} to {}", post.id, post.url));
        }
    }

    /// No second has more POSTs than the rate limit allows. A delivery whose message comes up to a second
    /// late uses its slot all the same, so those of two seconds may come together.
    fn check_rate(&mut self, id: &SubscriptionId, (from, now): (Timestamp, Timestamp)) {
        let posts = self.rates.entry(id.clone()).or_default();
        posts.push(now);
        let second = now.minus(Duration::from_millis(999));
        posts.retain(|at| *at >= second);
        let count = posts.len();
        let holds = self.was(id, from, now, |s| {
            s.is_some_and(|s| {
                let limit = s.rate_limit.map(|limit| limit.per_second() as usize);
                // A probe needs no slot.
                s.health.open_until.is_some() || limit.is_none_or(|limit| count <= 2 * limit)
            })
        });
        if self.is_fault_free && !holds {
            self.violate(Rule::RateHolds, || format!("{count} POSTs to {id} in a second"));
        }
    }

    fn check_record(&mut self, post: &Post<'_>, (from, now): (Timestamp, Timestamp)) {
        let Post { id, number, .. } = post;
        let Some(track) = self.tracks.get(id) else {
            if *number != 1 {
                self.violate(Rule::Numbered, || format!("{id}, attempt {number} before the first"));
            }
            return;
        };
        let due = track.versions.last().and_then(|(_, delivery)| delivery.next_retry_at);
        // The versions that the caller can have read. Before the first there was none.
        let first = track.versions.partition_point(|(since, _)| *since <= from);
        let none = first == 0;
        let seen = &track.versions[first.saturating_sub(1)..];
        let numbered = (none && *number == 1)
            || seen.iter().any(|(_, delivery)| delivery.attempt_count() + 1 == *number);
        // Every one of them says that it is too early.
        let early = |at: Timestamp| at.millis() > now.millis() + EARLY_MS;
        let all_wait =
            !none && seen.iter().all(|(_, delivery)| delivery.next_retry_at.is_some_and(early));
        let rules = [
            (track.ended.is_some_and(|ended| ended < from), Rule::NotEnded),
            (*number > 1 && track.flying.iter().any(|(_, other)| *other > 1), Rule::OneAtATime),
            (!numbered && track.ended.is_none(), Rule::Numbered),
            (all_wait, Rule::NotEarly),
            (
                // An abusive user may fill the queue of retries.
                self.is_fault_free
                    && self.abuser.is_none()
                    && due.is_some_and(|due| due.plus_seconds(LATE_SECONDS) < now),
                Rule::OnTime,
            ),
        ];
        for (_, rule) in rules.into_iter().filter(|(broken, _)| *broken) {
            self.violate(rule, || format!("{id}, attempt {number}, due {due:?}"));
        }
    }

    pub(super) fn track(&mut self, id: &DeliveryId, subscription: &SubscriptionId) -> &mut Track {
        self.tracks.entry(id.clone()).or_insert_with(|| Track {
            subscription: subscription.clone(),
            body: String::new(),
            posts: 0,
            unrecorded: 0,
            cleaned: 0,
            ended: None,
            flying: Vec::new(),
            got_2xx: 0,
            got_410: None,
            versions: Vec::new(),
            leased_until: None,
            sent_again: None,
        })
    }

    /// The URL that a webhook was given first.
    pub(crate) fn first_url(&self, id: &SubscriptionId) -> Option<String> {
        let mut versions = self.subscriptions.get(id)?.all.iter();
        versions.find_map(|(_, version)| version.as_ref().map(|version| version.url.clone()))
    }

    /// The receiver's response has come.
    pub(crate) fn responded(&mut self, number: u64, id: &DeliveryId, now: Timestamp) {
        if let Some(track) = self.tracks.get_mut(id)
            && let Some(at) = track.flying.iter().position(|(call, _)| *call == number)
        {
            track.flying.remove(at);
        }
        let Some(call) = self.calls.get_mut(&number) else { return };
        // If a batch has two copies, it is the one whose response took until now.
        let is_it = |sent: &&mut Sent| sent.delivery == *id && sent.responded == now;
        let Some(sent) = call.sent.iter_mut().find(is_it) else { return };
        let response =
            (sent.subscription.clone(), sent.url.clone(), sent.said.is_2xx(), sent.began);
        let is_delivery = call.function == Function::Deliver;
        if is_delivery && !sent.said.is_2xx() && !sent.said.is_410() {
            call.failed.push((sent.subscription.clone(), sent.began));
        }
        if let Some(versions) = self.subscriptions.get_mut(&sent.subscription) {
            versions.endpoint.probes.retain(|probe| probe != &(number, id.clone()));
        }
        if is_delivery {
            let (subscription, url, is_2xx, began) = response;
            self.check_response(&subscription, &url, is_2xx, (began, now));
        }
    }
}
