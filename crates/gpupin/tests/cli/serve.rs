//! The service as its clients meet it, over TCP and with a client that can also say what no client would.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use expect_test::expect;
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::{
    gpus::scenes,
    lease::{holder, project},
    report::validate,
    sandbox::{Outcome, Sandbox},
};

/// A service that ends with the test.
struct Service {
    child: Child,
    address: String,
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Service {
    fn start(sandbox: &Sandbox, machine: &str, args: &[&str]) -> Self {
        let fixed = ["serve", "--listen", "127.0.0.1:0", "--machine", machine];
        let mut command = sandbox.command(&[&fixed, args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("http://").unwrap().trim_end_matches('/');
        Self { child, address: address.to_owned() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream
    }

    /// Says this, and reads what comes until the other side has nothing more to say.
    fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // Who is not understood is not listened to for long.
        drop(stream.write_all(bytes));
        drop(stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        answer
    }

    fn ask(&self, method: &str, path: &str, host: &str) -> Answer {
        let mut stream = self.connect();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &self.address)
    }

    /// Asks until the answer has this status, because the machine is first asked when the service has started.
    fn get_until(&self, path: &str, status: u16) -> Answer {
        for _ in 0..600 {
            let answer = self.get(path);
            if answer.status == status {
                return answer;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{path} never had {status}: {:?}", self.get(path));
    }

    /// Live events, line by line.
    fn events(&self) -> impl Iterator<Item = String> + use<> {
        let mut stream = self.connect();
        write!(stream, "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        BufReader::new(stream).lines().map_while(Result::ok)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// What `openapi.json` says of answers like this one must hold.
    #[track_caller]
    fn check(&self, openapi: &Value, path: &str) {
        let route = &openapi["paths"][path]["get"]["responses"];
        let mut promised = &route[self.status.to_string()];
        assert!(promised.is_object(), "{path} answered {}: {route:#}", self.status);
        if let Some(reference) = promised["$ref"].as_str() {
            promised = openapi.pointer(reference.strip_prefix('#').unwrap()).unwrap();
        }
        let (kind, content) = promised["content"].as_object().unwrap().iter().next().unwrap();
        assert!(self.head.contains(&format!("content-type: {kind}")), "{path}: {}", self.head);
        if kind == "application/json" {
            let schema = json!({
                "allOf": [content["schema"]],
                "components": openapi["components"],
            });
            validate(&schema.to_string(), &self.json());
        }
    }
}

const ROUTES: [&str; 12] = [
    "/api/v1/alerts",
    "/api/v1/history/events",
    "/api/v1/history/leases",
    "/api/v1/history/processes",
    "/api/v1/history/range",
    "/api/v1/history/series",
    "/api/v1/now",
    "/api/v1/openapi.json",
    "/api/v1/stream",
    "/healthz",
    "/metrics",
    "/readyz",
];

#[test]
fn every_route_answers_as_its_description_says() {
    let sandbox = project();
    let mut lease = holder(&sandbox);
    for (name, _) in scenes() {
        let service = Service::start(&sandbox, &name, &[]);
        service.get_until("/api/v1/now", 200);
        let openapi = service.get("/api/v1/openapi.json").json();
        let described: Vec<_> = openapi["paths"].as_object().unwrap().keys().collect();
        assert_eq!(described, ROUTES);
        for path in ROUTES.into_iter().filter(|it| !it.ends_with("/stream")) {
            service.get(path).check(&openapi, path);
            service.ask("GET", path, "example.org").check(&openapi, path);
        }
        let now = service.get("/api/v1/now").json();
        let kind = if now["gap"].is_null() { json!("simulated") } else { Value::Null };
        assert_eq!(now["machine"]["kind"], kind, "{now:#}");
        assert_eq!(now["leases"].as_array().unwrap().len(), 1, "{now:#}");
    }
    drop(lease.stdin.take());
    lease.wait().unwrap();
}

#[test]
fn every_answer_keeps_other_sites_and_foreign_content_away() {
    let service = Service::start(&Sandbox::new(), "busy", &[]);
    for path in ["/", "/app.js", "/style.css", "/icon.svg", "/healthz", "/nowhere"] {
        let answer = service.get(path);
        assert_eq!(answer.status, if path == "/nowhere" { 404 } else { 200 }, "{path}");
        for header in [
            "content-security-policy: default-src 'none'; ",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(answer.head.contains(header), "{path}: {}", answer.head);
        }
        assert!(!answer.head.contains("access-control-"), "{path}: {}", answer.head);
    }
}

#[test]
fn who_asks_by_a_name_that_is_not_this_machines_is_not_answered() {
    let service = Service::start(&Sandbox::new(), "busy", &[]);
    for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]:9876"] {
        assert_eq!(service.ask("GET", "/healthz", host).status, 200, "{host}");
    }
    for host in ["example.org", "localhost.example.org", "", "192.168.0.1"] {
        for path in ["/", "/api/v1/now", "/api/v1/stream", "/metrics", "/nowhere"] {
            let answer = service.ask("GET", path, host);
            assert_eq!(answer.status, 403, "{host} {path}");
            assert!(!answer.body.contains("GPU"), "{host} {path}: {}", answer.body);
        }
    }
    for head in [
        "GET /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\n\r\n",
        "GET http://example.org/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let answer = service.say(head.as_bytes());
        assert!(!String::from_utf8_lossy(&answer).contains(" 200 OK"), "{head}");
    }
}

#[test]
fn nothing_can_be_changed() {
    let service = Service::start(&Sandbox::new(), "busy", &[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"] {
        for path in ROUTES {
            let answer = service.ask(method, path, "localhost");
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.json()["hint"].is_string(), "{method} {path}");
        }
    }
    assert_eq!(service.ask("HEAD", "/metrics", "localhost").body, "");
}

/// Requests that went wrong somewhere, and bytes that never were any.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let request = "GET /api/v1/now?a=%ff HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\n\
        Transfer-Encoding: chunked\r\nAccept: */*\r\n\r\n";
    let change = (0..request.len(), any::<u8>(), any::<bool>());
    let broken = prop::collection::vec(change, 1..6).prop_map(move |changes| {
        let mut bytes = request.as_bytes().to_vec();
        for (at, byte, is_more) in changes {
            if is_more { bytes.insert(at, byte) } else { bytes[at] = byte }
        }
        bytes
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), broken]
}

#[test]
fn no_request_brings_the_service_down() {
    let service = Service::start(&Sandbox::new(), "busy", &[]);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(3000));
    runner
        .run(&noise(), |bytes| {
            let answer = service.say(&bytes);
            let is_http = answer.is_empty() || answer.starts_with(b"HTTP/1.");
            prop_assert!(is_http, "{}", String::from_utf8_lossy(&answer));
            Ok(())
        })
        .unwrap();
    // A head that does not end, and one that is too large.
    let head =
        |size| format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(size));
    assert!(service.say(&head(1 << 20).into_bytes()).starts_with(b"HTTP/1.1 431 "));
    let many = "X: a\r\n".repeat(1000);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    assert!(service.say(many.as_bytes()).starts_with(b"HTTP/1.1 431 "));
    assert_eq!(service.get("/healthz").status, 200);
}

/// How many clients listen at once.
const CLIENTS: usize = 200;

/// How many moments each of them hears.
const MOMENTS: usize = 12;

#[test]
fn hundreds_of_clients_hear_every_moment_and_one_that_does_not_read_holds_nobody_up() {
    let service = Service::start(&Sandbox::new(), "busy", &["--period", "100ms"]);
    let mut silent = service.connect();
    write!(silent, "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (send, lines) = (send.clone(), service.events());
            scope.spawn(move || {
                let mut ids: Vec<u64> = Vec::new();
                for line in lines {
                    assert_ne!(line, "event: lost");
                    ids.extend(line.strip_prefix("id: ").map(|it| it.parse::<u64>().unwrap()));
                    if ids.len() == MOMENTS {
                        break;
                    }
                }
                send.send(ids).unwrap();
            });
        }
    });
    drop(send);
    let heard: Vec<Vec<u64>> = receive.iter().collect();
    assert_eq!(heard.len(), CLIENTS);
    let all: BTreeSet<u64> = heard.iter().flatten().copied().collect();
    let all: Vec<u64> = all.into_iter().collect();
    for ids in heard {
        assert_eq!(ids.len(), MOMENTS);
        let start = all.binary_search(&ids[0]).unwrap();
        assert_eq!(ids, all[start..start + MOMENTS], "none is missing, and none comes twice");
    }
}

#[test]
fn a_signal_ends_it_with_everybody_who_listens() {
    for signal in ["-TERM", "-INT"] {
        let mut service = Service::start(&Sandbox::new(), "busy", &[]);
        let mut events = service.events();
        assert_eq!(events.next().unwrap(), "HTTP/1.1 200 OK");
        Command::new("kill").args([signal, &service.child.id().to_string()]).status().unwrap();
        // A stream that is broken off would have no end of its own.
        assert_eq!(events.filter(|it| !it.is_empty()).last().unwrap(), "0");
        assert_eq!(service.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn a_machine_that_does_not_answer_is_a_gap_and_no_machine_at_rest() {
    let (_, healthy) = scenes().into_iter().find(|it| it.0 == "busy").unwrap();
    let fault = "[[fault]]\nfunction = 'nvmlDeviceGetCount'\nreturn = 'unknown'\n";
    let sandbox = Sandbox::new().file("scene.toml", format!("{healthy}\n{fault}"));
    let service =
        Service::start(&sandbox, "scene.toml", &["--period", "100ms", "--history", "h.db"]);
    let openapi = service.get("/api/v1/openapi.json").json();
    let now = service.get_until("/api/v1/now", 200);
    now.check(&openapi, "/api/v1/now");
    assert!(now.json()["gap"].is_string(), "{}", now.body);
    let ready = service.get("/readyz");
    ready.check(&openapi, "/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.json()["error"].as_str().unwrap().contains("NVML error 999"), "{}", ready.body);
    assert_eq!(service.get("/healthz").status, 200);
    let metrics = service.get("/metrics").body;
    let values = metrics.lines().filter(|it| !it.starts_with('#'));
    let names: Vec<_> = values.map(|it| it.split(['{', ' ']).next().unwrap()).collect();
    let without_values = [
        "gpupin_build_info",
        "gpupin_up",
        "gpupin_sample_age_seconds",
        "gpupin_sample_duration_seconds",
        "gpupin_history_writable",
        "gpupin_history_dropped_moments_total",
    ];
    // The silence itself is an alert as soon as it has lasted.
    let names: Vec<_> = names.into_iter().filter(|it| *it != "gpupin_alerts_active").collect();
    assert_eq!(names, without_values);
    assert!(metrics.contains("\ngpupin_up 0\n"), "{metrics}");

    fs::write(sandbox.path().join("new"), healthy).unwrap();
    fs::rename(sandbox.path().join("new"), sandbox.path().join("scene.toml")).unwrap();
    service.get_until("/readyz", 200).check(&openapi, "/readyz");
    assert!(service.get("/metrics").body.contains("\ngpupin_up 1\n"));
}

/// Asks a history until it says this.
fn get_until(service: &Service, path: &str, says: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let answer = service.get(path);
        if answer.status == 200 && says(&answer.json()) {
            return answer.json();
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{path} never said it: {:?}", service.get(path));
}

const MEANT: &str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";

#[test]
fn what_is_told_is_kept_and_can_be_asked_for() {
    let (_, busy) = scenes().into_iter().find(|it| it.0 == "busy").unwrap();
    let gpu = format!("\nuuid = \"{MEANT}\"\n");
    let errors = "ecc = { enabled = true, corrected = 0, uncorrected = 3 }\n";
    let ill = busy.replace(&gpu, &format!("{gpu}{errors}"));
    let sandbox = project().file("ill.toml", ill);
    let mut lease = holder(&sandbox);
    let args = ["--period", "100ms", "--history", "past/h.db"];
    let service = Service::start(&sandbox, "ill.toml", &args);
    let openapi = service.get("/api/v1/openapi.json").json();
    let range = get_until(&service, "/api/v1/history/range", |it| !it["range"].is_null());
    assert_eq!(range["kind"], "simulated");
    assert_eq!(range["recording"], json!({ "state": "keeping" }));
    let raised = |it: &Value| !it["alerts"].as_array().unwrap().is_empty();
    let alerts = get_until(&service, "/api/v1/alerts", raised);
    let alert = &alerts["alerts"][0];
    assert_eq!((&alert["kind"], &alert["simulated"]), (&json!("memory-errors"), &json!(true)));
    let all = "from=0&to=9000000000000";
    let events = format!("/api/v1/history/events?{all}");
    let kept = get_until(&service, &events, |it| !it["events"].as_array().unwrap().is_empty());
    let event = &kept["events"][0];
    assert_eq!((&event["kind"], &event["detail"]["id"]), (&json!("alert-raised"), &alert["id"]));

    let series = |rest: &str| format!("/api/v1/history/series?gpu={MEANT}&metric={rest}");
    let asked = [
        "/api/v1/alerts".to_owned(),
        "/api/v1/history/range".to_owned(),
        events.clone(),
        format!("/api/v1/history/leases?{all}"),
        format!("/api/v1/history/processes?{all}"),
        series(&format!("power&{all}&points=20")),
    ];
    for path in &asked {
        let answer = service.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.check(&openapi, path.split('?').next().unwrap());
    }
    let leases = service.get(&asked[3]).json();
    assert_eq!(leases["leases"].as_array().unwrap().len(), 1, "{leases:#}");
    // A scene that nobody simulates has no programs; those that are really there are a matter of `xtask/dashboard`.
    let processes = service.get(&asked[4]).json();
    assert_eq!(processes["processes"], json!([]));
    let points = &service.get(&asked[5]).json()["points"];
    assert_eq!(points[0]["max"], 312_000, "{points:#}");

    for (path, status) in [
        (series("power"), 400),
        (series("speed&from=1&to=2"), 400),
        (series("power&from=2&to=2"), 400),
        (series("power&from=1&to=2&points=1"), 400),
        (series("power&from=1&to=2&color=red"), 400),
        ("/api/v1/history/series?gpu=GPU-1&metric=power&from=1&to=2".to_owned(), 400),
        (series("power&from=1&to=2").replace("GPU-8932f937", "GPU-00000000"), 404),
        ("/api/v1/history/events?from=-1&to=2".to_owned(), 400),
    ] {
        let answer = service.get(&path);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        answer.check(&openapi, path.split('?').next().unwrap());
    }
    let metrics = service.get("/metrics").body;
    for line in [
        "gpupin_history_writable 1",
        "gpupin_history_dropped_moments_total 0",
        "gpupin_alerts_active{alert=\"memory-errors\",kind=\"simulated\"} 1",
        "gpupin_alerts_active{alert=\"silent\",kind=\"simulated\"} 0",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}: {metrics}");
    }
    let first: Vec<_> =
        service.events().take_while(|it| !it.starts_with("data: {\"alerts")).collect();
    assert!(first.contains(&"event: alerts".to_owned()), "{first:?}");
    drop(lease.stdin.take());
    lease.wait().unwrap();
}

#[test]
fn a_history_that_cannot_be_kept_is_told_and_keeps_nobody_from_seeing_now() {
    let sandbox = Sandbox::new().file("h.db", "a letter to somebody else, that is no database\n");
    let service = Service::start(&sandbox, "busy", &["--history", "h.db"]);
    service.get_until("/readyz", 200);
    let openapi = service.get("/api/v1/openapi.json").json();
    while !service.get("/metrics").body.contains("\ngpupin_history_writable 0\n") {
        thread::sleep(Duration::from_millis(100));
    }
    let range = service.get("/api/v1/history/range");
    assert_eq!(range.status, 503, "{}", range.body);
    range.check(&openapi, "/api/v1/history/range");
    assert!(range.body.contains("is not a history of gpupin"), "{}", range.body);

    let mut command = sandbox.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--machine",
        "busy",
        "--history",
        "h.db",
    ]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let said: Vec<_> = said.take(2).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        said,
        [
            "everything that is served is simulated",
            "warning: no history is kept: `h.db` is not a history of gpupin",
        ]
    );

    // A second writer is refused, and reads what the first one keeps.
    let args = ["--history", "shared.db"];
    let first = Service::start(&sandbox, "busy", &args);
    get_until(&first, "/api/v1/history/range", |it| !it["range"].is_null());
    let second = Service::start(&sandbox, "busy", &args);
    let refused = |it: &Value| it["recording"]["state"] == "refused";
    let range = get_until(&second, "/api/v1/history/range", refused);
    assert!(range["recording"]["why"].as_str().unwrap().contains("another gpupin writes"));
    assert!(!range["range"].is_null(), "{range:#}");

    let without = Service::start(&sandbox, "busy", &["--no-history"]);
    let range = without.get("/api/v1/history/range");
    assert_eq!(range.status, 404, "{}", range.body);
    range.check(&openapi, "/api/v1/history/range");
    without.get_until("/readyz", 200);
    assert!(!without.get("/metrics").body.contains("gpupin_history_"));
}

#[test]
fn what_would_tell_others_is_refused_and_what_is_in_use_is_told() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.gpupin(&["serve", "--machine", "busy", "--listen", "0.0.0.0:0"]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `0.0.0.0:0` is not a loopback address: everybody who reaches it could read which programs run here

        hint: gpupin has neither passwords nor TLS: listen on 127.0.0.1, and let a reverse proxy that has both, or `ssh -L`, lead there
    "#]]
    .assert_eq(&outcome.whole());
    let service = Service::start(&sandbox, "busy", &[]);
    let outcome = sandbox.gpupin(&["serve", "--machine", "busy", "--listen", &service.address]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `ADDRESS` is in use

        hint: another `gpupin serve` may run; `ss -ltnp` tells who listens. `--listen 127.0.0.1:0` chooses a free port
    "#]]
    .assert_eq(&outcome.whole().replace(&service.address, "ADDRESS"));
}

#[test]
fn a_unit_runs_this_program_with_these_flags() {
    let sandbox = Sandbox::new().file("gpupin.toml", "");
    let unit = sandbox.gpupin(&["serve", "--print-unit", "--period", "2s", "--no-policy"]);
    assert_eq!(unit.code, 0, "{}", unit.whole());
    let command =
        format!("\nExecStart={} serve --period 2s --no-policy\n", env!("CARGO_BIN_EXE_gpupin"));
    assert!(unit.out.contains(&command), "{}", unit.out);
    fs::write(sandbox.path().join("gpupin.service"), &unit.out).unwrap();
    let path = std::env::var("PATH").unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "./gpupin.service"]).current_dir(sandbox.path()).env("PATH", path);
    // Not every machine has it.
    if let Ok(output) = verify.output() {
        assert_eq!(Outcome::of(output).whole(), "exit code: 0\n");
    }
    let outcome = sandbox.gpupin(&["serve", "--print-unit", "--policy", "gpupin.toml"]);
    expect![[r#"
        exit code: 2
        ----- stderr
        error: `gpupin.toml` is relative: a unit does not start in this directory
    "#]]
    .assert_eq(&outcome.whole());
}
