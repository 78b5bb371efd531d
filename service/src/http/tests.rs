use axum::body::{Body, to_bytes};
use axum::http::header::{self, HeaderMap};
use axum::http::{Request, StatusCode};
use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_core::flow::Env;
use expirer_core::observe::{Flow, Signal};
use expirer_core::queue::MockDelayQueue;
use expirer_core::repo::MockOrderRepo;
use expirer_core::{
    Error, ErrorKind, Group, Observer, OrderRepo, QueueStats, Subject, SubscribeOptions,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::config::Token;

/// A router over backends in memory, or with a repository of one's own.
struct Service {
    router: Router,
    app: Arc<App>,
}

impl Service {
    async fn start() -> Self {
        Self::with(Access::Loopback, None).await
    }

    async fn with(access: Access, repo: Option<Arc<dyn OrderRepo>>) -> Self {
        let mut queue = MockDelayQueue::new();
        queue.expect_cancel().returning(|_| Ok(()));
        let mut stats = QueueStats::default();
        (stats.pending, stats.leased) = (5, 2);
        queue.expect_stats().returning(move || Ok(stats));
        Self::with_queue(access, repo, queue).await
    }

    async fn with_queue(
        access: Access,
        repo: Option<Arc<dyn OrderRepo>>,
        queue: MockDelayQueue,
    ) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let options = ConnectOptions::new(Arc::clone(&clock), 1);
        let bus = connect::bus("memory:", &options).await.unwrap().backend.bus;
        let repo = match repo {
            Some(repo) => repo,
            None => connect::repo("memory:", &options).await.unwrap().backend,
        };
        let ears = Arc::new(Ears::new(&[Flow::Scheduler, Flow::Expirer]));
        let env = Env::new(Arc::clone(&clock), Arc::<Ears>::clone(&ears));
        let queue: Arc<dyn DelayQueue> = Arc::new(queue);
        let orders = Orders::new(Arc::clone(&bus), repo, Arc::clone(&queue), env);
        let app = Arc::new(App::new(orders, bus, queue, clock, ears, access, Stop::new()));
        Self { router: router(Arc::clone(&app), true), app }
    }

    /// Names the host, as every client does, unless the request does.
    async fn send(&self, mut request: Request<Body>) -> Answer {
        let local = header::HeaderValue::from_static("127.0.0.1:8080");
        request.headers_mut().entry(header::HOST).or_insert(local);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body: body.to_vec() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(request.body(Body::from(body.into())).unwrap()).await
    }

    async fn create(&self, order: &Value) -> Answer {
        self.post("/orders", order.to_string()).await
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The detail of a problem with this status, checked to be one.
    fn problem(&self, status: u16) -> String {
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(self.header(&header::CONTENT_TYPE), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

fn order() -> Value {
    json!({
        "id": "o1",
        "userId": "u1",
        "ticket": { "id": "t1", "price": 20 },
        "expiresAt": "2999-01-01T00:00:00+01:00",
        "extra": { "is": "ignored" },
    })
}

#[tokio::test]
async fn an_order_is_created_read_and_completed() {
    let service = Service::start().await;
    let created = service.create(&order()).await;
    let expected = json!({
        "id": "o1",
        "version": 0,
        "status": "created",
        "userId": "u1",
        "expiresAt": "2998-12-31T23:00:00.000Z",
        "ticket": { "id": "t1", "price": 20 },
    });
    assert_eq!((created.status, created.json()), (StatusCode::CREATED, expected.clone()));
    assert_eq!(created.header(&header::LOCATION), "/orders/o1");
    assert_eq!(created.header(&header::CONTENT_TYPE), "application/json");

    let again = service.create(&order()).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, expected.clone()));
    let read = service.get("/orders/o1").await;
    assert_eq!((read.status, read.json()), (StatusCode::OK, expected));

    let complete = service.post("/orders/o1/complete", r#"{ "paymentId": "p1" }"#).await;
    assert_eq!(complete.status, StatusCode::OK);
    assert_eq!(
        (&complete.json()["status"], &complete.json()["version"]),
        (&json!("complete"), &json!(1))
    );
    let detail = service.post("/orders/o1/cancel", "").await.problem(409);
    assert_eq!(detail, "the order is complete");
}

#[tokio::test]
async fn an_order_is_cancelled_and_not_paid_after() {
    let service = Service::start().await;
    service.create(&order()).await;
    let empty = Request::post("/orders/o1/cancel").body(Body::empty()).unwrap();
    let cancelled = service.send(empty).await;
    assert_eq!(
        (cancelled.status, &cancelled.json()["status"]),
        (StatusCode::OK, &json!("cancelled"))
    );
    let repeat = service.post("/orders/o1/cancel", "").await;
    assert_eq!(repeat.status, StatusCode::OK);
    let empty = Request::post("/orders/o1/complete").body(Body::empty()).unwrap();
    assert_eq!(service.send(empty).await.problem(409), "the order is cancelled");
}

#[tokio::test]
async fn another_order_with_the_same_id_is_refused() {
    let service = Service::start().await;
    service.create(&order()).await;
    let mut other = order();
    other["userId"] = json!("u2");
    assert_eq!(service.create(&other).await.problem(409), "another order has this id");
}

#[tokio::test]
async fn an_id_is_made_up_and_a_duration_counts_from_now() {
    let service = Service::start().await;
    let new = json!({
        "userId": "u1", "ticket": { "id": "t1", "price": 0.5 }, "expiresInMs": 60_000, "id": null,
    });
    let before = service.app.clock.now();
    let created = service.create(&new).await;
    let after = service.app.clock.now();
    assert_eq!(created.status, StatusCode::CREATED);
    let order = created.json();
    let id = order["id"].as_str().unwrap();
    assert_eq!(id.len(), 24);
    assert_eq!(created.header(&header::LOCATION), format!("/orders/{id}"));
    let at: expirer_core::Timestamp = order["expiresAt"].as_str().unwrap().parse().unwrap();
    let minute = std::time::Duration::from_secs(60);
    assert!((before + minute..=after + minute).contains(&at));
}

#[tokio::test]
async fn any_id_finds_its_way_through_the_path() {
    let service = Service::start().await;
    let mut new = order();
    new["id"] = json!("a/b:c ü?#%");
    let created = service.create(&new).await;
    let location = created.header(&header::LOCATION).to_owned();
    assert_eq!(service.get(&location).await.json()["id"], "a/b:c ü?#%");
}

/// Every field wrong in turn: a path into the body, the value (`null` removes it), what is said.
fn wrong_fields() -> Vec<(&'static str, Value, &'static str)> {
    let long = json!("x".repeat(200));
    vec![
        ("/id", json!(5), "id: "),
        ("/id", json!(""), "id: the id is empty"),
        ("/id", long.clone(), "id: the id has 200 bytes"),
        ("/id", json!("a\u{0}"), "id: the id has a control character"),
        ("/userId", Value::Null, "userId"),
        ("/userId", json!({}), "userId: "),
        ("/userId", json!(""), "userId: the id is empty"),
        ("/userId", long.clone(), "userId: "),
        ("/ticket", Value::Null, "ticket"),
        ("/ticket", json!("t1"), "ticket: "),
        ("/ticket/id", Value::Null, "ticket.id: "),
        ("/ticket/id", json!(true), "ticket.id: "),
        ("/ticket/id", long, "ticket.id: "),
        ("/ticket/price", Value::Null, "ticket.price: "),
        ("/ticket/price", json!("20"), "ticket.price: "),
        ("/ticket/price", json!(-1), "ticket.price: a price is 0 or more"),
        ("/expiresAt", Value::Null, "expiresAt"),
        ("/expiresAt", json!(1_763_805_600_000_u64), "expiresAt: "),
        ("/expiresAt", json!(""), "expiresAt: "),
        ("/expiresAt", json!("NaN"), "expiresAt: "),
        ("/expiresAt", json!("2026-11-22T10:00:00"), "expiresAt: "),
        ("/expiresAt", json!("2026-02-30T00:00:00Z"), "expiresAt: "),
        ("/expiresAt", json!("10000-01-01T00:00:00Z"), "expiresAt: "),
        ("/expiresInMs", json!(5), "expiresAt and expiresInMs are both given"),
    ]
}

#[tokio::test]
async fn every_field_wrong_in_turn_is_refused_by_its_name() {
    let service = Service::start().await;
    for (path, value, said) in wrong_fields() {
        let mut new = order();
        match path.rsplit_once('/') {
            Some((parent, name)) => new.pointer_mut(parent).unwrap()[name] = value,
            None => panic!("{path}"),
        }
        let detail = service.create(&new).await.problem(400);
        assert!(detail.starts_with("the body: ") && detail.contains(said), "{path}: {detail}");
    }
    for name in ["userId", "ticket", "expiresAt"] {
        let mut new = order();
        new.as_object_mut().unwrap().remove(name);
        let detail = service.create(&new).await.problem(400);
        assert!(detail.contains(&format!("missing field `{name}`")), "{detail}");
    }
    let detail = service.post("/orders/o1/complete", r#"{"paymentId": 5}"#).await.problem(400);
    assert!(detail.contains("paymentId: "), "{detail}");
    service.get("/orders/o1").await.problem(404);
}

#[tokio::test]
async fn a_duration_is_a_whole_number_up_to_the_year_9999() {
    let service = Service::start().await;
    let create = async |millis: &str| {
        let start = r#"{"userId":"u","ticket":{"id":"t","price":1},"expiresInMs":"#;
        service.post("/orders", format!("{start}{millis}}}")).await
    };
    for millis in ["-1", "1.5", "\"5\"", "1e400", "true", "[]"] {
        let detail = create(millis).await.problem(400);
        assert!(detail.contains("expiresInMs") || detail.contains("out of range"), "{detail}");
    }
    for millis in ["253402300800000", "18446744073709551615"] {
        let detail = create(millis).await.problem(400);
        assert!(detail.contains("expiresInMs: leads beyond the year 9999"), "{detail}");
    }
    for millis in ["0", "9007199254740991"] {
        let created = create(millis).await;
        let refused = millis != "0";
        assert_eq!(created.status == StatusCode::BAD_REQUEST, refused, "{created:?}");
    }
}

#[tokio::test]
async fn broken_bodies_are_refused() {
    let service = Service::start().await;
    for body in
        [&b""[..], b"{", b"null", b"[]", b"\"\"", b"\xff\xfe", b"{\"userId\": \"\xff\"}", b"NaN"]
    {
        let detail = service.post("/orders", body).await.problem(400);
        assert!(detail.starts_with("the body: "), "{detail}");
    }
    let bomb = "[".repeat(60_000);
    assert!(service.post("/orders", bomb).await.problem(400).contains("the body: "));
    let ignored = format!("{{\"bomb\": {}", "[".repeat(60_000));
    service.post("/orders", ignored).await.problem(400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_one_at_it_is_not() {
    let service = Service::start().await;
    let mut at = order().to_string();
    at.push_str(&" ".repeat(BODY_BYTES_MAX - at.len()));
    assert_eq!(service.post("/orders", at.clone()).await.status, StatusCode::CREATED);
    at.push(' ');
    let detail = service.post("/orders", at).await.problem(413);
    assert!(detail.contains("65536 bytes"), "{detail}");
    let long = json!({ "paymentId": "x".repeat(BODY_BYTES_MAX) }).to_string();
    service.post("/orders/o1/complete", long).await.problem(413);
}

#[tokio::test]
async fn a_body_needs_its_type() {
    let service = Service::start().await;
    let send = async |path: &str, kind: Option<&[u8]>| {
        let mut request = Request::post(path);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        service.send(request.body(Body::from(order().to_string())).unwrap()).await
    };
    for kind in [None, Some(&b"text/plain"[..]), Some(b"application/jsonp"), Some(b"\xff")] {
        assert!(send("/orders", kind).await.problem(415).contains("application/json"));
        send("/orders/o1/complete", kind).await.problem(415);
    }
    for kind in
        [&b"application/json; charset=utf-8"[..], b"APPLICATION/JSON", b"application/x+json"]
    {
        assert!(send("/orders", Some(kind)).await.status.is_success());
    }
}

#[tokio::test]
async fn unknown_orders_paths_and_methods_are_problems() {
    let service = Service::start().await;
    assert_eq!(service.get("/orders/o9").await.problem(404), "there is no such order");
    service.post("/orders/o9/complete", "").await.problem(404);
    service.post("/orders/o9/cancel", "").await.problem(404);
    for path in ["/", "/nothing", "/orders/", "/orders/o1/pay"] {
        service.get(path).await.problem(404);
    }
    let detail = service.get("/orders").await;
    assert_eq!(detail.header(&header::ALLOW), "POST");
    assert_eq!(detail.problem(405), "/orders does not take GET");
    service.post("/healthz", "").await.problem(405);
    service.post("/orders//complete", "").await.problem(400);
    let odd = Request::builder().method("ÄÖÜ-METHOD".replace(['Ä', 'Ö', 'Ü'], "X").as_str());
    service.send(odd.uri("/orders").body(Body::empty()).unwrap()).await.problem(405);
}

#[tokio::test]
async fn a_bad_id_in_the_path_is_a_problem() {
    let service = Service::start().await;
    for id in ["%ff", "%00", "a%0a", &"x".repeat(129)] {
        let detail = service.get(&format!("/orders/{id}")).await.problem(400);
        assert!(detail.starts_with("the id in the path: "), "{detail}");
        service.post(&format!("/orders/{id}/complete"), "").await.problem(400);
        service.post(&format!("/orders/{id}/cancel"), "").await.problem(400);
    }
}

#[tokio::test]
async fn a_backend_that_fails_is_503_and_the_text_stays_in_the_log() {
    let mut repo = MockOrderRepo::new();
    repo.expect_load().returning(|_| {
        Err(Error::new(ErrorKind::Unavailable, "test", "load", "secret.internal:6379 is down"))
    });
    let service = Service::with(Access::Loopback, Some(Arc::new(repo))).await;
    let answers = [
        service.create(&order()).await,
        service.get("/orders/o1").await,
        service.post("/orders/o1/complete", "").await,
        service.post("/orders/o1/cancel", "").await,
    ];
    for answer in answers {
        assert_eq!(answer.header(&header::RETRY_AFTER), "1");
        let detail = answer.problem(503);
        assert!(detail.contains("test: unavailable") && !detail.contains("secret"), "{detail}");
    }
}

#[tokio::test]
async fn beyond_loopback_writes_need_the_token() {
    let token = Token::parse("hunter2").unwrap();
    let service = Service::with(Access::new(Some(token), false), None).await;
    let send = async |authorization: Option<&str>| {
        let mut request = Request::post("/orders").header("content-type", "application/json");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        service.send(request.body(Body::from(order().to_string())).unwrap()).await
    };
    for wrong in
        [None, Some("Bearer hunter3"), Some("Bearer "), Some("hunter2"), Some("Basic hunter2")]
    {
        let answer = send(wrong).await;
        assert_eq!(answer.header(&header::WWW_AUTHENTICATE), "Bearer");
        answer.problem(401);
    }
    for path in ["/orders/o1/complete", "/orders/o1/cancel"] {
        service.post(path, "").await.problem(401);
    }
    service.get("/orders/o1").await.problem(404);
    assert_eq!(send(Some("Bearer hunter2")).await.status, StatusCode::CREATED);
    assert_eq!(send(Some("bearer hunter2")).await.status, StatusCode::OK);

    let service = Service::with(Access::new(None, true), None).await;
    assert!(service.create(&order()).await.problem(403).contains("--http-token"));
    service.get("/orders/o1").await.problem(404);
}

#[tokio::test]
async fn readiness_names_who_is_missing() {
    let service = Service::start().await;
    assert_eq!(service.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(service.get("/readyz").await.problem(503), "not ready: scheduler, expirer");
    service.app.ears.on(&Signal::Ready { flow: Flow::Scheduler });
    assert_eq!(service.get("/readyz").await.problem(503), "not ready: expirer");
    service.app.ears.on(&Signal::Ready { flow: Flow::Expirer });
    assert_eq!(service.get("/readyz").await.status, StatusCode::OK);
    let metrics = service.get("/metrics").await;
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("expirer_loop_ready{loop=\"expirer\"} 1"), "{text}");
    assert!(!text.contains("expirer_loop_ready{loop=\"canceller\"}"), "{text}");
}

#[tokio::test]
async fn metrics_show_the_timers_unless_the_queue_fails() {
    let scrape = async |service: Service| {
        let metrics = service.get("/metrics").await;
        assert_eq!(metrics.status, StatusCode::OK);
        String::from_utf8(metrics.body).unwrap()
    };
    let text = scrape(Service::start().await).await;
    assert!(text.contains("\nexpirer_timers_pending 5\n"), "{text}");
    assert!(text.contains("\nexpirer_timers_leased 2\n"), "{text}");
    let mut queue = MockDelayQueue::new();
    queue
        .expect_stats()
        .returning(|| Err(Error::new(ErrorKind::Unavailable, "test", "stats", "down")));
    let text = scrape(Service::with_queue(Access::Loopback, None, queue).await).await;
    assert!(!text.contains("expirer_timers_pending"), "{text}");
    assert!(text.contains("expirer_timers_fired_total 0"), "{text}");
}

#[tokio::test]
async fn a_strangers_page_cannot_act_through_a_browser_on_this_machine() {
    let send = async |service: &Service, request: axum::http::request::Builder| {
        service.send(request.body(Body::empty()).unwrap()).await
    };
    let service = Service::start().await;
    service.create(&order()).await;
    let cancel = || Request::post("/orders/o1/cancel");
    for origin in ["http://evil.example", "null"] {
        let detail = send(&service, cancel().header("origin", origin)).await.problem(403);
        assert!(detail.contains("localhost") && detail.contains("--http-token"), "{detail}");
    }
    for path in ["/orders/o1", "/events", "/metrics", "/nothing"] {
        let rebound = Request::get(path).header("host", "evil.example:8080");
        send(&service, rebound).await.problem(403);
    }
    send(&service, cancel().header("host", "evil.example")).await.problem(403);
    assert_eq!(service.get("/orders/o1").await.json()["status"], "created");
    let own = cancel().header("origin", "http://localhost:3000");
    assert_eq!(send(&service, own).await.status, StatusCode::OK);

    // A page cannot know the token, and a service that others reach has a name of its own.
    let token = Token::parse("hunter2").unwrap();
    let service = Service::with(Access::new(Some(token), false), None).await;
    let named = Request::get("/healthz").header("host", "orders.example");
    assert_eq!(send(&service, named).await.status, StatusCode::OK);
}

#[tokio::test]
async fn without_the_role_api_there_are_no_orders() {
    let service = Service::start().await;
    let router = router(Arc::clone(&service.app), false);
    let service = Service { router, app: service.app };
    service.create(&order()).await.problem(404);
    service.get("/events").await.problem(404);
    assert_eq!(service.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_trace_that_comes_with_the_request_goes_out_with_the_event() {
    let service = Service::start().await;
    let group = Group::new("test").unwrap();
    let options = SubscribeOptions::new(group, [Subject::OrderCreated]);
    let consumer = service.app.bus.subscribe(options).await.unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::post("/orders")
        .header("content-type", "application/json")
        .header("traceparent", trace);
    service.send(request.body(Body::from(order().to_string())).unwrap()).await;
    let wait = std::time::Duration::from_secs(5);
    let options = expirer_core::ReceiveOptions::new(1).with_wait(wait);
    let received = consumer.receive(options).await.unwrap();
    assert_eq!(received[0].message.trace().unwrap().to_string(), trace);
}

#[tokio::test]
async fn events_are_the_live_tail_and_end_with_the_service() {
    let service = Service::start().await;
    let request = Request::get("/events").header(header::HOST, "localhost");
    let request = request.body(Body::empty()).unwrap();
    let response = service.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    service.create(&order()).await;
    service.post("/orders/o1/cancel", "").await;
    let stop = service.app.stop.clone();
    let mut frames = response.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains("order:cancelled") {
        let frame = futures_lite::StreamExt::next(&mut frames).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    assert!(text.starts_with(": live\n\n"), "{text}");
    assert!(text.contains("event: order:created\n"), "{text}");
    assert!(text.contains("id: order:created:o1:0\n"), "{text}");
    assert!(text.contains("\"userId\":\"u1\""), "{text}");
    stop.trigger();
    while futures_lite::StreamExt::next(&mut frames).await.is_some() {}
}

#[tokio::test]
async fn events_are_bounded() {
    let service = Service::start().await;
    let all = u32::try_from(events::STREAMS_MAX).unwrap();
    let taken = service.app.streams.acquire_many(all).await.unwrap();
    assert!(service.get("/events").await.problem(503).contains("streams are open"));
    drop(taken);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_as_a_body_are_answered(
        path in prop_oneof![Just("/orders"), Just("/orders/o1/complete"), Just("/orders/o1/cancel")],
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "\\{\"(id|userId|ticket|expiresAt)\": ?[\\[{\"0-9a-z:,.\\\\\\]}-]{0,40}\\}?"
                .prop_map(String::into_bytes),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(async { Service::start().await.post(path, body).await });
        prop_assert!(answer.status.is_client_error(), "{:?}", answer);
        prop_assert!(answer.json()["detail"].is_string());
    }

    #[test]
    fn any_path_is_answered(id in "\\PC{1,40}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let id = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/orders/{id}");
        let answer = runtime.block_on(async { Service::start().await.get(&path).await });
        prop_assert!(answer.status.is_client_error(), "{:?}", answer);
    }
}
