//! Why an attempt failed, as the API names it, and what its owner can do about it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::delivery::{UnknownName, named};
use crate::outbound::Failure;

named! {
    /// The class of a failed attempt.
    FailureClass {
        /// The host has no address, or its name server does not respond.
        Dns = "dns",
        /// No connection could be made.
        Connect = "connect",
        /// TLS could not be agreed, or the certificate does not verify.
        Tls = "tls",
        /// The deadline passed.
        Timeout = "timeout",
        /// The connection broke, or what came is no HTTP.
        Protocol = "protocol",
        /// The address is not one that deliveries may connect to.
        BlockedAddress = "blocked_address",
        /// The endpoint redirects.
        Redirect = "redirect",
        /// The endpoint refuses the request.
        Http4xx = "http_4xx",
        /// The endpoint failed.
        Http5xx = "http_5xx",
    }
}

impl From<Failure> for FailureClass {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::Dns => Self::Dns,
            Failure::Connect => Self::Connect,
            Failure::Tls => Self::Tls,
            Failure::Protocol => Self::Protocol,
            Failure::Blocked => Self::BlockedAddress,
        }
    }
}

impl FailureClass {
    /// The class of a response; nothing for a success.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            200..=299 => None,
            300..=399 => Some(Self::Redirect),
            400..=499 => Some(Self::Http4xx),
            _ => Some(Self::Http5xx),
        }
    }

    /// What the owner of the webhook can do, in one sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Dns => "Check that the host of the URL exists and has a public address in DNS.",
            Self::Connect => {
                "Check that a server listens at the host and port of the URL, and that a firewall lets requests in."
            }
            Self::Tls => {
                "Check that the certificate is valid for the host, has not expired, and is sent with its intermediate certificates."
            }
            Self::Timeout => "Respond before you do the work, or raise `timeout_seconds`.",
            Self::Protocol => {
                "Check the server and the proxies in front of it: the connection ended without a complete HTTP response."
            }
            Self::BlockedAddress => {
                "Use a URL whose host has public addresses only; deliveries to private addresses are not made."
            }
            Self::Redirect => {
                "Set the URL to the address that the endpoint redirects to; redirects are not followed."
            }
            Self::Http4xx => {
                "Check the path of the URL, and that the endpoint accepts the method POST, the headers and the signature."
            }
            Self::Http5xx => "Look for this request in the logs of the endpoint.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_outside_of_2xx_has_a_class() {
        for (status, class) in [
            (204, None),
            (302, Some(FailureClass::Redirect)),
            (410, Some(FailureClass::Http4xx)),
            (503, Some(FailureClass::Http5xx)),
            (999, Some(FailureClass::Http5xx)),
        ] {
            assert_eq!(FailureClass::of_status(status), class, "{status}");
        }
    }

    #[test]
    fn advice_is_one_sentence() {
        for class in FailureClass::ALL {
            let advice = class.advice();
            assert!(advice.ends_with('.') && advice.matches(". ").count() == 0, "{class}");
        }
    }
}
