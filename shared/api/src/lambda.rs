//! Running a handler on `lambda_http`: in Lambda, and event by event for the local system and tests.

use std::convert::Infallible;

use http::header::CONTENT_TYPE;
use lambda_http::request::LambdaRequest;
use lambda_http::tower::ServiceExt as _;
use lambda_http::{
    Adapter, Body, Context, Error, LambdaEvent, Request, Response, Service, lambda_runtime,
    service_fn,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;

use crate::problem;

/// The characters that a client may send in a query string although a URI has none of them there
/// (RFC 3986, section 3.4). On these, `lambda_http` panics, or drops the rest.
const NOT_IN_A_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Runs a handler for as long as Lambda keeps the process. It is `lambda_http::run`, except that
/// query strings with characters that a URI has none of reach the handler. With the address of
/// `docs/PROBLEMS.md`, the `type` of a problem is the address of its section.
pub async fn run<F>(
    mut handler: impl FnMut(Request) -> F,
    problems: Option<String>,
) -> Result<(), Error>
where
    F: Future<Output = Response<Body>> + Send,
{
    let handler = |request| {
        let response = handler(request);
        let problems = problems.as_deref();
        async move {
            match problems {
                Some(base) => with_documented_problem(response.await, base),
                None => response.await,
            }
        }
    };
    lambda_runtime::run(service(handler)).await
}

/// The response with the address of its problem's documentation as the `type`.
fn with_documented_problem(mut response: Response<Body>, base: &str) -> Response<Body> {
    let is_problem =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == problem::CONTENT_TYPE);
    if is_problem && let Body::Text(text) = response.body_mut() {
        // The `type` comes first.
        *text = text.replacen(problem::TYPE_PREFIX, &format!("{base}#"), 1);
    }
    response
}

/// Calls a handler with an event's JSON, and returns the response's JSON. Both pass through the
/// same service as in [`run`].
pub async fn invoke<F>(
    handler: impl FnMut(Request) -> F,
    event: &str,
) -> Result<String, serde_json::Error>
where
    F: Future<Output = Response<Body>> + Send,
{
    let event = LambdaEvent::new(serde_json::from_str(event)?, Context::default());
    let Ok(response) = service(handler).call(event).await;
    serde_json::to_string(&response)
}

fn service<'a, F>(
    mut handler: impl FnMut(Request) -> F,
) -> impl Service<LambdaEvent<LambdaRequest>, Response = impl Serialize, Error = Infallible, Future: Send>
where
    F: Future<Output = Response<Body>> + Send + 'a,
{
    let respond = move |request| {
        let response = handler(request);
        async { Ok::<_, Infallible>(response.await) }
    };
    Adapter::<'a, _, _>::from(service_fn(respond)).map_request(with_encoded_query)
}

fn with_encoded_query(mut event: LambdaEvent<LambdaRequest>) -> LambdaEvent<LambdaRequest> {
    if let LambdaRequest::ApiGatewayV2(request) = &mut event.payload
        && let Some(query) = &mut request.raw_query_string
    {
        *query = utf8_percent_encode(query, NOT_IN_A_QUERY).to_string();
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;

    #[test]
    fn problem_type_leads_to_its_section_when_an_address_is_configured() {
        for problem in Problem::examples() {
            let response = crate::problem(&problem);
            let base = "https://example.com/PROBLEMS.md";
            let response = with_documented_problem(response, base);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            let name = problem.details().kind.strip_prefix(problem::TYPE_PREFIX).unwrap();
            assert_eq!(body["type"], format!("{base}#{name}"));
        }
    }
}
