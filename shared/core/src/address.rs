//! Which IP addresses a delivery may connect to.
//!
//! A [`SpecialRange`] is a block of addresses with a purpose other than the public Internet. The
//! tables below are IANA's registries of special-purpose addresses
//! ([IPv4](https://www.iana.org/assignments/iana-ipv4-special-registry),
//! [IPv6](https://www.iana.org/assignments/iana-ipv6-special-registry)), multicast, and the few
//! addresses at which clouds serve their own machines.
//!
//! An IPv4 address is public unless it is listed. Of IPv6 only `2000::/3` is handed out
//! for the public Internet, so all else is refused, named or not. An IPv4 address embedded in an
//! IPv6 address (mapped, translated, 6to4, Teredo, NAT64, ISATAP) is refused, public or not: no
//! receiver needs one, and code that extracts the IPv4 address is where guards have had errors.
//!
//! Deliberately absent: names, DNS and sockets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::target::TargetPolicy;

/// A block of addresses with a purpose of its own.
#[derive(Debug, PartialEq, Eq)]
pub struct SpecialRange {
    network: IpNet,
    name: &'static str,
    source: &'static str,
    in_development: bool,
}

impl SpecialRange {
    const fn usable_in_development(self) -> Self {
        Self { in_development: true, ..self }
    }

    /// What the addresses are for.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Display for SpecialRange {
    /// The name, and the document that says so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.source)
    }
}

/// Checks that a delivery may connect to `address`; the error names the range that forbids it.
///
/// Under [`TargetPolicy::Development`] the addresses of this machine and its network are allowed.
/// What no receiver listens on, and the metadata services of clouds, stay forbidden.
pub fn check(address: IpAddr, policy: TargetPolicy) -> Result<(), &'static SpecialRange> {
    match special_range(address) {
        Some(range) if policy == TargetPolicy::Development && range.in_development => Ok(()),
        Some(range) => Err(range),
        None => Ok(()),
    }
}

/// The special range that `address` lies in; `None` for an address of the public Internet.
pub fn special_range(address: IpAddr) -> Option<&'static SpecialRange> {
    let listed = RANGES.iter().find(|range| range.network.contains(&address));
    match address {
        IpAddr::V4(_) => listed,
        IpAddr::V6(address) => listed
            .or_else(|| is_isatap(address).then_some(&ISATAP))
            .or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some(&UNASSIGNED)),
    }
}

/// ISATAP writes an IPv4 address into the interface identifier of any prefix.
fn is_isatap(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    segments[5] == 0x5efe && matches!(segments[4], 0 | 0x0200)
}

/// The part of IPv6 that is handed out for the public Internet.
const GLOBAL_UNICAST: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

static ISATAP: SpecialRange = v6([0; 8], 0, "ISATAP", "RFC 5214");
static UNASSIGNED: SpecialRange = v6([0; 8], 0, "unassigned", "IANA IPv6 address space");

/// The first match names the address, so that a narrow range stands before the wide one around it.
static RANGES: [SpecialRange; 49] = [
    v4([0, 0, 0, 0], 8, "\"this network\"", "RFC 791"),
    v4([10, 0, 0, 0], 8, "private-use", "RFC 1918").usable_in_development(),
    v4([100, 100, 100, 200], 32, "cloud platform", "Alibaba Cloud"),
    v4([100, 64, 0, 0], 10, "shared", "RFC 6598").usable_in_development(),
    v4([127, 0, 0, 0], 8, "loopback", "RFC 1122").usable_in_development(),
    v4([168, 63, 129, 16], 32, "cloud platform", "Azure"),
    v4([169, 254, 0, 0], 16, "link-local", "RFC 3927"),
    v4([172, 16, 0, 0], 12, "private-use", "RFC 1918").usable_in_development(),
    v4([192, 0, 0, 0], 24, "IETF protocol", "RFC 6890"),
    v4([192, 0, 2, 0], 24, "documentation", "RFC 5737"),
    v4([192, 31, 196, 0], 24, "AS112", "RFC 7535"),
    v4([192, 52, 193, 0], 24, "AMT", "RFC 7450"),
    v4([192, 88, 99, 0], 24, "6to4 relay", "RFC 7526"),
    v4([192, 168, 0, 0], 16, "private-use", "RFC 1918").usable_in_development(),
    v4([192, 175, 48, 0], 24, "AS112", "RFC 7534"),
    v4([198, 18, 0, 0], 15, "benchmarking", "RFC 2544").usable_in_development(),
    v4([198, 51, 100, 0], 24, "documentation", "RFC 5737"),
    v4([203, 0, 113, 0], 24, "documentation", "RFC 5737"),
    v4([224, 0, 0, 0], 4, "multicast", "RFC 5771"),
    v4([255, 255, 255, 255], 32, "broadcast", "RFC 8190"),
    v4([240, 0, 0, 0], 4, "reserved", "RFC 1112"),
    v6([0; 8], 128, "unspecified", "RFC 4291"),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback", "RFC 4291").usable_in_development(),
    v6([0; 8], 96, "IPv4-compatible", "RFC 4291"),
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "IPv4-mapped", "RFC 4291"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated", "RFC 2765"),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "NAT64", "RFC 6052"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "local NAT64", "RFC 8215"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discard-only", "RFC 6666"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "dummy", "RFC 9780"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo", "RFC 4380"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking", "RFC 5180"),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, "AMT", "RFC 7450"),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, "AS112", "RFC 7535"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "ORCHID", "RFC 4843"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "ORCHIDv2", "RFC 7343"),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "drone identifier", "RFC 9374"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "IETF protocol", "RFC 2928"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation", "RFC 3849"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4", "RFC 3056"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "AS112", "RFC 7534"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation", "RFC 9637"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment-routing", "RFC 9602"),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32, "cloud platform", "AWS"),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 32, "cloud platform", "Google Cloud"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "unique-local", "RFC 4193").usable_in_development(),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local", "RFC 4291"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local", "RFC 3879"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast", "RFC 4291"),
];

