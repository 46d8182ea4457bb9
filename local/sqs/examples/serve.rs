//! The local SQS by itself: `cargo run -p local-sqs --example serve -- [--addr A] [--dir D]`.

use std::path::Path;
use std::sync::Arc;

use local_sqs::{Sqs, SystemClock, router};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut addr = "127.0.0.1:9324".to_owned();
    let mut dir = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--addr" => addr = value,
            "--dir" => dir = Some(value),
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    let clock = Arc::new(SystemClock);
    let sqs = match dir {
        Some(dir) => Sqs::open(Path::new(&dir), clock, "us-east-1")?,
        None => Sqs::new(clock, "us-east-1"),
    };
    let listener = tokio::net::TcpListener::bind(&addr).await?;
    axum::serve(listener, router(Arc::new(sqs))).await?;
    Ok(())
}
