//! Addresses to listen on, as the flags give them.

use std::net::{Ipv4Addr, SocketAddr};

/// Parses `HOST:PORT`, `:PORT` or `PORT`. The default host is 127.0.0.1, which `localhost` means too,
/// so that the printed address is the one that clients reach.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    let port = text
        .strip_prefix("localhost:")
        .or_else(|| text.strip_prefix(':'))
        .or_else(|| text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text));
    let address = match port {
        Some(port) => port.parse().ok().map(|port| (Ipv4Addr::LOCALHOST, port).into()),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| "an address looks like 127.0.0.1:3000, :3000 or 3000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_optional() {
        for text in ["127.0.0.1:3000", "localhost:3000", ":3000", "3000"] {
            assert_eq!(parse(text).unwrap().to_string(), "127.0.0.1:3000", "{text}");
        }
        assert_eq!(parse("0.0.0.0:0").unwrap().to_string(), "0.0.0.0:0");
        assert_eq!(parse("[::1]:1").unwrap().to_string(), "[::1]:1");
        for bad in ["", ":", "localhost", "127.0.0.1", "70000", "http://127.0.0.1:1", "a:1", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
