//! `run`: order and number of requests, the body of `create`, exit codes.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex};

use crate::fake::{Fake, Request, answer, frame, refuse, upgrade};

/// Lets the attach and wait answers follow the start.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(
            self.1
                .wait_while(self.0.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
    }
}

/// A daemon whose containers print and exit with a code; `start` may refuse.
fn container(code: i32, refusal: Option<&'static str>) -> Fake {
    let gate = Gate::default();
    Fake::start(move |request: &Request, stream: &mut UnixStream| {
        let line = request.line.as_str();
        if line.contains("/create") {
            answer(
                stream,
                "201 Created",
                r#"{"Id":"cafe","Warnings":["careful"]}"#,
            );
        } else if line.contains("/attach") {
            upgrade(stream, "application/vnd.docker.multiplexed-stream");
            gate.pass();
            stream
                .write_all(&[frame(1, "out\n"), frame(2, "err\n")].concat())
                .unwrap();
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        } else if line.contains("/wait") {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
                .unwrap();
            gate.pass();
            let body = format!("{{\"StatusCode\":{code}}}");
            stream
                .write_all(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes())
                .unwrap();
        } else if line.contains("/start") {
            match refusal {
                None => answer(stream, "204 No Content", ""),
                Some(message) => refuse(stream, "400 Bad Request", message),
            }
            gate.open();
        } else {
            refuse(stream, "404 Not Found", "page not found");
        }
    })
}

#[test]
fn a_run_costs_four_requests_on_three_connections() {
    let fake = container(7, None);
    let outcome = fake.run(&["run", "--rm", "--name", "n", "img", "echo", "hi"]);
    assert_eq!(outcome.out, "out\n");
    assert_eq!(outcome.err, "WARNING: careful\nerr\n");
    assert_eq!(outcome.code, Some(7));
    let requests = fake.requests();
    let mut lines: Vec<&str> = requests
        .iter()
        .map(|request| request.line.as_str())
        .collect();
    assert_eq!(lines.remove(0), "POST /v1.51/containers/create?name=n");
    assert_eq!(lines.pop(), Some("POST /v1.51/containers/cafe/start"));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "POST /v1.51/containers/cafe/attach?stream=1&stdout=1&stderr=1",
            "POST /v1.51/containers/cafe/wait?condition=removed",
        ]
    );
    let connections: std::collections::BTreeSet<_> =
        requests.iter().map(|request| request.connection).collect();
    assert!(connections.len() <= 3, "{requests:?}");
}

#[test]
fn detached_runs_print_the_id() {
    let fake = container(0, None);
    let outcome = fake.run(&["run", "-d", "img"]);
    assert_eq!((outcome.code, outcome.out.as_str()), (Some(0), "cafe\n"));
    assert_eq!(fake.requests().len(), 2);
}

#[test]
fn a_failed_start_has_the_code_of_its_reason() {
    let fake = container(
        0,
        Some("exec: \"nope\": executable file not found in $PATH"),
    );
    let outcome = fake.run(&["run", "--rm", "img", "nope"]);
    assert_eq!(outcome.code, Some(127));
    assert!(
        outcome.err.ends_with(
            "docker: Error response from daemon: exec: \"nope\": executable file not found in $PATH\n\n\
             Run 'docker run --help' for more information\n"
        ),
        "{}",
        outcome.err
    );
}

/// Bodies recorded from docker 28.2.2 for the same flags.
#[test]
fn the_body_of_create_is_dockers() {
    let fake = Fake::start(|_, stream| refuse(stream, "500 Internal Server Error", "nope"));
    let args = "run -d -e A=1 -p 80:80 -p 127.0.0.1:81-82:81-82/udp -v /a:/b:ro -v /c --tmpfs /t:size=1 \
        --mount type=bind,src=/a,dst=/b,ro --network foo --network-alias x --ip 1.2.3.4 --restart on-failure:3 \
        --memory 1g --cpus 1.5 --init --entrypoint= --gpus all --device /dev/null --ulimit nofile=1:2 \
        --health-cmd x --add-host a:1.2.3.4 --security-opt systempaths=unconfined --stop-timeout 5 \
        --mac-address 92:d0:c6:0a:29:33 img a";
    let args: Vec<&str> = args.split_whitespace().collect();
    let outcome = fake.run(&args);
    assert_eq!(outcome.code, Some(125));
    let got: serde_json::Value = serde_json::from_str(&fake.requests()[0].body).unwrap();
    let want: serde_json::Value = serde_json::from_str(include_str!("create_body.json")).unwrap();
    same("", &got, &want);
}

/// Compares what a daemon would see: null, a missing field and an empty list or map are the same.
fn same(path: &str, got: &serde_json::Value, want: &serde_json::Value) {
    use serde_json::Value;
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    // An empty list of masked paths is not the same as none.
    if !path.ends_with("Paths") && empty(got) && empty(want) {
        return;
    }
    match (got, want) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()) {
                let field = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                same(&format!("{path}.{key}"), &field(a), &field(b));
            }
        }
        _ => assert_eq!(got, want, "{path}"),
    }
}
