//! From a host to addresses that deliveries may connect to.
//!
//! What this returns is what is connected to: nobody resolves the name a second time.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Resolver, TokioResolver};
use url::Host;
use webhooks_core::address::{self, SpecialRange};
use webhooks_core::target::TargetPolicy;

/// The addresses of one host that are tried, the first ones; all of them are vetted.
pub const ADDRESSES_MAX: usize = 8;

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
    #[error(transparent)]
    Lookup(NetError),
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
        // Each attempt resolves anew: what a name led to a minute ago is not what was vetted.
        options.cache_size = 0;
        // IPv4 comes first because a Lambda function without a VPC has no way out over IPv6.
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.use_hosts_file = match policy {
            TargetPolicy::Strict => ResolveHosts::Never,
            TargetPolicy::Development => ResolveHosts::Always,
        };
        #[expect(clippy::disallowed_methods, reason = "the one place where names are resolved")]
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { policy, dns: builder.build()? })
    }

    /// The addresses of `host` to connect to, if all that it has may be connected to.
    pub(crate) async fn resolve(&self, host: &Host<&str>) -> Result<Vec<IpAddr>, ResolveError> {
        let mut addresses = match host {
            Host::Domain(name) => self.lookup(name).await?,
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
        };
        for address in &addresses {
            address::check(*address, self.policy).map_err(ResolveError::Forbidden)?;
        }
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress);
        }
        addresses.truncate(ADDRESSES_MAX);
        Ok(addresses)
    }

    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // The final dot keeps the search list of the machine out of it.
        match self.dns.lookup_ip(format!("{name}.")).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => Err(ResolveError::NoAddress),
            Err(error) => Err(ResolveError::Lookup(error)),
        }
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}
