//! Where a delivery may go.
//!
//! A [`TargetUrl`] is a webhook's URL that has been checked under a [`TargetPolicy`]. The checks
//! that need no network are made here: the shape of the URL, and a host that gives itself away as
//! not public. What a host name resolves to is checked at each attempt by the client that sends,
//! which also parses stored URLs again, so that a stricter policy applies to old webhooks too.
//!
//! URLs are parsed by the WHATWG rules, which repair a lot: spaces and line breaks vanish, `\`
//! turns into `/`, `0x7f.1` into `127.0.0.1`. What is repaired is read differently by somebody
//! else, so that such spellings are refused instead, with a message that says what is wrong.
//!
//! Deliberately absent: DNS.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use crate::address;
use crate::limits::URL_CHARS;

/// The ports that browsers refuse to fetch from, because other protocols own them
/// ([Fetch, section 2.9](https://fetch.spec.whatwg.org/#port-blocking)).
const BLOCKED_PORTS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

/// Top-level domains that only mean something on one machine or network: `localhost` (RFC 6761),
/// `local` and what else networks use for themselves (RFC 6762, section 3 and appendix G), and
/// `localdomain`, which machines call themselves by. ICANN reserves `internal`.
const LOCAL_DOMAINS: [&str; 9] =
    ["localhost", "local", "internal", "intranet", "private", "corp", "home", "lan", "localdomain"];

/// Top-level domains that no resolver asks a name server for: `invalid` (RFC 6761), `onion` (RFC 7686)
/// and `alt` (RFC 9476).
const UNRESOLVABLE_DOMAINS: [&str; 3] = ["invalid", "onion", "alt"];

/// How strict the rules for targets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetPolicy {
    /// As deployed: HTTPS only, public addresses only.
    Strict,
    /// For development: also HTTP, and loopback and private addresses.
    Development,
}

/// A webhook's URL that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetUrl {
    text: String,
    parsed: Url,
}

/// What is wrong with a URL, in words that follow the name of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// More characters than [`URL_CHARS`].
    #[error("must not be longer than {URL_CHARS} characters")]
    TooLong,
    /// A space, a line break or another control character.
    #[error("must not contain spaces or control characters")]
    Whitespace,
    /// A backslash, which some read as a slash.
    #[error("must not contain a backslash")]
    Backslash,
    /// Another scheme than HTTPS.
    #[error("must start with https://; other schemes, also plain http, are not delivered to")]
    NotHttps,
    /// Another scheme than HTTPS or HTTP.
    #[error("must start with https:// or http://")]
    NotHttp,
    /// A fragment, also an empty one.
    #[error("must not have a fragment (`#`)")]
    Fragment,
    /// A user name or password.
    #[error("must not have a user name or password (`@`)")]
    UserInfo,
    /// No host.
    #[error("must have a host")]
    NoHost,
    /// A port that cannot be.
    #[error("must have a port from 1 to 65535, in plain digits, if it has one")]
    Port,
    /// The port of another protocol.
    #[error("must not name a port that belongs to another protocol than HTTPS")]
    BlockedPort,
    /// Percent-encoding, or the zone of an IPv6 address.
    #[error(
        "must not have a percent sign in its host, neither an encoded character nor an IPv6 zone"
    )]
    PercentInHost,
    /// The final dot of a fully qualified name.
    #[error("must not have a dot at the end of its host")]
    TrailingDot,
    /// An IPv4 address that is written in octal, in hexadecimal, short, or in other digits.
    #[error("must write an IPv4 address as four decimal numbers")]
    Ipv4Spelling,
    /// A host with characters that are only one way to write others.
    #[error("must write its host without characters that stand for others, such as `。` for a dot")]
    HostSpelling,
    /// A host that is no host name.
    #[error("must have a valid host name or address")]
    InvalidHost,
    /// A name that DNS never resolves.
    #[error(
        "must have a host name that DNS can resolve, not one under `invalid`, `onion` or `alt`"
    )]
    Unresolvable,
    /// A name that only means something on one machine or network.
    #[error("must have a public host name, not a local one")]
    LocalName,
    /// An address that deliveries may not connect to.
    #[error("must not point at an address that is not public ({0})")]
    Blocked(&'static str),
    /// No URL for some other reason.
    #[error("must be a valid URL")]
    Invalid,
}

impl TargetUrl {
    /// Checks a URL as a user gave it.
    pub fn parse(text: &str, policy: TargetPolicy) -> Result<Self, TargetError> {
        check_characters(text)?;
        let written_host = check_parts(text, policy)?;
        let parsed = Url::parse(text).map_err(describe)?;
        check_host(&parsed.host().ok_or(TargetError::NoHost)?, written_host, policy)?;
        if policy == TargetPolicy::Strict && parsed.port().is_some_and(is_blocked_port) {
            return Err(TargetError::BlockedPort);
        }
        Ok(Self { text: text.to_owned(), parsed })
    }

