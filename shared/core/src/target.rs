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
    /// A host that is no host name.
    #[error("must have a valid host name or address")]
    InvalidHost,
    /// A name that only means something on one machine or network.
    #[error("must have a public host name, not a local one")]
    LocalName,
    /// An address that deliveries may not connect to.
    #[error("must not point at a {0} address")]
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
        let parsed = Url::parse(text).map_err(|error| describe(error, written_host))?;
        check_host(parsed.host().ok_or(TargetError::NoHost)?, written_host, policy)?;
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
    let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
    match policy {
        _ if scheme.eq_ignore_ascii_case("https") && text.contains("://") => Ok(rest),
        TargetPolicy::Strict => Err(TargetError::NotHttps),
        TargetPolicy::Development
            if scheme.eq_ignore_ascii_case("http") && text.contains("://") =>
        {
            Ok(rest)
        }
        TargetPolicy::Development => Err(TargetError::NotHttp),
    }
}

/// Splits at the last colon, unless it stands within the brackets of an IPv6 address.
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

fn check_host(host: Host<&str>, written: &str, policy: TargetPolicy) -> Result<(), TargetError> {
    match host {
        Host::Ipv4(address) if written != address.to_string() => Err(TargetError::Ipv4Spelling),
        Host::Ipv4(address) => check_address(address.into(), policy),
        Host::Ipv6(address) => check_address(address.into(), policy),
        Host::Domain(name) => check_name(name, policy),
    }
}

fn check_address(address: IpAddr, policy: TargetPolicy) -> Result<(), TargetError> {
    address::check(address, policy).map_err(|range| TargetError::Blocked(range.name()))
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
    if policy == TargetPolicy::Strict && is_local(name) {
        return Err(TargetError::LocalName);
    }
    Ok(())
}

/// Underscores are not for host names, but hosts are named with them.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Names of one machine or one network: `localhost` (RFC 6761), `.local` (RFC 6762), `.internal`
/// (reserved by ICANN for private use), and names without a dot, which search lists complete.
fn is_local(name: &str) -> bool {
    match name.rsplit_once('.') {
        None => true,
        Some((_, last)) => matches!(last, "localhost" | "local" | "internal"),
    }
}

fn describe(error: url::ParseError, written_host: &str) -> TargetError {
    match error {
        url::ParseError::EmptyHost => TargetError::NoHost,
        url::ParseError::InvalidIpv4Address => TargetError::Ipv4Spelling,
        url::ParseError::InvalidPort => TargetError::Port,
        url::ParseError::IdnaError
        | url::ParseError::InvalidIpv6Address
        | url::ParseError::InvalidDomainCharacter => TargetError::InvalidHost,
        _ if written_host.is_empty() => TargetError::NoHost,
        _ => TargetError::Invalid,
    }
}
