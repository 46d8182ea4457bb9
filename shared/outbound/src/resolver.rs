//! From a host name to addresses that deliveries may connect to.
//!
//! reqwest asks a [`GuardedResolver`] when it opens a connection, and connects to the addresses that
//! it gets. Nobody resolves the name a second time.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};
use reqwest::dns::{Addrs, Resolve, Resolving};
use tokio::time::timeout;
use webhooks_core::address::{self, SpecialRange};
use webhooks_core::target::TargetPolicy;

/// The addresses of one host and family that are tried, the first ones; all of them are vetted.
pub const ADDRESSES_MAX: usize = 3;
/// How long one question waits for its answer before it is asked again.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a question is asked again.
const QUESTION_RETRIES: usize = 2;
/// How long a lookup may take, all questions together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a lookup that has IPv4 addresses still waits for IPv6 (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Resolves names, and refuses those that lead to where deliveries may not go.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    policy: TargetPolicy,
    dns: TokioResolver,
}

/// Why a host has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("the host resolves to an address that is not public: {0}")]
    Forbidden(&'static SpecialRange),
    #[error("the host has no address")]
    NoAddress,
    #[error("the name server did not answer in time")]
    NoAnswer,
    #[error("the host is not a name that DNS can carry")]
    Name(#[from] ProtoError),
    #[error("the name server did not answer the question")]
    Lookup(#[source] NetError),
}

impl GuardedResolver {
    /// Asks the name servers that the system is configured with.
    pub(crate) fn from_system(policy: TargetPolicy) -> Result<Self, NetError> {
        let (config, options) = match read_system_conf() {
            Ok(found) => found,
            // A laptop without a network has no name servers, but it does have `localhost`.
            Err(_) if policy == TargetPolicy::Development => {
                (ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default())
            }
            Err(error) => return Err(error),
        };
        Self::build(policy, config, options)
    }

    /// Asks the given name servers.
    pub(crate) fn from_name_servers(
        policy: TargetPolicy,
        servers: &[SocketAddr],
    ) -> Result<Self, NetError> {
        let servers = servers.iter().copied().map(name_server).collect();
        Self::build(policy, ResolverConfig::from_name_servers(servers), ResolverOpts::default())
    }

    fn build(
        policy: TargetPolicy,
        config: ResolverConfig,
        mut options: ResolverOpts,
    ) -> Result<Self, NetError> {
        // Each connection resolves the name again: an address of a minute ago has not been vetted.
        options.cache_size = 0;
        options.timeout = QUESTION_TIMEOUT;
        options.attempts = QUESTION_RETRIES;
        options.use_hosts_file = match policy {
            TargetPolicy::Strict => ResolveHosts::Never,
            TargetPolicy::Development => ResolveHosts::Always,
        };
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { policy, dns: builder.build()? })
    }

    /// The addresses of `host` to connect to, if all that it has may be connected to.
    pub(crate) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = timeout(LOOKUP_TIMEOUT, self.look_up(host));
        let (mut ipv4, mut ipv6) = found.await.map_err(|_| ResolveError::NoAnswer)??;
        for address in ipv4.iter().chain(&ipv6) {
            address::check(*address, self.policy).map_err(ResolveError::Forbidden)?;
        }
        ipv4.truncate(ADDRESSES_MAX);
        ipv6.truncate(ADDRESSES_MAX);
        // IPv4 comes first because a Lambda function without a VPC has no IPv6 route to the internet.
        ipv4.append(&mut ipv6);
        if ipv4.is_empty() { Err(ResolveError::NoAddress) } else { Ok(ipv4) }
    }

    /// Asks for both families concurrently. A name server that never answers for IPv6 does not hold
    /// up an answer for IPv4.
    async fn look_up(&self, host: &str) -> Result<(Vec<IpAddr>, Vec<IpAddr>), ResolveError> {
        // The final dot keeps the search list of the machine out of it.
        let name = Name::from_ascii(format!("{host}."))?;
        let ipv4 = pin!(self.ask(name.clone(), RecordType::A));
        let ipv6 = pin!(self.ask(name, RecordType::AAAA));
        let (ipv4, ipv6) = match select(ipv4, ipv6).await {
            Either::Left((ipv4, rest)) if ipv4.as_ref().is_ok_and(|found| !found.is_empty()) => {
                (ipv4, timeout(RESOLUTION_DELAY, rest).await.unwrap_or(Ok(Vec::new())))
            }
            Either::Left((ipv4, rest)) => (ipv4, rest.await),
            Either::Right((ipv6, rest)) => (rest.await, ipv6),
        };
        match (ipv4, ipv6) {
            (Ok(ipv4), Ok(ipv6)) => Ok((ipv4, ipv6)),
            (Ok(found), Err(_)) if !found.is_empty() => Ok((found, Vec::new())),
            (Err(_), Ok(found)) if !found.is_empty() => Ok((Vec::new(), found)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    async fn ask(&self, name: Name, family: RecordType) -> Result<Vec<IpAddr>, ResolveError> {
        match self.dns.lookup(name, family).await {
            Ok(found) => Ok(found.answers().iter().filter_map(|r| r.data.ip_addr()).collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => Err(ResolveError::Lookup(error)),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let lookup = LookupState::of_this_attempt();
        let resolver = self.clone();
        Box::pin(async move {
            lookup.set_pending(true);
            let addresses = resolver.addresses(name.as_str()).await;
            lookup.set_pending(false);
            // reqwest replaces port 0 by that of the URL.
            let addresses = addresses?.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// Whether an attempt is waiting for a name server: when its deadline passes, that is the reason.
#[derive(Clone, Default)]
pub(crate) struct LookupState(Arc<AtomicBool>);

tokio::task_local! {
    static LOOKUP: LookupState;
}

impl LookupState {
    /// Runs an attempt whose lookup this reports.
    pub(crate) async fn track<T>(&self, attempt: impl Future<Output = T>) -> T {
        LOOKUP.scope(self.clone(), attempt).await
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn of_this_attempt() -> Self {
        LOOKUP.try_with(Clone::clone).unwrap_or_default()
    }

    fn set_pending(&self, pending: bool) {
        self.0.store(pending, Ordering::Relaxed);
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
