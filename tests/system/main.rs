//! The system from outside: the real `dev` process on free ports, used as a user, a publisher and
//! a receiver would use it.

#![expect(clippy::unwrap_used, reason = "what does not go as planned fails the test")]

mod api;
mod chaos;
mod delivery;
mod documents;
mod front_door;
mod harness;
mod limits;
mod local_tools;
mod operational;
mod publishing;
mod restart;
mod secrets;
mod targets;
