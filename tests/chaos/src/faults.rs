//! What goes wrong between the functions and AWS: by rates and a seed, each fault noted.
//!
//! Which call meets which fault depends on the order in which calls come in, so a seed repeats the
//! mixture, not the run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use test_support::SeededRandom;

use crate::lock;
use crate::relay::{Between, Call, Reaction, Upstream};
use crate::wire::{self, Split};

/// A call that is late is carried out after this long: longer than the functions' client waits for
/// a response, so that its next try comes first.
const LATE: Duration = Duration::from_millis(3_500);
/// The longest that a slow call is held up, in milliseconds.
const SLOW_MS_MAX: u64 = 400;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Status 500 or 503; nothing is done.
    ServerError,
    /// Throttled, as each service says it; nothing is done.
    Throttle,
    /// The connection is reset; nothing is done.
    ResetBefore,
    /// It is carried out, and the connection is reset in place of the response.
    ResetAfter,
    /// It is carried out, and the response ends in the middle.
    CutOff,
    /// It is carried out, but slowly.
    Slow,
    /// It is carried out long after the client has given up.
    Late,
    /// Some entries of a batch are refused, the others are carried out. Other calls are not changed.
    Partial,
}

impl Fault {
    /// Every fault that the services show.
    pub const ALL: [Self; 8] = [
        Self::ServerError,
        Self::Throttle,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::CutOff,
        Self::Slow,
        Self::Late,
        Self::Partial,
    ];

    /// In a few words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::ServerError => "returned 500 or 503",
            Self::Throttle => "throttled",
            Self::ResetBefore => "connection reset before it was carried out",
            Self::ResetAfter => "carried out, connection reset before the response",
            Self::CutOff => "carried out, response cut off in the middle",
            Self::Slow => "slow",
            Self::Late => "carried out after the client gave up",
            Self::Partial => "a part of the batch refused",
        }
    }
}

/// How often each fault happens, in thousandths of all calls.
pub type Rates = Vec<(Fault, u64)>;

/// A proxy's faults.
pub struct Faults {
    rates: Rates,
    random: SeededRandom,
    on: AtomicBool,
    calls: AtomicUsize,
    late: Arc<AtomicUsize>,
    happened: Mutex<BTreeMap<Fault, usize>>,
}

impl Faults {
    /// Faults by these rates.
    pub fn new(rates: Rates, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            rates,
            random: SeededRandom::new(seed),
            on: AtomicBool::new(true),
            calls: AtomicUsize::new(0),
            late: Arc::default(),
            happened: Mutex::default(),
        })
    }

    /// From now on nothing goes wrong.
    pub fn stop(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    /// Calls that came in.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Calls that are still to be carried out although their clients have given up.
    pub fn late(&self) -> usize {
        self.late.load(Ordering::Relaxed)
    }

    /// How often which fault happened.
    pub fn happened(&self) -> BTreeMap<Fault, usize> {
        lock(&self.happened).clone()
    }

    fn draw(&self) -> Option<Fault> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        let mut left = self.random.below(1000);
        for (fault, rate) in &self.rates {
            if left < *rate {
                return Some(*fault);
            }
            left -= rate;
        }
        None
    }

    fn note(&self, fault: Fault) {
        *lock(&self.happened).entry(fault).or_default() += 1;
    }

    async fn partial(&self, mut call: Call, upstream: &Upstream) -> Reaction {
        let random = &self.random;
        let Some(Split { passed, refused }) = wire::split(&call, |_| random.chance(500)) else {
            return whole(upstream.pass(call).await);
        };
        self.note(Fault::Partial);
        let response = match passed {
            Some(body) => {
                call.body = body;
                let response = upstream.pass(call).await;
                response.map(|response| wire::refuse(response, &refused))
            }
            None => Some(wire::refuse(wire::empty(), &refused)),
        };
        whole(response)
    }
}

impl Between for Faults {
    async fn call(&self, call: Call, upstream: &Upstream) -> Reaction {
        let Some(fault) = self.draw() else { return whole(upstream.pass(call).await) };
        match fault {
            Fault::Partial => return self.partial(call, upstream).await,
            _ => self.note(fault),
        }
        match fault {
            Fault::ServerError => {
                Reaction::Response(wire::server_error(call.service, self.random.chance(500)))
            }
            Fault::Throttle => {
                Reaction::Response(wire::throttle(call.service, self.random.chance(500)))
            }
            Fault::ResetAfter => {
                upstream.pass(call).await;
                Reaction::Reset
            }
            Fault::CutOff => match upstream.pass(call).await {
                Some(response) if response.body().len() > 1 => Reaction::Half(response),
                _ => Reaction::Reset,
            },
            Fault::Slow => {
                let wait = Duration::from_millis(self.random.below(SLOW_MS_MAX));
                tokio::time::sleep(wait).await;
                whole(upstream.pass(call).await)
            }
            Fault::Late => {
                // On its own, because the client hangs up before.
                let (upstream, late) = (upstream.clone(), Arc::clone(&self.late));
                late.fetch_add(1, Ordering::Relaxed);
                let passed = tokio::spawn(async move {
                    tokio::time::sleep(LATE).await;
                    let response = upstream.pass(call).await;
                    late.fetch_sub(1, Ordering::Relaxed);
                    response
                });
                whole(passed.await.ok().flatten())
            }
            Fault::ResetBefore | Fault::Partial => Reaction::Reset,
        }
    }
}

fn whole(response: Option<Response<Bytes>>) -> Reaction {
    response.map_or(Reaction::Reset, Reaction::Response)
}
