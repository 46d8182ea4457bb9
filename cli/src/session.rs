//! Which service a command uses, and with which token.
//!
//! `webhooks login` saves the URL of the API, and the token of a deployed service, in a file that only
//! its user can read. Flags and environment variables come first. A saved token is sent to the API that
//! it was saved for, and to no other. The local system hands out tokens itself, so none is saved for it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::api::{self, Api, is_loopback};
use crate::args::Global;
use crate::error::Error;
use crate::output::Output;

/// Where `cargo dev` serves the API by default.
const LOCAL_API: &str = "http://127.0.0.1:3000";

/// What the file contains.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    api_url: Url,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue_url: Option<Url>,
}

/// A service and the right to use it.
pub(crate) struct Session {
    pub(crate) api: Api,
    /// The events queue that was saved with the login.
    pub(crate) queue_url: Option<Url>,
}

/// The service that a command uses.
pub(crate) async fn connect(global: &Global) -> Result<Session, Error> {
    let saved = load(&path(global)?)?;
    let saved = match (&global.api_url, saved) {
        (Some(url), Some(saved)) if saved.api_url == *url => saved,
        (Some(url), _) => Saved { api_url: checked(url)?, token: None, queue_url: None },
        (None, Some(saved)) => saved,
        (None, None) => {
            return Err(Error::Usage(
                "not logged in: `webhooks login`, or give --api-url".to_owned(),
            ));
        }
    };
    let token = match global.token.clone().or(saved.token) {
        Some(token) => token,
        None if is_loopback(&saved.api_url) => local_token(&saved.api_url).await?,
        None => {
            return Err(Error::Usage(
                "no token: give --token or WEBHOOKS_TOKEN, or `webhooks login`".to_owned(),
            ));
        }
    };
    Ok(Session { api: Api::new(saved.api_url, token)?, queue_url: saved.queue_url })
}

/// Saves a service and a token after one request that shows that both are right.
pub(crate) async fn login(
    global: &Global,
    service: Option<Url>,
    queue_url: Option<Url>,
    out: Output,
) -> Result<(), Error> {
    let given = service.or_else(|| global.api_url.clone());
    let api_url = match &given {
        Some(url) => checked(url)?,
        None => LOCAL_API.parse().expect("the URL is valid"),
    };
    let is_local = is_loopback(&api_url);
    let saved_token = match &global.token {
        Some(token) => Some(token.clone()),
        None if is_local => None,
        None => Some(ask_for_token()?),
    };
    let token = match &saved_token {
        Some(token) => token.clone(),
        None => local_token(&api_url).await?,
    };
    let api = Api::new(api_url.clone(), token)?;
    api.get(&["api", "webhooks", "event-types"], &[]).await?;
    let file = path(global)?;
    save(&file, &Saved { api_url: api_url.clone(), token: saved_token, queue_url })?;
    let user = api.user().unwrap_or_else(|| "an unknown user".to_owned());
    out.note(format!("logged in to {api_url} as {user}; saved in {}", file.display()));
    Ok(())
}

/// An API URL must have a host, so that paths can be appended to it.
fn checked(url: &Url) -> Result<Url, Error> {
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        if url.scheme() == "http" && !is_loopback(url) {
            return Err(Error::Usage(format!("{url}: a token is sent over https only")));
        }
        return Ok(url.clone());
    }
    Err(Error::Usage(format!("{url} is not a URL of an API, such as https://webhooks.example.com")))
}

async fn local_token(api_url: &Url) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Issued {
        token: String,
    }
    match api::local(api_url, Method::POST, "token").await {
        Ok(answer) => Ok(api::read::<Issued>(&answer)?.token),
        Err(Error::NotFound(_)) => {
            Err(Error::Usage(format!("{api_url} is not `cargo dev`: give --token")))
        }
        Err(error) => Err(error),
    }
}

fn ask_for_token() -> Result<String, Error> {
    let no_token = |reason: &str| {
        Error::Usage(format!("no token: {reason}; give it on stdin, or as WEBHOOKS_TOKEN"))
    };
    let terminal = terminal::Term::stderr();
    let mut token = String::new();
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        terminal.write_str("Token: ")?;
        token = terminal.read_secure_line()?;
    } else {
        std::io::stdin().read_line(&mut token).map_err(|error| no_token(&error.to_string()))?;
    }
    match token.trim() {
        "" => Err(no_token("it is empty")),
        token => Ok(token.to_owned()),
    }
}

/// `$XDG_CONFIG_HOME/webhooks/login.json`, `~/.config/webhooks/login.json` without it.
fn path(global: &Global) -> Result<PathBuf, Error> {
    if let Some(path) = &global.config {
        return Ok(path.clone());
    }
    let folder = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty());
    let folder = folder.map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".config")));
    let folder = folder
        .ok_or_else(|| Error::Usage("there is no home directory: give --config".to_owned()))?;
    Ok(folder.join("webhooks").join("login.json"))
}

fn load(path: &Path) -> Result<Option<Saved>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Usage(format!("cannot read {}: {error}", path.display()))),
    };
    let saved = serde_json::from_str(&text);
    saved.map(Some).map_err(|error| {
        Error::Usage(format!("{} is damaged ({error}): `webhooks login` again", path.display()))
    })
}

/// Writes a new file that only its user can read, and moves it to its place.
fn save(path: &Path, saved: &Saved) -> Result<(), Error> {
    let failed =
        |error: std::io::Error| Error::Usage(format!("cannot write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let new = path.with_extension("new");
    // One that was left behind may be readable by others.
    let _ = std::fs::remove_file(&new);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let text = serde_json::to_string_pretty(saved).expect("URLs and texts are JSON");
    let mut file = options.open(&new).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_url_is_https_or_on_this_machine() {
        let is_checked = |url: &str| checked(&Url::parse(url).unwrap()).is_ok();
        for url in
            ["https://example.com", "http://localhost:3000", "http://[::1]:1", "http://127.0.0.2/"]
        {
            assert!(is_checked(url), "{url}");
        }
        for url in
            ["http://example.com", "ftp://example.com", "mailto:a@example.com", "http://10.0.0.1"]
        {
            assert!(!is_checked(url), "{url}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn saved_login_is_for_its_user_only_and_is_read_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/login.json");
        assert!(load(&path).unwrap().is_none());
        let api_url = Url::parse("https://example.com").unwrap();
        for token in ["one", "two"] {
            let saved =
                Saved { api_url: api_url.clone(), token: Some(token.to_owned()), queue_url: None };
            save(&path, &saved).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(load(&path).unwrap().unwrap().token.as_deref(), Some(token));
        }
        std::fs::write(&path, "{").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("is damaged"));
    }
}