    /// The URL as the user gave it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL as it is sent to.
    pub fn url(&self) -> &Url {
        &self.parsed
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_characters(text: &str) -> Result<(), TargetError> {
    if text.chars().nth(URL_CHARS).is_some() {
        return Err(TargetError::TooLong);
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(TargetError::Whitespace);
    }
    if text.contains('\\') {
        return Err(TargetError::Backslash);
    }
    Ok(())
}

/// Checks what is written before the path, and returns the host as it is written.
fn check_parts(text: &str, policy: TargetPolicy) -> Result<&str, TargetError> {
    let rest = after_scheme(text, policy)?;
    if rest.contains('#') {
        return Err(TargetError::Fragment);
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(TargetError::UserInfo);
    }
    let (host, port) = split_port(authority);
    if host.is_empty() {
        return Err(TargetError::NoHost);
    }
    if port.is_some_and(|port| !is_port(port)) {
        return Err(TargetError::Port);
    }
    if host.contains('%') {
        return Err(TargetError::PercentInHost);
    }
    Ok(host)
}

fn after_scheme(text: &str, policy: TargetPolicy) -> Result<&str, TargetError> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    match (scheme.to_ascii_lowercase().as_str(), policy) {
        ("https", _) | ("http", TargetPolicy::Development) => Ok(rest),
        (_, TargetPolicy::Strict) => Err(TargetError::NotHttps),
        (_, TargetPolicy::Development) => Err(TargetError::NotHttp),
    }
}

/// Splits at the last colon, unless it is within the brackets of an IPv6 address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
        && !port.starts_with('0')
        && port.parse::<u16>().is_ok()
}

fn check_host(host: &Host<&str>, written: &str, policy: TargetPolicy) -> Result<(), TargetError> {
    match host {
        Host::Ipv4(address) if written != address.to_string() => Err(TargetError::Ipv4Spelling),
        Host::Ipv4(address) => check_address((*address).into(), policy),
        Host::Ipv6(address) => check_address((*address).into(), policy),
        Host::Domain(name) => {
            check_name(name, policy)?;
            check_spelling(name, written)
        }
    }
}

fn check_address(address: IpAddr, policy: TargetPolicy) -> Result<(), TargetError> {
    address::check(address, policy).map_err(|range| TargetError::Blocked(range.name()))
}

fn is_blocked_port(port: u16) -> bool {
    BLOCKED_PORTS.contains(&port)
}

/// Checks a host name in its canonical form: lower case, and ASCII also where it is international.
fn check_name(name: &str, policy: TargetPolicy) -> Result<(), TargetError> {
    if name.ends_with('.') {
        return Err(TargetError::TrailingDot);
    }
    // A name in DNS has at most 253 characters, and each label at most 63 (RFC 1035, section 2.3.4).
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(TargetError::InvalidHost);
    }
    let top_level = name.rsplit('.').next().unwrap_or(name);
    if UNRESOLVABLE_DOMAINS.contains(&top_level) {
        return Err(TargetError::Unresolvable);
    }
    if policy == TargetPolicy::Strict && is_local(name) {
        return Err(TargetError::LocalName);
    }
    Ok(())
}

/// Parsers map many characters to others: `。` to a dot, full-width letters to ASCII, and a soft hyphen
/// to nothing. Only upper case may be written in more than one way.
fn check_spelling(name: &str, written: &str) -> Result<(), TargetError> {
    let (unicode, _) = idna::domain_to_unicode(name);
    let is_canonical = written.is_ascii() || written.to_lowercase() == unicode;
    is_canonical.then_some(()).ok_or(TargetError::HostSpelling)
}

/// Underscores are not for host names, but hosts are named with them. No certificate is for a
/// label with a hyphen at one of its ends.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Names of one machine or one network: what [`LOCAL_DOMAINS`] lists, `home.arpa` (RFC 8375), and
/// names without a dot, which search lists complete.
fn is_local(name: &str) -> bool {
    match name.rsplit_once('.') {
        None => true,
        Some((before, "arpa")) => before.rsplit('.').next() == Some("home"),
        Some((_, last)) => LOCAL_DOMAINS.contains(&last),
    }
}

