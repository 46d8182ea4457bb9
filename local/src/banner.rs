//! What `cargo dev` prints once everything is up: the addresses, a token, and three commands to try.

use std::path::Path;
use std::time::Duration;

use webhooks_core::catalogue::{CATALOGUE, Entry};
use webhooks_core::target::TargetPolicy;

use crate::queues::{EVENTS, REGION};
use crate::system::Addresses;

/// The user of the token in the banner.
pub const USER: &str = "dev";

/// What there is to print.
pub struct Banner<'a> {
    /// Where everything listens.
    pub addresses: Addresses,
    /// The directory of the data; `None` keeps it until the end.
    pub data_dir: Option<&'a Path>,
    /// How strict the rules for targets are.
    pub policy: TargetPolicy,
    /// A token for [`USER`].
    pub token: &'a str,
    /// How long the start took.
    pub took: Duration,
}

impl Banner<'_> {
    /// One line of JSON: the response of `/_local/ready`, and a token with its user.
    pub fn to_json(&self) -> String {
        let mut json = self.addresses.to_json();
        json["user_id"] = USER.into();
        json["token"] = self.token.into();
        json.to_string()
    }

    /// The text. Its first line is the address of the API; programs may rely on that.
    pub fn to_text(&self) -> String {
        let url = Addresses::url;
        let Addresses { api, sqs, dynamodb, receiver } = self.addresses;
        let data = self.data_dir.map_or_else(
            || "temporary (--data-dir DIR keeps it)".to_owned(),
            |dir| dir.display().to_string(),
        );
        let lines = [
            format!("api       {}", url(api)),
            format!("sqs       {}", url(sqs)),
            format!("dynamodb  {}", url(dynamodb)),
            format!("receiver  {}  prints and verifies the webhooks it receives", url(receiver)),
            format!("data      {data}"),
            format!("up after {} ms; Ctrl-C stops", self.took.as_millis()),
            String::new(),
            format!(
                "A token for the user `{USER}`, valid for 24 hours (`cargo dev token USER` prints others):"
            ),
            self.token.to_owned(),
            String::new(),
            "Paste into another terminal.".to_owned(),
            String::new(),
            "1. Create a webhook:".to_owned(),
            self.create(),
            String::new(),
            "2. Publish an event, with curl or with the aws CLI:".to_owned(),
            self.publish(),
            self.publish_with_aws(),
            String::new(),
            "3. List the deliveries of the newest webhook:".to_owned(),
            self.list(),
        ];
        let mut text = lines.join("\n");
        text.push('\n');
        text.push_str(self.note());
        text
    }

    fn create(&self) -> String {
        let target = match self.policy {
            TargetPolicy::Development => format!("{}/", Addresses::url(self.addresses.receiver)),
            TargetPolicy::Strict => "https://example.com/".to_owned(),
        };
        format!(
            "curl -s {}/api/webhooks -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' \
             -d '{{\"url\":\"{target}\",\"event_types\":[\"{}\"]}}'",
            Addresses::url(self.addresses.api),
            self.token,
            CATALOGUE[0].name,
        )
    }

    fn publish(&self) -> String {
        let queue = self.addresses.queue_url(EVENTS.name);
        let message = serde_json::json!({"QueueUrl": queue, "MessageBody": event()});
        format!(
            "curl -s {}/ -H 'Content-Type: application/x-amz-json-1.0' \
             -H 'X-Amz-Target: AmazonSQS.SendMessage' -d '{message}'",
            Addresses::url(self.addresses.sqs),
        )
    }

    fn publish_with_aws(&self) -> String {
        format!(
            "AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local aws sqs send-message --region {REGION} \
             --endpoint-url {} --queue-url {} --message-body '{}'",
            Addresses::url(self.addresses.sqs),
            self.addresses.queue_url(EVENTS.name),
            event(),
        )
    }

    /// The list is newest first, so the first id is that of the newest webhook.
    fn list(&self) -> String {
        let (api, token) = (Addresses::url(self.addresses.api), self.token);
        let bearer = format!("-H 'Authorization: Bearer {token}'");
        format!(
            "curl -s {bearer} {api}/api/webhooks/$(curl -s {bearer} {api}/api/webhooks \
             | grep -o 'wh_[0-9A-Z]*' | head -n 1)/deliveries"
        )
    }

    fn note(&self) -> &'static str {
        match self.policy {
            TargetPolicy::Development => {
                "\nThe receiver also returns /fail/2 (500 twice, then 200), /status/503, /slow/5, /gone.\n"
            }
            TargetPolicy::Strict => {
                "\nTargets are guarded as deployed: HTTPS to public addresses only, not this receiver.\n"
            }
        }
    }
}

/// The sample of the first event type, as a message between single quotes.
fn event() -> String {
    let Entry { name, example, .. } = &CATALOGUE[0];
    let event = format!(r#"{{"event_type":"{name}","user_id":"{USER}","data":{example}}}"#);
    event.replace('\'', r"\u0027")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(policy: TargetPolicy) -> String {
        let address = |port| ([127, 0, 0, 1], port).into();
        let addresses = Addresses {
            api: address(1),
            sqs: address(2),
            dynamodb: address(3),
            receiver: address(4),
        };
        let took = Duration::from_millis(12);
        Banner { addresses, data_dir: None, policy, token: "TOKEN", took }.to_text()
    }

    #[test]
    fn first_line_is_the_address_of_the_api() {
        assert!(text(TargetPolicy::Development).starts_with("api       http://127.0.0.1:1\n"));
    }

    #[test]
    fn commands_have_balanced_quotes() {
        for policy in [TargetPolicy::Development, TargetPolicy::Strict] {
            let text = text(policy);
            let lines = text.lines().filter(|line| line.contains("http://") && line.contains('\''));
            assert_eq!(lines.clone().count(), 4);
            assert!(lines.into_iter().all(|line| line.matches('\'').count() % 2 == 0));
        }
        assert!(text(TargetPolicy::Development).contains(r#""url":"http://127.0.0.1:4/""#));
        assert!(text(TargetPolicy::Strict).contains(r#""url":"https://example.com/""#));
    }
}
