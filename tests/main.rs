//! The system from outside: the real `dev` process on free ports, used as a user, a publisher and
//! a receiver would use it.

mod api;
mod delivery;
mod harness;
mod local_tools;
mod publishing;
mod restart;
