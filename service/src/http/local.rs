//! Without a token, on loopback: a web page of somebody else must not act through a browser here.
//!
//! A page can send requests to this machine (the browser then says whose it is: `Origin`), and
//! its owner can let a name of his own lead here (the browser then says that name: `Host`).

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;

use super::{Access, App, Problem};

/// Refuses what does not come from this machine's own pages and programs, where no token does.
pub(crate) async fn guard(
    Shared(app): Shared<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if matches!(app.access, Access::Loopback) {
        check(&request)?;
    }
    Ok(next.run(request).await)
}

fn check(request: &Request) -> Result<(), Problem> {
    if !is_asked_as_local(request) {
        return Err(foreign("the request is for another host than localhost"));
    }
    if request.method() == Method::POST && !is_origin_local(request.headers()) {
        return Err(foreign("the request is a web page's of another host than localhost"));
    }
    Ok(())
}

fn foreign(what: &str) -> Problem {
    let detail = format!("{what}; to allow that, start the service with --http-token");
    Problem::new(StatusCode::FORBIDDEN, detail)
}

/// Every name that the client has for us is local, and it has one: HTTP/1.0 alone needs none.
fn is_asked_as_local(request: &Request) -> bool {
    let headers = request.headers().get_all(HOST).iter();
    let mut names = headers.map(|host| Authority::try_from(host.as_bytes()).ok()).peekable();
    let target = request.uri().authority();
    let is_named = names.peek().is_some() || target.is_some();
    (is_named || request.version() < Version::HTTP_11)
        && names.all(|name| name.is_some_and(|name| is_local(&name)))
        && target.is_none_or(is_local)
}

/// An opaque origin, `null`, may be anybody's.
fn is_origin_local(headers: &HeaderMap) -> bool {
    let authority = |origin: &HeaderValue| {
        let origin = Uri::try_from(origin.as_bytes()).ok()?;
        origin.into_parts().authority
    };
    headers.get_all(ORIGIN).iter().all(|origin| authority(origin).is_some_and(|of| is_local(&of)))
}

/// `localhost`, `*.localhost`, 127.0.0.0/8 or `[::1]`, with any port.
fn is_local(authority: &Authority) -> bool {
    let host = authority.host().to_ascii_lowercase();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const LOCAL: [&str; 8] = [
        "localhost",
        "LocalHost:8080",
        "a.localhost:1",
        "127.0.0.1",
        "127.8.9.1:80",
        "[::1]",
        "[::1]:8080",
        "[::ffff:127.0.0.1]",
    ];
    const FOREIGN: [&str; 10] = [
        "evil.example",
        "localhost.evil.example",
        "evillocalhost",
        "localhost@evil.example",
        "127.0.0.1.evil.example:80",
        "128.0.0.1",
        "0.0.0.0:8080",
        "[::2]",
        "null",
        "a b",
    ];

    fn passes(method: &Method, headers: &[(&str, &str)], version: Version) -> bool {
        let mut request = Request::builder().method(method).uri("/").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(Body::empty()).unwrap()).is_ok()
    }

    #[test]
    fn every_request_is_for_a_local_host() {
        for method in [Method::GET, Method::POST] {
            let passes = |host: &str| passes(&method, &[("host", host)], Version::HTTP_11);
            assert!(LOCAL.into_iter().all(passes));
            FOREIGN.into_iter().for_each(|host| assert!(!passes(host), "{host}"));
            assert!(!passes(""));
        }
        let both = [("host", "localhost"), ("host", "evil.example")];
        assert!(!passes(&Method::GET, &both, Version::HTTP_11));
    }

    #[test]
    fn only_http_1_0_may_leave_the_host_out() {
        assert!(passes(&Method::POST, &[], Version::HTTP_10));
        assert!(!passes(&Method::POST, &[], Version::HTTP_11));
        assert!(!passes(&Method::POST, &[("host", "evil.example")], Version::HTTP_10));
    }

    #[test]
    fn the_target_of_a_request_counts_as_its_host() {
        let to = |uri: &str| {
            let request = Request::builder().uri(uri).version(Version::HTTP_11);
            check(&request.body(Body::empty()).unwrap()).is_ok()
        };
        assert!(to("http://localhost:8080/orders/o1"));
        assert!(!to("http://evil.example/orders/o1"));
    }

    #[test]
    fn a_page_may_post_only_from_here() {
        let passes = |method: &Method, origin: &str| {
            passes(method, &[("host", "localhost"), ("origin", origin)], Version::HTTP_11)
        };
        for host in LOCAL {
            assert!(passes(&Method::POST, &format!("http://{host}")), "{host}");
        }
        for host in FOREIGN {
            assert!(!passes(&Method::POST, &format!("https://{host}")), "{host}");
            assert!(passes(&Method::GET, &format!("https://{host}")), "{host}");
        }
        for opaque in ["null", "file://", "", "chrome-extension://abc"] {
            assert!(!passes(&Method::POST, opaque), "{opaque}");
        }
    }
}
