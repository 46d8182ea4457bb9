//! The commands, by subject.

pub(crate) mod deliveries;
pub(crate) mod listen;
pub(crate) mod publish;
pub(crate) mod recoveries;
pub(crate) mod stats;
pub(crate) mod verify;
pub(crate) mod webhooks;