const fn v4(octets: [u8; 4], prefix: u8, name: &'static str, source: &'static str) -> SpecialRange {
    let network = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), prefix));
    SpecialRange { network, name, source, in_development: false }
}

const fn v6(
    segments: [u16; 8],
    prefix: u8,
    name: &'static str,
    source: &'static str,
) -> SpecialRange {
    let network = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), prefix));
    SpecialRange { network, name, source, in_development: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name_of(address: &str) -> Option<&'static str> {
        special_range(address.parse().unwrap()).map(SpecialRange::name)
    }

    #[test]
    fn first_and_last_address_name_their_narrowest_range() {
        for range in &RANGES {
            assert_eq!(range.network, range.network.trunc(), "host bits in {range}");
            for address in [range.network.network(), range.network.broadcast()] {
                let found = special_range(address).unwrap();
                assert!(range.network.contains(&found.network), "{address}: {found} for {range}");
            }
        }
    }

    #[test]
    fn wide_range_does_not_hide_a_narrow_one() {
        for (index, range) in RANGES.iter().enumerate() {
            let hidden_by =
                RANGES[..index].iter().find(|wide| wide.network.contains(&range.network));
            assert_eq!(hidden_by, None, "{range}");
        }
    }

    /// The registries as a table of their own, which the tests of the client run too.
    const TABLE: &str = include_str!("../../outbound/vectors/special-purpose.tsv");

    fn rows() -> Vec<IpNet> {
        let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
        rows.map(|row| row.split('\t').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn every_row_of_the_registries_lies_within_a_range() {
        for row in rows() {
            let ranges = RANGES.iter().map(|range| &range.network);
            let outside = |row: &Ipv6Net| !GLOBAL_UNICAST.contains(row);
            let unassigned = matches!(&row, IpNet::V6(row) if outside(row));
            assert!(unassigned || ranges.into_iter().any(|range| range.contains(&row)), "{row}");
        }
    }

    #[test]
    fn every_range_is_a_row_of_the_registries() {
        let rows = rows();
        for range in &RANGES {
            assert!(rows.contains(&range.network), "{range}");
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001:81b::200e",
            "3ffe:ffff::1",
        ] {
            assert_eq!(name_of(address), None, "{address}");
        }
    }

    #[test]
    fn metadata_services_are_refused_in_development_too() {
        for address in [
            "169.254.169.254",
            "169.254.170.2",
            "fd00:ec2::254",
            "fd20:ce::254",
            "168.63.129.16",
            "100.100.100.200",
        ] {
            let address = address.parse().unwrap();
            assert!(check(address, TargetPolicy::Development).is_err(), "{address}");
            assert!(check(address, TargetPolicy::Strict).is_err(), "{address}");
        }
    }

    #[test]
    fn development_allows_loopback_and_private_networks() {
        for address in ["127.0.0.1", "::1", "10.1.2.3", "172.17.0.1", "192.168.1.1", "fd12::1"] {
            let address = address.parse().unwrap();
            assert_eq!(check(address, TargetPolicy::Development), Ok(()), "{address}");
            assert!(check(address, TargetPolicy::Strict).is_err(), "{address}");
        }
    }

    proptest! {
        #[test]
        fn addresses_special_in_the_standard_library_are_refused(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            prop_assert!(!special || special_range(address.into()).is_some());
        }

        #[test]
        fn ipv6_outside_of_global_unicast_is_refused(bits: u128) {
            let address = Ipv6Addr::from(bits);
            prop_assert!(
                address.segments()[0] >> 13 == 1 || special_range(address.into()).is_some()
            );
        }

        #[test]
        fn ipv4_embedded_in_ipv6_is_refused(bits: u32, prefix: u64) {
            let ipv4 = u128::from(bits);
            let embedded = [
                ipv4,
                0xffff << 32 | ipv4,
                0xffff << 48 | ipv4,
                0x2002 << 112 | ipv4 << 80 | u128::from(prefix),
                0x2001 << 112 | u128::from(prefix),
                0x0064_ff9b << 96 | ipv4,
                0x0064_ff9b_0001 << 80 | ipv4,
                u128::from(prefix) << 64 | 0x5efe << 32 | ipv4,
                u128::from(prefix) << 64 | 0x0200_5efe << 32 | ipv4,
            ];
            for address in embedded.map(Ipv6Addr::from) {
                prop_assert!(special_range(address.into()).is_some(), "{}", address);
            }
        }
    }
}
