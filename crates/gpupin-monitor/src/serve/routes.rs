use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
            REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
        uri::Authority,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{
    About,
    hub::{Hub, Published},
    keep::Kept,
    metrics,
    past::{self, READERS},
    stream::Events,
};
use crate::sampler::SHARE;

/// The version of errors, alerts and what is kept as JSON.
pub(super) const VERSION: u32 = 1;

const OPENAPI: &str = include_str!("openapi.json");

/// The page and what it loads: path, type, content.
const DASHBOARD: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("dashboard/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("dashboard/app.js")),
    ("/style.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("/icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
];

/// How many periods old the last moment may be.
const PERIODS: u32 = 3;

/// What all answers are made of.
#[derive(Debug)]
pub(super) struct Api {
    hub: Arc<Hub>,
    pub(super) kept: Arc<Kept>,
    /// The file, whoever writes it.
    pub(super) history: Option<PathBuf>,
    pub(super) readers: Arc<Semaphore>,
    about: About,
    openapi: Bytes,
}

impl Api {
    pub(super) fn new(
        hub: Arc<Hub>,
        about: About,
        kept: Arc<Kept>,
        history: Option<PathBuf>,
    ) -> Self {
        let readers = Arc::new(Semaphore::new(READERS));
        Self { hub, kept, history, readers, about, openapi: openapi(about).to_string().into() }
    }

    /// The last moment, or why nothing is known of now.
    fn now(&self) -> Result<Arc<Published>, String> {
        let published = self.hub.latest().ok_or("the machine has not answered yet")?;
        let limit = self.about.period.max(published.took() * SHARE) * PERIODS;
        let age = published.age();
        if age > limit {
            let (age, limit) = (age.as_secs_f64(), limit.as_secs_f64());
            return Err(format!(
                "the last moment is {age:.1} s old; at most {limit:.1} s are well"
            ));
        }
        match &published.moment.gap {
            Some(why) => Err(why.clone()),
            None => Ok(published),
        }
    }
}

/// What the service promises, as `OpenAPI` 3.1.
pub(super) fn openapi(about: About) -> Value {
    let mut openapi: Value = serde_json::from_str(OPENAPI).expect("it is part of gpupin");
    let schema = serde_json::from_str(about.snapshot_schema).expect("it is part of gpupin");
    openapi["components"]["schemas"]["Snapshot"] = schema;
    openapi["info"]["version"] = about.version.into();
    openapi
}

pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new()
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/history/events", get(past::events))
        .route("/api/v1/history/leases", get(past::leases))
        .route("/api/v1/history/processes", get(past::processes))
        .route("/api/v1/history/range", get(past::range))
        .route("/api/v1/history/series", get(past::series))
        .route("/api/v1/now", get(now))
        .route("/api/v1/openapi.json", get(description))
        .route("/api/v1/stream", get(stream))
        .route("/healthz", get(async || Json(json!({ "version": VERSION, "status": "alive" }))))
        .route("/metrics", get(metrics))
        .route("/readyz", get(ready));
    for (path, kind, text) in DASHBOARD {
        router = router.route(path, get(async move || ([(CONTENT_TYPE, kind)], text)));
    }
    router
        .fallback(async || error(StatusCode::NOT_FOUND, "there is no such page", ROUTES))
        .method_not_allowed_fallback(async || {
            error(StatusCode::METHOD_NOT_ALLOWED, "this service only answers GET and HEAD", ROUTES)
        })
        .layer(middleware::from_fn(guard))
        .with_state(api)
}

const ROUTES: &str = "`/api/v1/openapi.json` tells what there is";

pub(super) fn error(status: StatusCode, error: &str, hint: &str) -> Response {
    let body = json!({ "version": VERSION, "error": error, "hint": hint });
    (status, Json(body)).into_response()
}

