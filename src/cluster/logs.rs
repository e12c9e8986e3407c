//! Logs of containers, across their rotation.
//!
//! A kubelet begins a new file when a log is long (10 MiB by default), and its API hands out the newest file only. The one
//! before it is read through the node's proxy, where the user may.

use std::time::Duration;

use hyper::{Method, Request};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::LogParams;

use super::{Cluster, Container, Result};

/// Bytes that hold the time of a line.
const TIME: i64 = 64;

impl Cluster {
    /// The container's log of the last `since`. Holds what the kubelet has put aside meanwhile, unless it has done so twice,
    /// or the user may not read from nodes.
    ///
    /// # Errors
    /// [`super::Error::Api`].
    pub async fn logs(&self, at: Container<'_>, since: Duration) -> Result<String> {
        let begin = Timestamp::now() - SignedDuration::try_from(since).unwrap_or(SignedDuration::MAX);
        let parameters = LogParams {
            container: Some(at.container.into()),
            // The API takes whole seconds: round up.
            since_seconds: Some(i64::try_from(since.as_secs() + 1).unwrap_or(i64::MAX)),
            timestamps: true,
            ..LogParams::default()
        };
        let newest = self.read_log(at, &parameters).await?;
        let put_aside = match self.is_whole(at, parameters, &newest, begin).await? {
            true => String::new(),
            false => self.put_aside(at).await.unwrap_or_else(|reason| {
                tracing::warn!(%reason, "the log of {at} begins with a file that is too new, and what came before is out of reach");
                String::new()
            }),
        };
        let newest: Vec<Line<'_>> = newest.split_inclusive('\n').map(Line::of_api).collect();
        let end = newest.iter().find_map(|line| line.time);
        let earlier = of_file(&put_aside);
        let earlier = earlier.iter().filter(|(time, _)| *time >= begin && end.is_none_or(|end| *time < end));
        Ok(earlier.map(|(_, text)| text.as_str()).chain(newest.iter().map(|line| line.text)).collect())
    }

    /// Whether the newest file has all lines since `begin`: it has an earlier one, among those that were read or as its first.
    async fn is_whole(&self, at: Container<'_>, of: LogParams, newest: &str, begin: Timestamp) -> Result<bool> {
        let is_earlier = |log: &str| time_of(log).is_some_and(|(first, _)| first < begin);
        if is_earlier(newest) {
            return Ok(true);
        }
        // Asked last: a file that was begun in the middle is noticed.
        let first = self.read_log(at, &LogParams { since_seconds: None, limit_bytes: Some(TIME), ..of }).await?;
        Ok(first.is_empty() || is_earlier(&first))
    }

    async fn read_log(&self, at: Container<'_>, parameters: &LogParams) -> Result<String> {
        let logs = self.api::<Pod>(at.namespace).logs(at.pod, parameters).await;
        logs.map_err(self.failed(format!("read the logs of {at}")))
    }

    /// The files, as they are, that the kubelet has put aside and not compressed: the last one.
    async fn put_aside(&self, at: Container<'_>) -> Result<String, String> {
        let told = |error: kube::Error| error.to_string();
        let pod = self.api::<Pod>(at.namespace).get(at.pod).await.map_err(told)?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).ok_or("the pod has no node")?;
        let uid = pod.uid().ok_or("the pod has no uid")?;
        let Container { namespace, pod, container } = at;
        let directory = format!("/api/v1/nodes/{node}/proxy/logs/pods/{namespace}_{pod}_{uid}/{container}/");
        let read = async |path: String| {
            let request = Request::builder().method(Method::GET).uri(path).body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            self.client().request_text(request).await.map_err(told)
        };
        let mut text = String::new();
        for name in files_put_aside(&read(directory.clone()).await?) {
            text.push_str(&read(format!("{directory}{name}")).await?);
        }
        Ok(text)
    }
}

/// A line as the API gives it: time, a space, text.
#[derive(Debug, PartialEq)]
struct Line<'a> {
    time: Option<Timestamp>,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn of_api(line: &'a str) -> Self {
        time_of(line).map_or(Self { time: None, text: line }, |(time, text)| Self { time: Some(time), text })
    }
}

fn time_of(line: &str) -> Option<(Timestamp, &str)> {
    let (time, text) = line.split_once(' ')?;
    Some((time.parse().ok()?, text))
}

