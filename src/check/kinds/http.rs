//! `http`: an answer over HTTP.

use std::error::Error as _;
use std::io::Read as _;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Response};
use reqwest::{Method, Url, redirect};

use super::super::config::{Http, HttpExpect};
use super::super::judge::{judge_all, regex, short};
use super::super::verdict::{Found, evidence};
use crate::base::size;

/// More of a body is not read.
const LARGEST: u64 = 4 << 20;

pub fn look(check: &Http, limit: Duration) -> Found {
    match ask(check, limit) {
        Err(found) => found,
        Ok((response, began)) => judge(&check.expect, response, began),
    }
}

fn ask(check: &Http, limit: Duration) -> Result<(Response, Instant), Found> {
    let url: Url = check.http.parse().map_err(|error| Found::error(format!("this is not a URL: {error}")))?;
    // the first one stays; that is what is wanted
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(limit)
        .timeout(limit)
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent(concat!("lifeboat/", env!("CARGO_PKG_VERSION")));
    if is_loopback(&url) {
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // reading the host's certificates takes longer than the question
        builder = builder.tls_certs_only([]);
    }
    let client =
        builder.build().map_err(|error| Found::error(format!("no HTTP client can be made: {error}")))?;
    let method = Method::from_bytes(check.method.as_bytes())
        .map_err(|_| Found::error(format!("{} is not a method", evidence(check.method.as_bytes()))))?;
    let mut request = client.request(method, url);
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    let began = Instant::now();
    let response = request.send().map_err(|error| of_request(&error, limit))?;
    Ok((response, began))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|a: std::net::IpAddr| a.is_loopback())
}

fn of_request(error: &reqwest::Error, limit: Duration) -> Found {
    if error.is_timeout() {
        return Found::fail(format!("no answer within {}", size::duration(limit)));
    }
    // the innermost cause says it, the outer ones say that a request failed
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    let text = evidence(text.as_bytes());
    if error.is_builder() {
        return Found::error(format!("the question cannot be asked: {text}"));
    }
    if error.is_connect() {
        return Found::fail(format!("no connection: {text}"));
    }
    Found::fail(format!("no answer: {text}"))
}

fn judge(expect: &HttpExpect, mut response: Response, began: Instant) -> Found {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let mut body = Vec::new();
    let read = response.by_ref().take(LARGEST + 1).read_to_end(&mut body);
    let took = began.elapsed();
    let seen = format!(
        "status {status}, {} in {}\n{}",
        size::bytes(body.len() as u64),
        size::duration(took),
        evidence(&body)
    );
    let is_expected = match &expect.status {
        Some(wanted) => wanted.0.contains(&status),
        None => (200..300).contains(&status),
    };
    if !is_expected {
        let reason = format!("the status is {status}, not {}", statuses(expect));
        return Found::fail(reason).saw(seen).expected(format!("status {}", statuses(expect)));
    }
    if let Err(error) = read {
        let why = innermost(&error);
        return Found::fail(format!("the answer breaks off after {}: {why}", size::bytes(body.len() as u64)))
            .saw(seen);
    }
    for (name, pattern) in &expect.header {
        let value = headers.get(name).map(|value| value.as_bytes());
        let expected =
            format!("header {} matches {}", evidence(name.as_bytes()), evidence(pattern.as_bytes()));
        let found = match (value, regex(pattern)) {
            (_, Err(why)) => Found::error(why),
            (Some(value), Ok(pattern)) if pattern.is_match(value) => continue,
            (Some(value), Ok(_)) => Found::fail(format!(
                "the header {} is {}",
                evidence(name.as_bytes()),
                short(&evidence(value))
            )),
            (None, Ok(_)) => Found::fail(format!("there is no header {}", evidence(name.as_bytes()))),
        };
        return found.saw(seen).expected(expected);
    }
    let is_cut = body.len() as u64 > LARGEST;
    if let Some(found) = judge_body(expect, &body, is_cut, &seen) {
        return found;
    }
    if let Some(most) = expect.latency.filter(|most| took > most.0) {
        let reason = format!("the answer took {}, longer than {most}", size::duration(took));
        return Found::fail(reason).saw(seen).expected(format!("within {most}"));
    }
    Found::pass(format!("status {status} in {}", size::duration(took))).saw(seen).expected(words(expect))
}

fn judge_body(expect: &HttpExpect, body: &[u8], is_cut: bool, seen: &str) -> Option<Found> {
    if let Some(pattern) = &expect.body {
        let expected = format!("the body matches {}", evidence(pattern.as_bytes()));
        let found = match regex(pattern) {
            Err(why) => Some(Found::error(why)),
            Ok(regex) if regex.is_match(body) => None,
            Ok(_) if is_cut => {
                Some(Found::error(format!("nothing in the first {} matches", size::bytes(LARGEST))))
            }
            Ok(_) => Some(Found::fail(format!(
                "nothing in the body matches {}",
                short(&evidence(pattern.as_bytes()))
            ))),
        };
        if let Some(found) = found {
            return Some(found.saw(seen).expected(expected));
        }
    }
    if expect.json.is_empty() {
        return None;
    }
    if is_cut {
        return Some(Found::error(format!("the body is larger than {}", size::bytes(LARGEST))).saw(seen));
    }
    match serde_json::from_slice(body) {
        Ok(document) => judge_all(&document, &expect.json),
        Err(error) => Some(Found::fail(format!("the body is not JSON: {error}")).saw(seen).expected("JSON")),
    }
}

fn innermost(error: &std::io::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.get_ref().and_then(|inner| inner.source());
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    evidence(text.as_bytes())
}

fn statuses(expect: &HttpExpect) -> String {
    match &expect.status {
        Some(wanted) => wanted.0.iter().map(u16::to_string).collect::<Vec<_>>().join(" or "),
        None => "200 to 299".to_owned(),
    }
}

fn words(expect: &HttpExpect) -> String {
    let mut parts = vec![format!("status {}", statuses(expect))];
    parts.extend(
        expect.json.iter().map(|(path, one)| format!("{} {}", evidence(path.as_bytes()), one.0.words())),
    );
    parts.extend(expect.body.iter().map(|p| format!("the body matches {}", evidence(p.as_bytes()))));
    parts.extend(expect.latency.map(|most| format!("within {most}")));
    parts.join(", ")
}
