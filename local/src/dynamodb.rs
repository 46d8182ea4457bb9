//! The embedded DynamoDB: [dynoxide](https://docs.rs/dynoxide-rs) behind a listener, for the
//! handlers and for ordinary AWS clients alike.

use std::path::Path;
use std::time::Duration;

use dynoxide::Database;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The file in the data directory.
const FILE: &str = "dynamodb.sqlite";
/// DynamoDB deletes expired rows "within a few days"; here it is soon, so that it can be observed.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(1);

/// What SQLite takes for a file that only it knows. What does not fit into its cache of 2 MB is in that file, which
/// is gone when the process ends; nothing is synchronised with the disk (<https://sqlite.org/inmemorydb.html>).
const TEMPORARY: &str = "";

/// Opens the database in a directory, or one that ends with the process and whose history does not fill the memory.
pub fn open(data_dir: Option<&Path>) -> Result<Database, String> {
    let path = data_dir.map_or_else(|| TEMPORARY.into(), |dir| dir.join(FILE));
    Database::new(&path.to_string_lossy()).map_err(|error| error.to_string())
}

/// Deletes expired rows periodically; never returns.
pub async fn delete_expired_rows(database: Database) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        let database = database.clone();
        // It blocks its thread.
        let deleted = tokio::task::spawn_blocking(move || database.sweep_ttl()).await;
        if let Ok(Err(error)) = deleted {
            tracing::warn!(%error, "expired rows could not be deleted");
        }
    }
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, database: Database, stop: CancellationToken) {
    let served =
        dynoxide::server::serve_with_shutdown(listener, database, stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the DynamoDB endpoint ended");
    }
}