/// The lines of a log file, each with its time: `TIME STREAM TAG TEXT`. The tag `P` means that the line goes on.
fn of_file(file: &str) -> Vec<(Timestamp, String)> {
    let mut lines: Vec<(Timestamp, String)> = Vec::new();
    let mut goes_on = false;
    for (time, rest) in file.lines().filter_map(time_of) {
        let mut parts = rest.splitn(3, ' ').skip(1);
        let (Some(tag), Some(text)) = (parts.next(), parts.next()) else { continue };
        match lines.last_mut() {
            Some((_, begun)) if goes_on => begun.push_str(text),
            _ => lines.push((time, text.to_owned())),
        }
        goes_on = tag.starts_with('P');
        if let (false, Some((_, whole))) = (goes_on, lines.last_mut()) {
            whole.push('\n');
        }
    }
    lines
}

/// Names of the files in a kubelet's index of a directory that were put aside and are not compressed, the oldest first.
fn files_put_aside(index: &str) -> Vec<&str> {
    let links = index.split("href=\"").skip(1).filter_map(|link| link.split_once('"'));
    let mut names: Vec<&str> = links
        .map(|(name, _)| name)
        .filter(|name| {
            let time = name.split_once(".log.").map(|(_, time)| time);
            time.is_some_and(|time| !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
        })
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use kube::Client;
    use kube::client::Body;

    use super::*;
    use crate::record;

    /// What a reading of the last ten seconds asks for, where the lines since then and the first line of the file are so old,
    /// in seconds.
    async fn asked(newest: i64, first: i64) -> Vec<&'static str> {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let answer = move |request: Request<Body>| {
            let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
            let (what, age) = match query {
                _ if !path.ends_with("/log") => ("the pod", 0),
                query if query.contains("limitBytes") => ("the first line", first),
                _ => ("the lines", newest),
            };
            seen.lock().unwrap().push(what);
            let line = format!("{} a line\n", Timestamp::now() - SignedDuration::from_secs(age));
            let status = if what == "the pod" { 404 } else { 200 };
            let response = ::http::Response::builder().status(status).body(Body::from(line.into_bytes())).unwrap();
            std::future::ready(Ok::<_, Infallible>(response))
        };
        let client = Client::new(tower::service_fn(answer), "default");
        let cluster = Cluster::new(record::tests::cluster("east"), "/kubeconfig".into(), client, "v1".into());
        let at = Container { namespace: "shop", pod: "cart-1", container: "istio-proxy" };
        assert_eq!(cluster.logs(at, Duration::from_secs(10)).await.unwrap(), "a line\n");
        Vec::clone(&asked.lock().unwrap())
    }

    #[tokio::test]
    async fn an_earlier_file_is_looked_for_only_where_the_newest_one_may_have_begun_meanwhile() {
        assert_eq!(asked(11, 300).await, ["the lines"], "it has an earlier line");
        assert_eq!(asked(5, 300).await, ["the lines", "the first line"]);
        assert_eq!(asked(5, 5).await, ["the lines", "the first line", "the pod"]);
    }

    #[test]
    fn a_file_put_aside_is_told_from_the_newest_and_from_compressed_ones() {
        let index = "<pre>\n<a href=\"0.log\">0.log</a>\n<a href=\"0.log.20261128-021500\">x</a>\n\
                     <a href=\"0.log.20261128-021000.gz\">x</a>\n<a href=\"0.log.20261128-020000.tmp\">x</a>\n</pre>\n";
        assert_eq!(files_put_aside(index), ["0.log.20261128-021500"]);
    }

    #[test]
    fn a_line_in_parts_is_one_line_with_the_time_of_the_first() {
        let file = "2026-11-28T02:15:00.1Z stdout F whole line\n\
                    2026-11-28T02:15:01.5Z stdout P one \n2026-11-28T02:15:02Z stdout F and two\nbroken\n";
        let lines = of_file(file);
        assert_eq!(lines.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["whole line\n", "one and two\n"]);
        assert_eq!(lines[1].0, "2026-11-28T02:15:01.5Z".parse().unwrap());
    }

    #[test]
    fn a_line_of_the_api_loses_its_time_only() {
        let line = Line::of_api("2026-11-28T02:15:00.123456789Z {\"a\": \"b c\"}\n");
        assert_eq!(line.text, "{\"a\": \"b c\"}\n");
        assert!(line.time.is_some());
        assert_eq!(Line::of_api("no time\n"), Line { time: None, text: "no time\n" });
    }
}
