//! Stores and queues that fail by a plan.
//!
//! A [`Plan`] looks at each call that is made through it and says whether it fails, and whether
//! that happens before or after the effect: a request that was carried out although its answer
//! got lost is the failure that is easiest to forget. Several wrappers may share one plan, so
//! that a test can let the `n`th call of a whole handler fail, for each `n` in turn:
//!
//! ```
//! # use test_support::faulty::{Fault, Faulty, Plan};
//! # use test_support::{MemorySubscriptions, MemoryTaskQueue};
//! for n in 1..=10 {
//!     let plan = Plan::nth(n, Fault::After);
//!     let table = Faulty::new(MemorySubscriptions::default(), &plan);
//!     let queue = Faulty::new(MemoryTaskQueue::default(), &plan);
//!     // Run the handler, then run it again without faults: nothing may be lost.
//!     if plan.calls() < n {
//!         break; // It makes no more calls than that.
//!     }
//! }
//! ```

mod ports;

use std::fmt;
use std::sync::{Arc, Mutex};

use webhooks_core::ports::{QueueError, StoreError};

use crate::{SeededRandom, lock};

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done.
    Before,
    /// It was done, but the caller does not learn it.
    After,
}

/// A call that a plan decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Counts the calls through the plan, from 1.
    pub number: u64,
    /// The name of the method, such as `put`.
    pub method: &'static str,
}

type Decide = Box<dyn FnMut(Call) -> Option<Fault> + Send>;

/// Which calls fail; a clone is the same plan and counts on.
#[derive(Clone)]
pub struct Plan(Arc<Mutex<State>>);

struct State {
    decide: Decide,
    calls: Vec<&'static str>,
}

impl Plan {
    /// Fails as this rule says.
    pub fn by(decide: impl FnMut(Call) -> Option<Fault> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State { decide: Box::new(decide), calls: Vec::new() })))
    }

    /// No call fails.
    pub fn never() -> Self {
        Self::by(|_| None)
    }

    /// Only the `n`th call fails, counted from 1.
    pub fn nth(n: u64, fault: Fault) -> Self {
        Self::by(move |call| (call.number == n).then_some(fault))
    }

    /// Every call of this method fails.
    pub fn of(method: &'static str, fault: Fault) -> Self {
        Self::by(move |call| (call.method == method).then_some(fault))
    }

    /// So many calls in a thousand fail, half of them after their effect; the same seed and the
    /// same calls fail in the same way.
    pub fn random(seed: u64, per_mille: u64) -> Self {
        let random = SeededRandom::new(seed);
        Self::by(move |_| {
            let fault = if random.chance(500) { Fault::Before } else { Fault::After };
            random.chance(per_mille).then_some(fault)
        })
    }

    /// Fails as another rule says from now on; the calls are counted on.
    pub fn change(&self, decide: impl FnMut(Call) -> Option<Fault> + Send + 'static) {
        lock(&self.0).decide = Box::new(decide);
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        lock(&self.0).calls.len() as u64
    }

    /// The methods that were called, in order.
    pub fn methods(&self) -> Vec<&'static str> {
        lock(&self.0).calls.clone()
    }

    fn next(&self, method: &'static str) -> Option<Fault> {
        let mut state = lock(&self.0);
        state.calls.push(method);
        let number = state.calls.len() as u64;
        (state.decide)(Call { number, method })
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plan").field(&self.methods()).finish()
    }
}

/// A store or queue whose calls fail by a plan.
#[derive(Clone, Debug)]
pub struct Faulty<S> {
    inner: S,
    plan: Plan,
}

impl<S> Faulty<S> {
    /// Lets the calls of `inner` fail by `plan`.
    pub fn new(inner: S, plan: &Plan) -> Self {
        Self { inner, plan: plan.clone() }
    }

    /// What is wrapped, whose calls never fail.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Makes a call, unless the plan lets it fail.
    async fn call<T, E: Unavailable>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        match self.plan.next(method) {
            None => call.await,
            Some(Fault::Before) => Err(E::unavailable(method)),
            Some(Fault::After) => {
                call.await?;
                Err(E::unavailable(method))
            }
        }
    }
}

/// An error that says that the other side did not answer.
trait Unavailable {
    fn unavailable(method: &str) -> Self;
}

impl Unavailable for StoreError {
    fn unavailable(method: &str) -> Self {
        Self::Unavailable(format!("the plan lets `{method}` fail").into())
    }
}

impl Unavailable for QueueError {
    fn unavailable(method: &str) -> Self {
        Self::Unavailable(format!("the plan lets `{method}` fail").into())
    }
}

#[cfg(test)]
mod tests {
    use webhooks_core::ports::{Creation, Subscriptions as _, TaskQueue as _};

    use super::*;
    use crate::{ManualClock, MemoryDeliveries, MemorySubscriptions, MemoryTaskQueue};
    use crate::{conformance, sample};

    #[tokio::test]
    async fn a_fault_comes_before_or_after_the_effect() {
        for (fault, stands) in [(Fault::Before, 0), (Fault::After, 1)] {
            let plan = Plan::nth(2, fault);
            let table = Faulty::new(MemorySubscriptions::default(), &plan);
            let queue = Faulty::new(MemoryTaskQueue::default(), &plan);
            assert!(queue.send(&[]).await.is_ok());
            let error = table.create(&sample::subscription("u", 1)).await.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
            assert_eq!(table.inner().snapshot().len(), stands);
            let second = table.create(&sample::subscription("u", 2)).await;
            assert_eq!(second.unwrap(), Creation::Created);
            assert_eq!(plan.methods(), ["send", "create", "create"]);
        }
    }

    #[tokio::test]
    async fn a_plan_can_change() {
        let plan = Plan::of("change_visibility", Fault::Before);
        let queue = Faulty::new(MemoryTaskQueue::default(), &plan);
        assert!(queue.change_visibility(&[]).await.is_err());
        assert!(queue.send(&[]).await.is_ok());
        plan.change(|_| None);
        assert!(queue.change_visibility(&[]).await.is_ok());
        assert_eq!(plan.calls(), 3);
    }

    #[test]
    fn a_seed_fails_the_same_calls() {
        let faults = |seed| -> Vec<_> {
            let plan = Plan::random(seed, 100);
            (0..1000).map(|_| plan.next("get")).collect()
        };
        assert_eq!(faults(1), faults(1));
        assert_ne!(faults(1), faults(2));
        for kind in [Fault::Before, Fault::After] {
            let hits = faults(1).iter().filter(|fault| **fault == Some(kind)).count();
            assert!((20..80).contains(&hits), "{hits} {kind:?}");
        }
    }

    #[tokio::test]
    async fn without_faults_nothing_changes() {
        let plan = Plan::never();
        conformance::subscriptions(&Faulty::new(MemorySubscriptions::default(), &plan)).await;
        let clock = ManualClock::default();
        let table = MemoryDeliveries::new(std::sync::Arc::new(clock.clone()));
        conformance::deliveries(&Faulty::new(table, &plan), &clock).await;
    }
}
