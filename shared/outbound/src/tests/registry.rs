//! The table in `vectors/special-purpose.tsv`: the registries, block by block, as URLs and as
//! answers of a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use webhooks_core::target::{TargetError, TargetPolicy, TargetUrl};

use super::name_server::NameServer;
use crate::resolver::{GuardedResolver, ResolveError};

const TABLE: &str = include_str!("../../vectors/special-purpose.tsv");

/// A block of addresses, as numbers.
struct Block {
    text: &'static str,
    first: u128,
    last: u128,
    ipv4: bool,
}

impl Block {
    fn parse(text: &'static str) -> Self {
        let (address, prefix) = text.split_once('/').unwrap();
        let prefix: u32 = prefix.parse().unwrap();
        let (first, bits, ipv4) = match address.parse().unwrap() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32, true),
            IpAddr::V6(address) => (u128::from(address), 128, false),
        };
        let others = 1_u128.checked_shl(bits - prefix).unwrap_or(0).wrapping_sub(1);
        Self { text, first, last: first | others, ipv4 }
    }

    fn contains(&self, number: u128, ipv4: bool) -> bool {
        self.ipv4 == ipv4 && (self.first..=self.last).contains(&number)
    }

    /// The first, the last and a middle address.
    fn inside(&self) -> [u128; 3] {
        [self.first, self.first + (self.last - self.first) / 2, self.last]
    }

    /// The neighbours, where there are any.
    fn outside(&self) -> Vec<u128> {
        let end = if self.ipv4 { u128::from(u32::MAX) } else { u128::MAX };
        let after = self.last.checked_add(1).filter(|next| *next <= end);
        self.first.checked_sub(1).into_iter().chain(after).collect()
    }

    fn address(&self, number: u128) -> IpAddr {
        match u32::try_from(number) {
            Ok(number) if self.ipv4 => Ipv4Addr::from(number).into(),
            _ => Ipv6Addr::from(number).into(),
        }
    }
}

fn blocks() -> Vec<Block> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| {
        let columns: Vec<&str> = row.split('\t').collect();
        let [block, name, source] = columns[..] else { panic!("{row}") };
        assert!(!name.is_empty() && !source.is_empty(), "{row}");
        Block::parse(block)
    })
    .collect()
}

/// The table does not say that IPv6 addresses are assigned from `2000::/3` only (RFC 4291, section
/// 2.4).
fn is_public(number: u128, ipv4: bool, blocks: &[Block]) -> bool {
    let assigned = ipv4 || number >> 125 == 1;
    assigned && !blocks.iter().any(|block| block.contains(number, ipv4))
}

/// The result for a URL with this address as its host.
fn literal(address: IpAddr) -> Result<TargetUrl, TargetError> {
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    TargetUrl::parse(&format!("https://{host}/"), TargetPolicy::Strict)
}

#[test]
fn table_has_every_row_of_both_registries() {
    let rows = |registry: &str| TABLE.lines().filter(|line| line.contains(registry)).count();
    assert_eq!(rows("\tIANA IPv4 special-purpose registry, "), 26);
    assert_eq!(rows("\tIANA IPv6 special-purpose registry, "), 25);
}

#[tokio::test]
async fn every_block_is_refused_from_its_first_to_its_last_address() {
    let server = NameServer::start().await;
    let resolver =
        GuardedResolver::from_name_servers(TargetPolicy::Strict, &[server.address]).unwrap();
    for block in blocks() {
        for number in block.inside() {
            let address = block.address(number);
            let record = if block.ipv4 { "A" } else { "AAAA" };
            server.set("block.test", &format!("{record} {address}"));
            let resolved = resolver.addresses("block.test").await;
            let forbidden = matches!(resolved, Err(ResolveError::Forbidden(_)));
            assert!(forbidden, "{} as {address}: {resolved:?}", block.text);
            let refused = matches!(literal(address), Err(TargetError::Blocked(_)));
            assert!(refused, "{} as https://{address}/", block.text);
        }
    }
}

#[tokio::test]
async fn public_neighbours_of_blocks_are_allowed() {
    let server = NameServer::start().await;
    let resolver =
        GuardedResolver::from_name_servers(TargetPolicy::Strict, &[server.address]).unwrap();
    let blocks = blocks();
    let mut allowed = 0;
    for block in &blocks {
        for number in block.outside() {
            let address = block.address(number);
            let public = is_public(number, block.ipv4, &blocks);
            let record = if block.ipv4 { "A" } else { "AAAA" };
            server.set("neighbour.test", &format!("{record} {address}"));
            let resolved = resolver.addresses("neighbour.test").await;
            assert_eq!(resolved.is_ok(), public, "{address} beside {}", block.text);
            assert_eq!(literal(address).is_ok(), public, "{address} beside {}", block.text);
            allowed += usize::from(public);
        }
    }
    assert!(allowed >= 40, "{allowed}");
}
