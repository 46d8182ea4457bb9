use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Client;
use crate::wire::serve as serve_request;

/// Serves the engine on a free port until the test's runtime ends.
async fn serve(client: &Client) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let router = crate::router(Arc::clone(&client.sqs));
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

/// Sends a request; the caller reads the response.
async fn begin(addr: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    stream
}

async fn exchange(addr: &str, headers: &str, body: &str) -> (String, String) {
    let mut response = String::new();
    begin(addr, headers, body).await.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

async fn call(addr: &str, operation: &str, request: &Value) -> (String, Value) {
    let target = format!("X-Amz-Target: AmazonSQS.{operation}\r\n");
    let (head, body) = exchange(addr, &target, &request.to_string()).await;
    (head, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn queue_urls_have_the_host_of_the_request() {
    let client = Client::new();
    let addr = serve(&client).await;
    let (head, response) = call(&addr, "CreateQueue", &json!({"QueueName": "q"})).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: application/x-amz-json-1.0"), "{head}");
    assert!(head.contains("x-amzn-requestid: "), "{head}");
    assert_eq!(response, json!({"QueueUrl": format!("http://{addr}/000000000000/q")}));
}

#[tokio::test]
async fn errors_have_the_codes_of_both_protocols() {
    let client = Client::with_queue(&[]);
    let addr = serve(&client).await;
    let missing = json!({"QueueName": "nowhere"});
    let (head, response) = call(&addr, "GetQueueUrl", &missing).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    let code = "x-amzn-query-error: aws.simplequeueservice.nonexistentqueue;sender";
    assert!(head.contains(code), "{head}");
    assert_eq!(
        response,
        json!({
            "__type": "com.amazonaws.sqs#QueueDoesNotExist",
            "message": "The specified queue does not exist.",
        })
    );
    let other = json!({"QueueName": "q", "Attributes": {"DelaySeconds": "1"}});
    let (head, response) = call(&addr, "CreateQueue", &other).await;
    assert!(head.contains("x-amzn-query-error: queuealreadyexists;sender"), "{head}");
    assert_eq!(response["__type"], "com.amazonaws.sqs#QueueNameExists");
    let (head, response) = call(&addr, "AddPermission", &json!({})).await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert_eq!(response["__type"], "com.amazon.coral.service#UnknownOperationException");
}

#[tokio::test]
async fn query_protocol_is_refused_in_xml() {
    let addr = serve(&Client::new()).await;
    let (head, body) = exchange(&addr, "", "Action=ListQueues&Version=2012-11-05").await;
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert!(body.contains("<Code>UnsupportedProtocol</Code>"), "{body}");
}

#[tokio::test]
async fn body_over_the_limit_gets_413() {
    let client = Client::with_queue(&[]);
    // Without a socket: a server that stops reading may break the connection before the client
    // has read why.
    let huge = json!({"QueueUrl": "q", "MessageBody": "x".repeat(9 * 1_048_576)});
    let request = Request::post("/")
        .header("x-amz-target", "AmazonSQS.SendMessage")
        .body(Body::from(huge.to_string()))
        .unwrap();
    let response = serve_request(State(Arc::clone(&client.sqs)), request).await;
    assert_eq!(response.status(), 413);
    assert_eq!(client.depth("q"), (0, 0, 0));
}

#[tokio::test]
async fn connection_that_breaks_during_a_long_poll_loses_no_message() {
    let client = Client::with_queue(&[]);
    let addr = serve(&client).await;
    let request = json!({"QueueUrl": "q", "WaitTimeSeconds": 20}).to_string();
    let stream = begin(&addr, "X-Amz-Target: AmazonSQS.ReceiveMessage\r\n", &request).await;
    while client.sqs.waiting("q") == 0 {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while client.sqs.waiting("q") == 1 {
        tokio::task::yield_now().await;
    }
    client.send("q", "x").await;
    let message = client.receive("q").await.remove(0);
    assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "1");
}
