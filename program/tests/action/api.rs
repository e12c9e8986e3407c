//! A stand-in for the API that comments go to, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The API of one pull request.
pub(crate) struct Api {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    comments: Vec<Value>,
    calls: Vec<String>,
    /// Status of every answer, in place of what was asked for.
    refuses: Option<u16>,
}

struct Request {
    line: String,
    headers: String,
    body: String,
}

impl Api {
    /// Serves `comments`. Comments get their ids in order, from 1.
    pub(crate) fn serve(comments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let comments = comments.iter().enumerate().map(|(n, body)| json!({"id": n + 1, "body": body})).collect();
        let state = Arc::new(Mutex::new(State { comments, ..State::default() }));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &served);
            }
        });
        Self { url, state }
    }

    pub(crate) fn refuse(&self, status: u16) {
        self.state.lock().unwrap().refuses = Some(status);
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.comments.iter().map(|one| one["body"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let request = read(&stream);
    let (status, body) = state.lock().unwrap().answered(&request);
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        headers.push_str(&header);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Request { line, headers, body: String::from_utf8(body).unwrap() }
}

impl State {
    fn answered(&mut self, request: &Request) -> (u16, String) {
        let mut words = request.line.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        self.calls.push(format!("{method} {path}"));
        let headers = request.headers.to_lowercase();
        if !headers.contains("authorization: bearer t0ken") && !headers.contains("private-token: t0ken") {
            return (401, "{}".into());
        }
        if let Some(status) = self.refuses {
            return (status, r#"{"message":"not for you"}"#.into());
        }
        let sent = || serde_json::from_str::<Value>(&request.body).unwrap()["body"].clone();
        match method {
            "GET" => {
                let page: usize = path.rsplit_once("&page=").unwrap().1.parse().unwrap();
                let page: Vec<&Value> = self.comments.iter().skip((page - 1) * 100).take(100).collect();
                (200, serde_json::to_string(&page).unwrap())
            }
            "POST" => {
                let id = self.comments.len() + 1;
                self.comments.push(json!({"id": id, "body": sent()}));
                (201, "{}".into())
            }
            "PATCH" | "PUT" => {
                let id: usize = path.rsplit_once('/').unwrap().1.parse().unwrap();
                self.comments[id - 1]["body"] = sent();
                (200, "{}".into())
            }
            _ => (405, "{}".into()),
        }
    }
}