/// Answers only who asked for this machine, and says to browsers what pages from here may do.
///
/// A page of anybody can make a browser ask `name-of-theirs:9876`, and let that name mean 127.0.0.1 (DNS rebinding). The browser then takes the
/// answer for theirs; what gives it away is the name.
async fn guard(request: Request, next: Next) -> Response {
    let is_ours = names_this_machine(&request);
    let mut response = if is_ours {
        next.run(request).await
    } else {
        error(
            StatusCode::FORBIDDEN,
            "the header `Host` does not name this machine",
            "ask for `localhost`; a reverse proxy has to set `Host` to that",
        )
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn names_this_machine(request: &Request) -> bool {
    let hosts = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(|it| it.as_str().as_bytes());
    let mut names = hosts.chain(authority).peekable();
    names.peek().is_some() && names.all(is_this_machine)
}

const HEADERS: [(HeaderName, &str); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // What is known is of now, and the page belongs to the program that serves it.
    (CACHE_CONTROL, "no-store"),
];

fn is_this_machine(name: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(name) else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

async fn now(State(api): State<Arc<Api>>) -> Response {
    match api.hub.latest() {
        // A gap is a moment too: what it says is why nothing is known.
        Some(it) => ([(CONTENT_TYPE, "application/json")], it.json.clone()).into_response(),
        None => not_yet(),
    }
}

async fn alerts(State(api): State<Arc<Api>>) -> Response {
    let Some(last) = api.hub.latest() else { return not_yet() };
    ([(CONTENT_TYPE, "application/json")], last.alerts(api.about.kind)).into_response()
}

fn not_yet() -> Response {
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        "the machine has not answered yet",
        "the driver may take seconds to start; ask again",
    )
}

async fn stream(State(api): State<Arc<Api>>) -> Response {
    let events = axum::body::Body::new(Events::new(&api.hub));
    ([(CONTENT_TYPE, "text/event-stream")], events).into_response()
}

async fn description(State(api): State<Arc<Api>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], api.openapi.clone()).into_response()
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    match api.now() {
        Ok(published) => {
            let age = published.age().min(Duration::from_hours(1)).as_millis();
            let age = u64::try_from(age).expect("an hour has few milliseconds");
            let body = json!({
                "version": VERSION, "status": "ready", "age": age, "kind": api.about.kind,
            });
            Json(body).into_response()
        }
        Err(why) => {
            let hint = "see what `gpupin doctor` says on the machine";
            error(StatusCode::SERVICE_UNAVAILABLE, &why, hint)
        }
    }
}

async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let text = metrics::text(&metrics::Scrape {
        about: api.about,
        last: api.hub.latest().as_deref(),
        is_current: api.now().is_ok(),
        xids: &api.hub.xids(),
        kept: &api.kept.state(),
    });
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{DASHBOARD, OPENAPI, is_this_machine};

    #[test]
    fn every_route_is_described() {
        let routes = include_str!("routes.rs").split("mod tests").next().unwrap();
        let routes = routes.split(".route(\"").skip(1);
        let mut routes: Vec<_> = routes.map(|it| it.split('"').next().unwrap()).collect();
        routes.sort_unstable();
        assert!(routes.len() > 5, "{routes:?}");
        let openapi: Value = serde_json::from_str(OPENAPI).unwrap();
        let described: Vec<_> = openapi["paths"].as_object().unwrap().keys().collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for ours in
            ["localhost", "LOCALHOST:9876", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:9876"]
        {
            assert!(is_this_machine(ours.as_bytes()), "{ours}");
        }
        for theirs in [
            "",
            "example.org",
            "example.org:9876",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "user@localhost",
            "localhost@example.org",
            "192.168.1.2",
            "0.0.0.0",
            "[::]",
            "[::ffff:127.0.0.1]",
            "localhost:9876, example.org",
        ] {
            assert!(!is_this_machine(theirs.as_bytes()), "{theirs}");
        }
    }

    #[test]
    fn the_page_asks_nobody_else() {
        for (path, _, text) in DASHBOARD {
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("//") || !foreign.contains("http"), "{path}");
        }
    }
}
