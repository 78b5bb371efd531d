//! What a service says over HTTP.

/// A client that takes every status for an answer.
pub(crate) fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut answer = agent().get(format!("http://{address}{path}")).call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

#[cfg(all(feature = "redis", feature = "servers"))]
pub(crate) fn is_ready(address: &str) -> bool {
    get(address, "/readyz").0 == 200
}
