//! What the functions behind the HTTP API share. They run on `lambda_http`.
//!
//! * An [`AccessControl`] admits requests: it checks scopes, rate limits and blocked users.
//! * An [`AuthenticatedRequest`] is a request of `lambda_http` with a known caller. It reads the ids
//!   in the path, and the query string and the JSON body as [`Fields`], each strictly.
//! * An [`ApiError`] is why a request failed. [`respond`] makes it a problem (RFC 9457), and logs it
//!   if the service failed.
//! * The [`view`]s are the JSON of responses, field by field.
//! * [`ROUTES`] lists every route and its function; [`FALLBACK_ROUTES`] get what is no route.
//! * [`run`] runs a handler in Lambda; [`invoke`] calls it in the same way, with JSON in and JSON
//!   out, for the local system and the tests.
//!
//! A function reads the whole request before it asks a table, and the ids last. So another user's
//! id, a missing one and a malformed one have the same response, whatever else the request has.
//!
//! Deliberately absent: checks of tokens. API Gateway, or the local gateway in its place, makes them before
//! a function gets the request.

mod access;
mod body;
pub mod cursor;
mod fields;
mod lambda;
pub mod problem;
mod query;
mod request;
mod response;
mod routes;
#[cfg(feature = "testing")]
pub mod testing;
pub mod view;
pub mod webhook;

pub use access::{Access, AccessControl};
pub use fields::{Fields, boolean, string, whole_number};
pub use lambda::{invoke, run};
pub use query::Query;
pub use request::{AuthenticatedRequest, no_query, route_key};
pub use response::{ApiError, created, json, json_text, no_content, problem, respond};
pub use routes::{FALLBACK_ROUTES, ROUTES, Route, methods};
