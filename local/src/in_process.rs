//! SDK clients of the tables and queues of this process.
//!
//! The functions of the local system use the deployed adapters. Their requests go to the embedded
//! tables and queues as the SDK has serialised them, but without a socket and without a signature, which
//! nothing here checks. Other programs use the listeners.
//!
//! Deliberately absent: the operations of DynamoDB that no function uses.

use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::{
    AuthScheme, AuthSchemeEndpointConfig, AuthSchemeId, Sign,
};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::identity::{Identity, SharedIdentityResolver};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{GetIdentityResolver, RuntimeComponents};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use dynoxide::{Database, DynoxideError};
use local_sqs::Sqs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use webhooks_aws::clients;

/// The prefix of the header that names an operation of DynamoDB.
const DYNAMODB_TARGET: &str = "DynamoDB_20120810.";
const TARGET_HEADER: &str = "x-amz-target";
/// The name by which the SDK knows the way in which requests are signed.
const SIGV4: AuthSchemeId = AuthSchemeId::new("sigv4");

/// A client of the tables. `endpoint_url` is where other programs find them.
pub(crate) fn dynamodb(database: Database, endpoint_url: &str) -> aws_sdk_dynamodb::Client {
    let config = clients::with_connector(endpoint_url, Tables(database));
    let config = aws_sdk_dynamodb::config::Builder::from(&config).push_auth_scheme(Unsigned);
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// A client of the queues. `endpoint_url` is where other programs find them.
pub(crate) fn sqs(sqs: Arc<Sqs>, endpoint_url: &str) -> aws_sdk_sqs::Client {
    let host = endpoint_url.trim_start_matches("http://").to_owned();
    let config = clients::with_connector(endpoint_url, Queues { sqs, host: host.into() });
    let config = aws_sdk_sqs::config::Builder::from(&config).push_auth_scheme(Unsigned);
    aws_sdk_sqs::Client::from_conf(config.build())
}

struct Tables(Database);

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tables")
    }
}

impl HttpConnector for Tables {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.respond(&request))
    }
}

impl Tables {
    fn respond(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let (target, body) = parts(request)?;
        let operation = target.strip_prefix(DYNAMODB_TARGET).unwrap_or_default();
        let (status, body) = match self.run(operation, body) {
            Ok(body) => (200, body),
            Err(error) => (error.status_code(), error.to_json()),
        };
        response(status, body)
    }

    fn run(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        let Self(database) = self;
        match operation {
            "GetItem" => run(body, |request| database.get_item(request)),
            "PutItem" => run(body, |request| database.put_item(request)),
            "UpdateItem" => run(body, |request| database.update_item(request)),
            "DeleteItem" => run(body, |request| database.delete_item(request)),
            "Query" => run(body, |request| database.query(request)),
            "Scan" => run(body, |request| database.scan(request)),
            "BatchGetItem" => run(body, |request| database.batch_get_item(request)),
            "BatchWriteItem" => run(body, |request| database.batch_write_item(request)),
            "TransactWriteItems" => run(body, |request| database.transact_write_items(request)),
            "TransactGetItems" => run(body, |request| database.transact_get_items(request)),
            "CreateTable" => run(body, |request| database.create_table(request)),
            "DescribeTable" => run(body, |request| database.describe_table(request)),
            "UpdateTimeToLive" => run(body, |request| database.update_time_to_live(request)),
            "DescribeTimeToLive" => run(body, |request| database.describe_time_to_live(request)),
            other => Err(DynoxideError::ValidationException(format!(
                "the functions do not use the operation {other:?}"
            ))),
        }
    }
}

fn run<Q: DeserializeOwned, R: Serialize>(
    body: &[u8],
    act: impl FnOnce(Q) -> Result<R, DynoxideError>,
) -> Result<String, DynoxideError> {
    let request = serde_json::from_slice(body)
        .map_err(|error| DynoxideError::SerializationException(error.to_string()))?;
    let response = act(request)?;
    serde_json::to_string(&response)
        .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
}

struct Queues {
    sqs: Arc<Sqs>,
    host: Arc<str>,
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queues")
    }
}

impl HttpConnector for Queues {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (sqs, host) = (Arc::clone(&self.sqs), Arc::clone(&self.host));
        HttpConnectorFuture::new(async move {
            let (target, body) = parts(&request)?;
            let reply = local_sqs::call(&sqs, target, &host, body).await;
            let mut response = response(reply.status, reply.body)?;
            if let Some(query_error) = reply.query_error {
                response.headers_mut().insert("x-amzn-query-error", query_error);
            }
            Ok(response)
        })
    }
}

/// The operation and the body of a request.
fn parts(request: &HttpRequest) -> Result<(&str, &[u8]), ConnectorError> {
    let target = request.headers().get(TARGET_HEADER);
    target.zip(request.body().bytes()).ok_or_else(|| {
        ConnectorError::other("the request has no operation or a body that streams".into(), None)
    })
}

fn response(status: u16, body: String) -> Result<HttpResponse, ConnectorError> {
    let status = status.try_into().map_err(|error| ConnectorError::other(Box::new(error), None))?;
    Ok(HttpResponse::new(status, SdkBody::from(body)))
}

/// Takes the place of the signature.
#[derive(Debug)]
struct Unsigned;

impl AuthScheme for Unsigned {
    fn scheme_id(&self) -> AuthSchemeId {
        SIGV4
    }

    fn identity_resolver(
        &self,
        resolvers: &dyn GetIdentityResolver,
    ) -> Option<SharedIdentityResolver> {
        resolvers.identity_resolver(SIGV4)
    }

    fn signer(&self) -> &dyn Sign {
        self
    }
}

impl Sign for Unsigned {
    fn sign_http_request(
        &self,
        _: &mut HttpRequest,
        _: &Identity,
        _: AuthSchemeEndpointConfig<'_>,
        _: &RuntimeComponents,
        _: &ConfigBag,
    ) -> Result<(), BoxError> {
        Ok(())
    }
}
