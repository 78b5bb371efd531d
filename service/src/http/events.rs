//! The live tail as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::sse::{Event, KeepAlive, Sse};
use expirer_core::{Group, Headers, Message, ReceiveOptions, Subject, Tail};
use futures_lite::{Stream, future, stream};
use tokio::sync::OwnedSemaphorePermit;
use tracing::warn;

use super::{App, Problem};
use crate::shutdown::Stop;

/// How many streams are served at a time.
pub(crate) const STREAMS_MAX: usize = 1024;
/// A comment this often keeps proxies from closing a quiet stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const BATCH_MAX: usize = 64;
const WAIT: Duration = Duration::from_secs(5);

/// What is shown: the five subjects and our dead letters.
fn subjects() -> Vec<Subject> {
    let groups = [Group::EXPIRATION_SERVICE, Group::ORDERS_SERVICE, Group::STDIO];
    let dead = groups.map(Subject::Dead);
    Subject::EVENTS.into_iter().chain(dead).collect()
}

/// `GET /events`
pub(crate) async fn events(
    Shared(app): Shared<Arc<App>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = Arc::clone(&app.streams).try_acquire_owned();
    let permit = permit.map_err(|_| {
        Problem::unavailable(format!("{STREAMS_MAX} streams are open already; try again later"))
    })?;
    let tail = app.bus.tail(&subjects()).await?;
    let first = Event::default().comment("live");
    let live =
        Live { tail, ready: VecDeque::from([first]), stop: app.stop.clone(), _permit: permit };
    let events = stream::unfold(live, |mut live| async {
        let event = live.next().await?;
        Some((Ok(event), live))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// One stream.
struct Live {
    tail: Box<dyn Tail>,
    ready: VecDeque<Event>,
    stop: Stop,
    _permit: OwnedSemaphorePermit,
}

impl Live {
    /// The next event; none once the service stops or the tail has failed. Clients come again.
    async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            let options = ReceiveOptions::new(BATCH_MAX).with_wait(WAIT);
            let stopped = async {
                self.stop.wait().await;
                None
            };
            let received = async { Some(self.tail.receive(options).await) };
            match future::or(stopped, received).await? {
                Ok(batch) => {
                    if batch.missed > 0 {
                        let comment = format!("missed {} messages", batch.missed);
                        self.ready.push_back(Event::default().comment(comment));
                    }
                    self.ready.extend(batch.messages.iter().map(event));
                }
                Err(error) => {
                    warn!(%error, "the live tail failed; its stream ends");
                    return None;
                }
            }
            // A tail in memory may never pend.
            future::yield_now().await;
        }
        self.ready.pop_front()
    }
}

/// Of a dead letter, the headers come as comments first: they hold why it is one.
fn event(message: &Message) -> Event {
    let mut event = Event::default();
    if matches!(message.subject, Subject::Dead(_)) {
        for name in [Headers::REASON, Headers::SUBJECT, Headers::TIME] {
            let value = message.headers.get(name).unwrap_or_default();
            event = event.comment(format!("{name}={}", line(value.as_bytes())));
        }
    }
    let event = event.event(message.subject.as_str()).data(line(&message.payload));
    match &message.id {
        // A field of the stream ends with its line.
        Some(id) if !id.as_str().contains(['\n', '\r', '\0']) => event.id(id.as_str()),
        _ => event,
    }
}

/// The payload on one line: outside its strings, JSON takes a space for a line's end, and inside
/// them it has none. What is no text is shown as far as it is.
fn line(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::response::IntoResponse;
    use expirer_core::Timestamp;

    use super::*;

    /// The event as it goes over the wire.
    async fn written(message: &Message) -> String {
        let event = Ok::<_, Infallible>(event(message));
        let response = Sse::new(stream::iter([event])).into_response();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_dead_letter_says_why_before_its_event() {
        let message = Message::new(Subject::OrderCreated, &b"{}"[..]);
        let group = Group::ORDERS_SERVICE;
        let mut letter = message.into_dead_letter(group, "no ticket", Timestamp::EPOCH);
        letter.id = None;
        let expected = ": expirer-reason=no ticket\n: expirer-subject=order:created\n\
                        : expirer-time=1970-01-01T00:00:00.000Z\n\
                        event: dead:orders-service\ndata: {}\n\n";
        assert_eq!(written(&letter).await, expected);
    }

    #[tokio::test]
    async fn no_header_can_end_its_line() {
        let letter = Message::new(Subject::Dead(Group::STDIO), &b"{}"[..]);
        let letter = letter.with_header(Headers::REASON, "a\ndata: b\rc");
        assert!(written(&letter).await.starts_with(": expirer-reason=a data: b c\n"));
    }

    #[tokio::test]
    async fn other_messages_have_no_comment() {
        let message = Message::new(Subject::OrderCreated, &b"{}"[..]);
        let message = message.with_header(Headers::REASON, "redelivered");
        assert_eq!(written(&message).await, "event: order:created\ndata: {}\n\n");
    }

    #[test]
    fn any_payload_is_one_line() {
        assert_eq!(line(b"{\n  \"id\": \"a\\nb\"\r\n}"), "{   \"id\": \"a\\nb\"  }");
        assert_eq!(line(b"\xff{"), "\u{fffd}{");
    }
}
