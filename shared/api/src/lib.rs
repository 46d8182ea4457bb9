//! What the functions behind the HTTP API share.
//!
//! * A [`Request`] is what API Gateway hands a function (payload format 2.0): the caller, the route,
//!   the ids in the path, the [`Query`] and the JSON body, each read strictly.
//! * A [`Failure`] is why a request was not done; [`respond`] turns it into a problem (RFC 9457) and
//!   logs it when the fault is ours.
//! * The [`view`]s are the JSON that is shown, field by field.
//! * [`ROUTES`] lists every route there is and the function that answers it.
//!
//! A function reads the whole request before it asks a table, and the ids last: so somebody else's
//! id, a missing one and one that is no id at all answer alike, whatever else the request says.
//!
//! Deliberately absent: checking tokens, unknown paths and methods. API Gateway, or the local system
//! in its place, has done that before a function sees the request.

mod body;
mod query;
mod request;
mod response;
mod routes;
#[cfg(feature = "testing")]
pub mod testing;
pub mod view;

pub use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
pub use body::refuse_fields;
pub use query::Query;
pub use request::Request;
pub use response::{Failure, created, json, no_content, problem, respond};
pub use routes::{ROUTES, Route};
