//! What a request needs: a scope of its token, and a place in its user's rate limit.
//!
//! An [`Access`] is the kind of a route. A token whose claims name scopes of this service may do only
//! what they name. Each user may make so many requests of a kind per second ([`RateLimit`]); the
//! counts are in the memory of each instance of a function, so a request costs no write.
//!
//! The time is that at which API Gateway received the request.
//!
//! Deliberately absent: limits over all instances. A user may make at most as many requests more as
//! there are instances.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lambda_http::Request;
use webhooks_core::ids::UserId;
use webhooks_core::limits::{
    API_CHANGES, API_READS, API_REDELIVERIES, API_TESTS, RATE_LIMITED_USERS_MAX, RateLimit,
};
use webhooks_core::ports::Subscriptions;
use webhooks_core::time::Timestamp;

use crate::problem::Problem;
use crate::request::AuthenticatedRequest;
use crate::response::ApiError;

/// What a route does, for the scopes of tokens and the rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It changes nothing.
    Read,
    /// It creates, changes or deletes webhooks.
    Change,
    /// It sends a request to an endpoint immediately.
    Test,
    /// It has deliveries made again.
    Redeliver,
}

impl Access {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Read, Self::Change, Self::Test, Self::Redeliver];

    /// The scope that allows it.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Read => "webhooks:read",
            Self::Change => "webhooks:write",
            Self::Test => "webhooks:test",
            Self::Redeliver => "webhooks:redeliver",
        }
    }

    /// How often one user may do it.
    pub fn limit(self) -> RateLimit {
        match self {
            Self::Read => API_READS,
            Self::Change => API_CHANGES,
            Self::Test => API_TESTS,
            Self::Redeliver => API_REDELIVERIES,
        }
    }
}

/// Admits requests: the caller is known, the token has the scope, the user is within the rate limit
/// and not blocked.
#[derive(Default)]
pub struct AccessControl {
    /// Tells which users are blocked. A function that only reads needs none.
    users: Option<Arc<dyn Subscriptions>>,
    limiter: Mutex<RateLimiter>,
}

impl AccessControl {
    /// For a function with routes that change something: the operator can block users.
    pub fn new(users: Arc<dyn Subscriptions>) -> Self {
        Self { users: Some(users), limiter: Mutex::default() }
    }

    /// For a function that only reads.
    pub fn of_reads() -> Self {
        Self::default()
    }

    /// The request with its caller, if it is admitted. Reads no table for a route that only reads.
    pub async fn admit<'a>(
        &self,
        request: &'a Request,
    ) -> Result<AuthenticatedRequest<'a>, ApiError> {
        let request = AuthenticatedRequest::new(request)?;
        let access = request.access();
        if !request.has_scope(access.scope()) {
            return Err(Problem::InsufficientScope { scope: access.scope() }.into());
        }
        self.limiter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(request.caller(), access, request.received_at())
            .map_err(|wait| Problem::RateLimited { retry_after: wait })?;
        if access != Access::Read
            && let Some(users) = &self.users
            && users.is_user_blocked(request.caller()).await?
        {
            return Err(Problem::UserBlocked.into());
        }
        Ok(request)
    }
}

/// The rate limits of users in memory: token buckets, each kept as the time at which it is full
/// again (the generic cell rate algorithm).
#[derive(Debug, Default)]
struct RateLimiter {
    full_at: HashMap<(UserId, Access), Timestamp>,
}

impl RateLimiter {
    /// Takes one token, or tells how long the user has to wait for one.
    fn take(&mut self, user: &UserId, access: Access, now: Timestamp) -> Result<(), Duration> {
        let RateLimit { per_second, burst } = access.limit();
        let token = Duration::from_secs(1) / per_second;
        let key = (user.clone(), access);
        let full_at = self.full_at.get(&key).map_or(now, |at| (*at).max(now)).plus(token);
        let earliest = full_at.minus(token * burst);
        if earliest > now {
            return Err(now.until(earliest));
        }
        if self.full_at.len() >= RATE_LIMITED_USERS_MAX && !self.full_at.contains_key(&key) {
            self.make_room(now);
        }
        self.full_at.insert(key, full_at);
        Ok(())
    }

    /// Forgets the buckets that are full, which is as if they had never been used; if there is none,
    /// the one that is full soonest.
    fn make_room(&mut self, now: Timestamp) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= RATE_LIMITED_USERS_MAX {
            let soonest = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
            if let Some(key) = soonest.map(|(key, _)| key.clone()) {
                self.full_at.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    #[test]
    fn user_over_the_limit_waits_and_others_do_not() {
        let mut limiter = RateLimiter::default();
        let (alice, bob) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        for access in Access::ALL {
            let RateLimit { per_second, burst } = access.limit();
            for _ in 0..burst {
                assert_eq!(limiter.take(&alice, access, at(0)), Ok(()));
            }
            let wait = Duration::from_secs(1) / per_second;
            assert_eq!(limiter.take(&alice, access, at(0)), Err(wait));
            assert_eq!(limiter.take(&bob, access, at(0)), Ok(()));
            let later = at(0).plus(wait);
            assert_eq!(limiter.take(&alice, access, later), Ok(()));
            assert_eq!(limiter.take(&alice, access, later), Err(wait));
        }
    }

    #[test]
    fn refused_request_does_not_lengthen_the_wait() {
        let mut limiter = RateLimiter::default();
        let user = "u".parse().unwrap();
        while limiter.take(&user, Access::Test, at(0)).is_ok() {}
        let wait = limiter.take(&user, Access::Test, at(0)).unwrap_err();
        for _ in 0..100 {
            assert_eq!(limiter.take(&user, Access::Test, at(0)), Err(wait));
        }
        assert!(limiter.take(&user, Access::Test, at(0).plus(wait)).is_ok());
    }

    #[test]
    fn many_users_use_bounded_memory() {
        let mut limiter = RateLimiter::default();
        let first: UserId = "first".parse().unwrap();
        for _ in 0..3 {
            limiter.take(&first, Access::Read, at(0)).unwrap();
        }
        for user in 0..RATE_LIMITED_USERS_MAX + 100 {
            let user = format!("u{user}").parse().unwrap();
            limiter.take(&user, Access::Read, at(0)).unwrap();
            assert!(limiter.full_at.len() <= RATE_LIMITED_USERS_MAX);
        }
        assert!(limiter.full_at.contains_key(&(first.clone(), Access::Read)), "it is busiest");
        limiter.take(&first, Access::Change, at(60_000)).unwrap();
        assert_eq!(limiter.full_at.len(), 1, "the others have not been seen for a minute");
    }
}
