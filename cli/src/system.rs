//! The clock and the randomness of the machine.

use webhooks_core::time::Timestamp;

#[expect(clippy::disallowed_methods, reason = "a program of a user has the user's clock")]
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now()).unwrap_or(Timestamp::EPOCH)
}

#[expect(clippy::disallowed_methods, reason = "a program of a user has no other randomness")]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