fn describe(error: url::ParseError) -> TargetError {
    match error {
        url::ParseError::InvalidIpv4Address => TargetError::Ipv4Spelling,
        // Host and port have been checked, so that these two speak of a host with colons in it.
        url::ParseError::EmptyHost
        | url::ParseError::InvalidPort
        | url::ParseError::IdnaError
        | url::ParseError::InvalidIpv6Address
        | url::ParseError::InvalidDomainCharacter => TargetError::InvalidHost,
        _ => TargetError::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn strict(text: &str) -> Result<TargetUrl, TargetError> {
        TargetUrl::parse(text, TargetPolicy::Strict)
    }

    fn development(text: &str) -> Result<TargetUrl, TargetError> {
        TargetUrl::parse(text, TargetPolicy::Development)
    }

    #[test]
    fn url_stays_as_the_user_gave_it() {
        let target = strict("HTTPS://Hooks.Example.com:443/a%20b").unwrap();
        assert_eq!(target.as_str(), "HTTPS://Hooks.Example.com:443/a%20b");
        assert_eq!(target.to_string(), target.as_str());
        assert_eq!(target.url().as_str(), "https://hooks.example.com/a%20b");
    }

    #[test]
    fn international_names_are_sent_to_in_ascii() {
        let target = strict("https://bücher.example/straße?ü").unwrap();
        assert_eq!(target.url().as_str(), "https://xn--bcher-kva.example/stra%C3%9Fe?%C3%BC");
    }

    #[test]
    fn length_is_counted_in_characters() {
        let url = |path: &str, count| format!("https://a.example/{}", path.repeat(count));
        assert!(strict(&url("ü", URL_CHARS - 18)).is_ok());
        assert_eq!(strict(&url("u", URL_CHARS - 17)), Err(TargetError::TooLong));
    }

    #[test]
    fn http_and_loopback_are_allowed_in_development_only() {
        for url in
            ["http://localhost:4000/", "http://127.0.0.1:4000/x", "http://[::1]/", "http://box/"]
        {
            assert!(development(url).is_ok(), "{url}");
            assert_eq!(strict(url), Err(TargetError::NotHttps), "{url}");
        }
        assert_eq!(strict("https://127.0.0.1/"), Err(TargetError::Blocked("loopback")));
        assert_eq!(strict("https://localhost/"), Err(TargetError::LocalName));
    }

    #[test]
    fn malformed_url_is_refused_in_development() {
        for (url, error) in [
            ("", TargetError::NotHttp),
            ("ftp://a.example/", TargetError::NotHttp),
            ("http:a.example", TargetError::NotHttp),
            ("http://", TargetError::NoHost),
            ("http:///a.example", TargetError::NoHost),
            ("http://:80/", TargetError::NoHost),
            ("http://a.example:0/", TargetError::Port),
            ("http://a.example:/", TargetError::Port),
            ("http://a.example:65536/", TargetError::Port),
            ("http://u:p@a.example/", TargetError::UserInfo),
            ("http://a.example/#", TargetError::Fragment),
            ("http://a.example/ ", TargetError::Whitespace),
            ("http://a.example\\b", TargetError::Backslash),
            ("http://a.example./", TargetError::TrailingDot),
            ("http://a..example/", TargetError::InvalidHost),
            ("http://-a.example/", TargetError::InvalidHost),
            ("http://a-.example/", TargetError::InvalidHost),
            ("http://pub。test/", TargetError::HostSpelling),
            ("http://ｐub.test/", TargetError::HostSpelling),
            ("http://p\u{ad}ub.test/", TargetError::HostSpelling),
            ("http://hooks.invalid/", TargetError::Unresolvable),
            ("http://hooks.onion/", TargetError::Unresolvable),
            ("http://127.1/", TargetError::Ipv4Spelling),
            ("http://[::1%25lo]/", TargetError::PercentInHost),
            ("http://[::1/", TargetError::InvalidHost),
            ("http://169.254.169.254/", TargetError::Blocked("link-local")),
        ] {
            assert_eq!(development(url), Err(error), "{url}");
        }
    }

    #[test]
    fn ports_of_other_protocols_are_for_development() {
        for port in BLOCKED_PORTS {
            let url = format!("https://a.example:{port}/");
            assert_eq!(strict(&url), Err(TargetError::BlockedPort), "{port}");
            assert!(development(&url).is_ok(), "{port}");
        }
        for port in [80, 443, 3000, 4443, 8000, 8080, 8443, 9443, 65535] {
            assert!(strict(&format!("https://a.example:{port}/")).is_ok(), "{port}");
        }
    }

    #[test]
    fn names_have_the_lengths_of_dns() {
        let label = "a".repeat(63);
        assert!(strict(&format!("https://{label}.example/")).is_ok());
        assert_eq!(strict(&format!("https://a{label}.example/")), Err(TargetError::InvalidHost));
        let long = [label.as_str(); 4].join(".");
        assert_eq!(strict(&format!("https://{long}/")), Err(TargetError::InvalidHost));
    }

    proptest! {
        #[test]
        fn any_text_parses_without_panic_and_accepted_urls_are_https(
            text in "(https?://)?[a-z0-9.:/@#?%\\[\\]\\\\ xü。①-]{0,40}",
        ) {
            if let Ok(target) = strict(&text) {
                prop_assert_eq!(target.url().scheme(), "https");
                prop_assert!(target.url().username().is_empty());
                prop_assert_eq!(target.url().fragment(), None);
                match target.url().host() {
                    Some(Host::Domain(name)) => prop_assert!(name.contains('.')),
                    Some(Host::Ipv4(ip)) => prop_assert_eq!(address::special_range(ip.into()), None),
                    Some(Host::Ipv6(ip)) => prop_assert_eq!(address::special_range(ip.into()), None),
                    None => prop_assert!(false, "no host"),
                }
            }
        }

        #[test]
        fn every_ipv4_address_is_judged_the_same_as_a_literal(bits: u32) {
            let ip = std::net::Ipv4Addr::from(bits);
            let verdict = strict(&format!("https://{ip}/"));
            prop_assert_eq!(verdict.is_ok(), address::special_range(ip.into()).is_none());
            let as_one_number = strict(&format!("https://{bits}/"));
            prop_assert!(as_one_number.is_err());
        }
    }
}
