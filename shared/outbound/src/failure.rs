//! From the HTTP client's errors to what a user may read.
//!
//! A [`Failed`] is the kind of a failure and one sentence for the user. Errors are distinguished by
//! the types in their chain of causes, never by their text. Deliberately absent from the sentences:
//! addresses, and the libraries' own texts, which may name addresses.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::CertificateError;
use webhooks_core::outbound::{Failure, Outcome};
use webhooks_core::target::TargetError;

use crate::resolver::ResolveError;

/// Why there is no response.
#[derive(Debug)]
pub(crate) struct Failed {
    failure: Failure,
    detail: String,
}

impl Failed {
    fn new(failure: Failure, detail: &str) -> Self {
        Self { failure, detail: detail.to_owned() }
    }

    /// The deadline passed before the head of the response was complete.
    pub(crate) fn deadline(timeout: Duration) -> Self {
        let seconds = timeout.as_secs_f64();
        Self::new(Failure::Timeout, &format!("No response arrived within {seconds} s."))
    }

    /// The deadline passed, or the lookup took too long, while a name server was asked.
    pub(crate) fn name_server_silent() -> Self {
        Self::new(Failure::Dns, "The name server of the host did not answer in time.")
    }

    /// The policy does not allow the URL (any more).
    pub(crate) fn refused_url(error: TargetError) -> Self {
        Self { failure: Failure::Blocked, detail: format!("The URL {error}.") }
    }

    /// A header has a value that HTTP cannot carry.
    pub(crate) fn invalid_header() -> Self {
        Self::new(Failure::Protocol, "The request has a header that cannot be sent.")
    }

    /// The URL has a part that HTTP cannot carry.
    pub(crate) fn unsendable() -> Self {
        Self::new(Failure::Protocol, "The request cannot be written as HTTP.")
    }

    /// The head of the response is over the limits.
    pub(crate) fn head_too_large() -> Self {
        Self::new(Failure::Protocol, "The response has too many or too long headers.")
    }

    fn connect(error: &(dyn Error + 'static)) -> Self {
        if let Some(error) = cause::<rustls::Error>(error) {
            return Self::new(Failure::Tls, tls_detail(error));
        }
        // The connector passes on an I/O error itself where TLS was under way, and with a reason
        // around it where TCP was.
        let connector_error = error.source();
        if connector_error.is_some_and(<dyn Error>::is::<io::Error>) {
            return Self::new(Failure::Tls, "The connection broke during the TLS handshake.");
        }
        let detail = match io_kind(error) {
            Some(io::ErrorKind::ConnectionRefused) => "The connection was refused.",
            _ => "No connection could be made.",
        };
        Self::new(Failure::Connect, detail)
    }
}

impl From<Failed> for Outcome {
    fn from(failed: Failed) -> Self {
        Self::NoResponse { failure: failed.failure, detail: failed.detail }
    }
}

impl From<&ResolveError> for Failed {
    fn from(error: &ResolveError) -> Self {
        match error {
            ResolveError::Forbidden(range) => {
                // The range tells about the inside of a network, so only the operator sees it.
                tracing::warn!(
                    outbound.range = range.name(),
                    "a host resolves to a forbidden address"
                );
                Self::new(
                    Failure::Blocked,
                    "The host resolves to an address that deliveries may not connect to.",
                )
            }
            ResolveError::NoAddress => Self::new(Failure::Dns, "The host name has no address."),
            ResolveError::NoAnswer => Self::name_server_silent(),
            ResolveError::Name(_) | ResolveError::Lookup(_) => {
                Self::new(Failure::Dns, "The host name could not be resolved.")
            }
        }
    }
}

impl From<reqwest::Error> for Failed {
    fn from(error: reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::unsendable();
        }
        if let Some(error) = cause::<ResolveError>(&error) {
            return error.into();
        }
        if let Some(error) = error.source().filter(|_| error.is_connect()) {
            return Self::connect(error);
        }
        // With TLS 1.3 the server may reject the handshake after the client has finished it.
        if let Some(error) = cause::<rustls::Error>(&error) {
            return Self::new(Failure::Tls, tls_detail(error));
        }
        let detail = if cause::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
            "The response is not valid HTTP, or has too many or too long headers."
        } else {
            "The connection broke before the head of the response was complete."
        };
        Self::new(Failure::Protocol, detail)
    }
}

fn tls_detail(error: &rustls::Error) -> &'static str {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => "The TLS certificate has expired.",
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "The TLS certificate is not for this host."
            }
            Bad::UnknownIssuer => "The TLS certificate is not from a trusted authority.",
            _ => "The TLS certificate is not valid.",
        },
        rustls::Error::InvalidMessage(_) => "The host does not speak TLS on this port.",
        _ => "TLS could not be agreed.",
    }
}

/// The first cause of the given type.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(<dyn Error>::downcast_ref)
}

/// What the system said. An I/O error around another is only its wrapping.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    causes(error).filter_map(<dyn Error>::downcast_ref).last().map(io::Error::kind)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| next_cause(*error))
}

/// Asked for its source, an I/O error skips the error that it wraps.
fn next_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
