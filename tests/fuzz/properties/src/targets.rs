//! URLs of webhooks.

use std::net::IpAddr;

use webhooks_core::address;
use webhooks_core::limits::URL_CHARS;
use webhooks_core::target::{TargetPolicy, TargetUrl};

use crate::text;

/// A URL as a user gives it.
pub fn url(input: &[u8]) {
    let Some(given) = text(input) else { return };
    let strict = TargetUrl::parse(given, TargetPolicy::Strict);
    let development = TargetUrl::parse(given, TargetPolicy::Development);
    if let Ok(target) = &strict {
        assert_eq!(development.as_ref(), Ok(target), "development is the laxer policy");
        check(given, target, TargetPolicy::Strict);
        assert_eq!(target.url().scheme(), "https");
    }
    match &development {
        Ok(target) => check(given, target, TargetPolicy::Development),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check(given: &str, target: &TargetUrl, policy: TargetPolicy) {
    assert_eq!(target.as_str(), given);
    assert!(given.chars().count() <= URL_CHARS);
    let url = target.url();
    assert!(matches!(url.scheme(), "https" | "http"));
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    assert_ne!(url.port_or_known_default(), Some(0));

    // However the host is spelled, it is no address that is refused.
    let host = url.host_str().unwrap();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        assert_eq!(address::check(address, policy), Ok(()), "{given} is {address}");
    } else {
        assert!(bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)));
        // What the C library would still read as an address: 1.2, 0x7f.1, 017700000001.
        let last = bare.rsplit('.').next().unwrap();
        assert!(!is_number(last), "{given} has the host {bare}, which some read as an address");
    }

    // The form that is sent to is the same place, by the same rules.
    let sent = TargetUrl::parse(url.as_str(), policy);
    match sent {
        Ok(sent) => assert_eq!(sent.url(), url),
        // Escapes make it longer.
        Err(_) => assert!(url.as_str().len() > URL_CHARS, "{given} is sent to as {url}"),
    }

    // The HTTP client reads the URL once more with a parser of its own.
    let uri: http::Uri = url.as_str().parse().unwrap();
    assert_eq!(uri.host(), Some(host));
    assert_eq!(uri.port_u16(), url.port());
    assert!(!uri.authority().unwrap().as_str().contains('@'));
}

fn is_number(label: &str) -> bool {
    let (digits, radix) = match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (label, 10),
    };
    digits.chars().all(|c| c.is_digit(radix))
}
