//! `expirer order …`: orders of a running service, over its HTTP interface.

use std::env;
use std::io::{self, Write};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::cli::{Create, Order, Service};
use crate::config::Redacted;

/// No request takes longer: the service answers within seconds, or not at all.
const TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Does what was asked and prints the order.
///
/// # Errors
/// A text for people: what the service said, or why it could not be asked.
pub(crate) fn run(order: Order) -> Result<(), String> {
    let answer = match order {
        Order::Create(create) => {
            let body = new_order(&create);
            Client::new(create.service)?.post("/orders", Some(&body))
        }
        Order::Get { order } => Client::new(order.service)?.get(&path(order.id.as_str(), "")),
        Order::Complete { order, payment_id } => {
            let body = payment_id.map(|payment| json!({ "paymentId": payment }));
            let path = path(order.id.as_str(), "/complete");
            Client::new(order.service)?.post(&path, body.as_ref())
        }
        Order::Cancel { order } => {
            Client::new(order.service)?.post(&path(order.id.as_str(), "/cancel"), None)
        }
    }?;
    // Whoever closed the output does not want the rest.
    drop(writeln!(io::stdout().lock(), "{}", answer.trim_end()));
    Ok(())
}

fn path(id: &str, verb: &str) -> String {
    format!("/orders/{}{verb}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

fn new_order(create: &Create) -> Value {
    let mut body = json!({
        "userId": create.user_id,
        "ticket": { "id": create.ticket_id, "price": create.price },
    });
    if let Some(id) = &create.id {
        body["id"] = json!(id);
    }
    match (create.expiry.expires_at, create.expiry.expires_in) {
        (Some(at), _) => body["expiresAt"] = json!(at),
        (None, after) => {
            let millis = after.unwrap_or_default().as_millis();
            body["expiresInMs"] = json!(u64::try_from(millis).unwrap_or(u64::MAX));
        }
    }
    body
}

/// A running service.
struct Client {
    agent: Agent,
    url: String,
    token: Option<String>,
}

impl Client {
    fn new(service: Service) -> Result<Self, String> {
        let url = match service.url {
            Some(url) => url,
            None => variable("EXPIRER_URL")?.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        };
        if !url.starts_with("http://") {
            let shown = Redacted(&url);
            return Err(format!("{shown} is no URL of a service; write one such as {DEFAULT_URL}"));
        }
        let token = match service.token {
            Some(token) => Some(token),
            None => variable("EXPIRER_HTTP_TOKEN")?,
        };
        Ok(Self { agent: agent(), url: url.trim_end_matches('/').to_owned(), token })
    }

    fn get(&self, path: &str) -> Result<String, String> {
        self.answer(self.agent.get(format!("{}{path}", self.url)).call())
    }

    fn post(&self, path: &str, body: Option<&Value>) -> Result<String, String> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.answer(match body {
            Some(body) => {
                request.content_type("application/json").send(body.to_string().as_bytes())
            }
            None => request.send_empty(),
        })
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<String, String> {
        let failed = |error: ureq::Error| {
            let (url, cause) = (Redacted(&self.url), cause(&error));
            format!("{url}: {cause}; is `expirer serve` running there? (--url)")
        };
        let mut response = answer.map_err(failed)?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(failed)?;
        if status.is_success() { Ok(text) } else { Err(refusal(status.as_u16(), &text)) }
    }
}

/// Goes straight to the service: a proxy of the environment would be handed the token.
fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .max_redirects(0)
        .proxy(None)
        .build();
    config.into()
}

/// What went wrong, without the URL, which may hold a password.
fn cause(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "no valid URL".to_owned(),
        other => other.to_string(),
    }
}

/// The detail of a problem, or what else came instead.
fn refusal(status: u16, text: &str) -> String {
    let problem: Option<Value> = serde_json::from_str(text).ok();
    match problem.as_ref().and_then(|problem| problem["detail"].as_str()) {
        Some(detail) => format!("{status}: {detail}"),
        None => format!("{status}: {}", text.chars().take(200).collect::<String>()),
    }
}

fn variable(name: &str) -> Result<Option<String>, String> {
    match env::var_os(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(format!("{name} is not valid UTF-8; write it in UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn client(url: &str) -> Result<Client, String> {
        Client::new(Service { url: Some(url.to_owned()), token: Some("t".to_owned()) })
    }

    /// Runs itself once more: only a process of its own has an environment of its own.
    #[test]
    fn no_proxy_of_the_environment_is_used() {
        const PROXY: &str = "http://127.0.0.1:9";
        if env::var("HTTP_PROXY").as_deref() == Ok(PROXY) {
            assert!(Agent::new_with_defaults().config().proxy().is_some());
            assert!(agent().config().proxy().is_none());
            return;
        }
        let name = "client::tests::no_proxy_of_the_environment_is_used";
        let mut again = Command::new(env::current_exe().unwrap());
        again.args(["--exact", name]).env("HTTP_PROXY", PROXY).env("ALL_PROXY", PROXY);
        let output = again.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    #[test]
    fn no_error_shows_the_password_of_the_url() {
        let unreachable = client("http://user:secretpw@127.0.0.1:1").unwrap().get("/orders/o1");
        let unreachable = unreachable.unwrap_err();
        assert!(unreachable.starts_with("http://***@127.0.0.1:1: "), "{unreachable}");
        let invalid = client("http://user:secretpw@ h").unwrap().get("/orders/o1").unwrap_err();
        let bad = cause(&ureq::Error::BadUri("http://user:secretpw@h".to_owned()));
        let other = client("https://user:secretpw@h").err().unwrap();
        for error in [unreachable, invalid, bad, other] {
            assert!(!error.contains("secretpw"), "{error}");
        }
    }
}
