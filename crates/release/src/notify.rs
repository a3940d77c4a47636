//! Telling people: Microsoft Teams, Slack, PagerDuty, or any address that takes a POST.
//!
//! Addresses and keys are secrets: they come from the environment and are shown nowhere.
//!
//! | variable | is told |
//! |---|---|
//! | `LAZULI_TEAMS_WEBHOOK` | a card: <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook> |
//! | `LAZULI_SLACK_WEBHOOK` | a text: <https://api.slack.com/messaging/webhooks> |
//! | `LAZULI_PAGERDUTY_KEY` | an incident when a release is rolled back or stuck: <https://developer.pagerduty.com/docs/send-alert-event> |
//! | `LAZULI_WEBHOOK` | the event as JSON |

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use lazuli_azure::{Client, Secret};
use serde::Serialize;
use serde_json::{Value, json};

/// How long all of them may take at the end of a release.
const LIMIT: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A release began.
    Started,
    /// It is done.
    Finished,
    /// It failed, and production was not touched.
    Failed,
    /// It failed, and production was put back.
    RolledBack,
    /// It is not at its end, and somebody must look.
    Stuck,
}

/// An event worth telling.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct News {
    /// What happened.
    pub what: What,
    /// The app.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// The release.
    pub release: u32,
    /// Who.
    pub by: String,
    /// In a sentence.
    pub text: String,
}

/// Where to tell it.
#[derive(Clone, Debug)]
enum Channel {
    Teams(Secret),
    Slack(Secret),
    PagerDuty { address: Secret, key: Secret },
    Webhook(Secret),
}

/// Tells people.
#[derive(Debug, Default)]
pub struct Notifier {
    channels: Vec<Channel>,
    under_way: Mutex<Vec<tokio::task::JoinHandle<Option<String>>>>,
}

impl Notifier {
    /// Tells nobody.
    pub fn silent() -> Self {
        Self::default()
    }

    /// From variables, looked up by `get`.
    pub fn from(get: impl Fn(&str) -> Option<String>) -> Self {
        let secret = |name: &str| get(name).filter(|value| !value.is_empty()).map(Secret::new);
        let mut channels = Vec::new();
        channels.extend(secret("LAZULI_TEAMS_WEBHOOK").map(Channel::Teams));
        channels.extend(secret("LAZULI_SLACK_WEBHOOK").map(Channel::Slack));
        channels.extend(secret("LAZULI_PAGERDUTY_KEY").map(|key| {
            Channel::PagerDuty {
                // Customers in Europe have another.
                address: Secret::new(
                    get("LAZULI_PAGERDUTY_URL")
                        .unwrap_or_else(|| "https://events.pagerduty.com/v2/enqueue".to_owned()),
                ),
                key,
            }
        }));
        channels.extend(secret("LAZULI_WEBHOOK").map(Channel::Webhook));
        Self { channels, under_way: Mutex::default() }
    }

    /// Tells everybody, in the background: a release waits for no chat.
    pub fn tell(&self, client: &Client, news: &News) {
        if self.channels.is_empty() {
            return;
        }
        let http = match client.outside() {
            Ok(http) => http,
            Err(error) => {
                tracing::warn!(%error, "nobody can be told");
                return;
            }
        };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        for channel in &self.channels {
            let Some((name, address, body)) = channel.message(news) else { continue };
            let http = http.clone();
            under_way.push(tokio::spawn(async move {
                let sent = http.post(address.expose()).json(&body).timeout(LIMIT).send().await;
                match sent {
                    Ok(answer) if answer.status().is_success() => None,
                    Ok(answer) => {
                        Some(format!("{name} was not told: it answered {}", answer.status()))
                    }
                    // The address is a secret.
                    Err(error) => Some(format!("{name} was not told: {}", error.without_url())),
                }
            }));
        }
    }

    /// Waits for what is under way, not for long. What could not be told.
    pub async fn finish(&self) -> Vec<String> {
        let all =
            std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failed = Vec::new();
        for one in all {
            if let Ok(Ok(Some(error))) = tokio::time::timeout(LIMIT, one).await {
                failed.push(error);
            }
        }
        failed
    }
}

impl Channel {
    /// Who is told, where, and what; `None` when it is not their affair.
    fn message(&self, news: &News) -> Option<(&'static str, Secret, Value)> {
        let News { what, app, environment, release, by, text } = news;
        let title = match what {
            What::Started => "release started",
            What::Finished => "released",
            What::Failed => "release failed, production untouched",
            What::RolledBack => "release failed, production put back",
            What::Stuck => "release stuck: somebody must look",
        };
        let title = format!("{app} {environment} {release}: {title}");
        Some(match self {
            Self::Teams(address) => {
                let color = match what {
                    What::Finished => "Good",
                    What::Started => "Accent",
                    _ => "Attention",
                };
                let card = json!({
                    "type": "AdaptiveCard", "version": "1.4",
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "body": [
                        { "type": "TextBlock", "text": title, "weight": "Bolder", "wrap": true, "color": color },
                        { "type": "TextBlock", "text": text, "wrap": true },
                        { "type": "FactSet", "facts": [{ "title": "By", "value": by }] },
                    ],
                });
                let content = "application/vnd.microsoft.card.adaptive";
                let body = json!({ "type": "message", "attachments": [{ "contentType": content, "content": card }] });
                ("Teams", address.clone(), body)
            }
            Self::Slack(address) => {
                // Slack's own three characters.
                let safe = |text: &str| {
                    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
                };
                let body = json!({ "text": format!("*{}*\n{}\nby {}", safe(&title), safe(text), safe(by)) });
                ("Slack", address.clone(), body)
            }
            Self::PagerDuty { address, key } => {
                let severity = match what {
                    What::RolledBack => "error",
                    What::Stuck => "critical",
                    _ => return None,
                };
                let body = json!({
                    "routing_key": key.expose(), "event_action": "trigger",
                    "dedup_key": format!("lazuli/{app}/{environment}/{release}"),
                    "payload": {
                        "summary": format!("{title}: {text}").chars().take(1024).collect::<String>(),
                        "source": format!("{app} {environment}"), "severity": severity,
                        "custom_details": news,
                    },
                });
                ("PagerDuty", address.clone(), body)
            }
            Self::Webhook(address) => ("the webhook", address.clone(), json!(news)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(what: What) -> News {
        News {
            what,
            app: "notes".into(),
            environment: "prod".into(),
            release: 7,
            by: "ada".into(),
            text: "5xx <10 %>".into(),
        }
    }

    #[test]
    fn each_is_told_in_its_own_words_and_an_incident_only_for_what_is_one() {
        let all = Notifier::from(|name| Some(format!("https://hooks.invalid/{name}")));
        assert_eq!(all.channels.len(), 4);
        let of =
            |index: usize, what| all.channels[index].message(&news(what)).map(|(_, _, body)| body);
        let card = of(0, What::RolledBack).expect("a card");
        assert_eq!(card.pointer("/attachments/0/content/body/0/color"), Some(&json!("Attention")));
        assert!(
            of(1, What::Started).expect("a text")["text"]
                .as_str()
                .expect("text")
                .contains("&lt;10 %&gt;")
        );
        assert_eq!(of(2, What::Finished), None);
        assert_eq!(of(2, What::Stuck).expect("an incident")["payload"]["severity"], "critical");
        assert_eq!(of(3, What::Failed).expect("an event")["release"], 7);
        assert!(!format!("{all:?}").contains("hooks.invalid"), "addresses are secrets");
    }
}
