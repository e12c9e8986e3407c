//! Rows of the truth table: one policy each, and the requests that it is asked about.
//!
//! Many rows share one server. Each row has a path of its own, and its policy is about that path only.

use meshproof::policy::authorization::{Answer, HttpRequest, Policy, Token};
use meshproof::probe::{Header, RawRequest, WHOAMI_METHOD, authorize};
use meshproof::{Error, Result};
use serde_json::{Value, json};

/// Path that every caller may ask for: the control. Over gRPC, the control is the probe's own method.
pub(crate) const CONTROL: &str = "/status/299";

/// The probe answers these paths with the status in them. The others up to 298 have no body, or are partial.
const FIRST: usize = 210;

/// A request to ask a server.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// Name in claims.
    pub(crate) name: String,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Host without the port, if it is not the server's own name.
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<Header>,
    pub(crate) presented: Presented,
    /// Whether the authorizer of the called workload cannot be asked.
    pub(crate) is_unanswered: bool,
}

/// The token in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presented {
    /// None.
    Nothing,
    /// One that is valid, with these claims.
    Valid(Token),
    /// One that must be refused with this status.
    Refused(u16),
}

impl Ask {
    pub(crate) fn get(name: &str, path: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            method: "GET",
            path: path.into(),
            host: None,
            headers: Vec::new(),
            presented: Presented::Nothing,
            is_unanswered: false,
        }
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// Presents a token.
    pub(crate) fn with_token(self, token: &str, presented: Presented) -> Self {
        Self { presented, ..self.with_header("authorization", format!("Bearer {token}")) }
    }

    /// What the external authorizer says of the request.
    pub(crate) fn authorizer(&self) -> Answer {
        if self.is_unanswered {
            return Answer::Nothing;
        }
        let mut said = self.headers.iter().filter(|header| header.name == authorize::HEADER).peekable();
        let allows = said.peek().is_some() && said.all(|header| header.value == authorize::ALLOW);
        if allows { Answer::Allows } else { Answer::Denies }
    }

    /// The request in bytes.
    pub(crate) fn raw(&self, host: &str) -> RawRequest {
        let request = RawRequest::new(self.method, self.host.as_deref().unwrap_or(host), &self.path);
        self.headers.iter().fold(request, |request, Header { name, value }| request.with_header(name, value))
    }

    /// The request, for the model.
    pub(crate) fn request(&self, host: &str) -> HttpRequest {
        let mut request = HttpRequest::get(self.host.as_deref().unwrap_or(host), &self.path);
        request.method = self.method.into();
        for Header { name, value } in &self.headers {
            request.headers.entry(name.clone()).or_default().push(value.clone());
        }
        if let Presented::Valid(token) = &self.presented {
            request.token = Some(token.clone());
        }
        request
    }
}

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    action: &'static str,
    /// The rule, without its path.
    rule: Value,
    /// The external authorizer that the policy asks.
    provider: Option<&'static str>,
    dry_run: bool,
    /// Another row, whose policy is about the same path.
    also: Option<Box<Row>>,
    /// What is asked, with the row's path. Empty: one GET.
    asks: Vec<Ask>,
    /// Why every cell of the row has the same expectation, if that is so.
    pub(crate) one_sided: Option<&'static str>,
}

/// A row whose policy has this `source`.
pub(crate) fn from(name: &'static str, action: &'static str, source: Value) -> Row {
    row(name, action, json!({ "from": [{ "source": source }] }))
}

/// A row whose policy has this `operation`.
pub(crate) fn to(name: &'static str, action: &'static str, operation: Value) -> Row {
    row(name, action, json!({ "to": [{ "operation": operation }] }))
}

/// A row whose policy has this condition.
pub(crate) fn when(name: &'static str, action: &'static str, condition: Value) -> Row {
    row(name, action, json!({ "when": [condition] }))
}

/// A row whose policy has this rule.
pub(crate) fn row(name: &'static str, action: &'static str, rule: Value) -> Row {
    Row { name, action, rule, provider: None, dry_run: false, also: None, asks: Vec::new(), one_sided: None }
}

impl Row {
    pub(crate) fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Asks this extension provider.
    pub(crate) fn of_provider(mut self, provider: &'static str) -> Self {
        self.provider = Some(provider);
        self
    }

    /// The policy of another row as well, about the same path.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.also = Some(Box::new(other));
        self
    }

    /// This row and those that it has as well.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |row| row.also.as_deref())
    }

    /// Whether some policy of the row allows: then nothing else may.
    fn allows(&self) -> bool {
        self.all().any(|row| row.action == "ALLOW" && !row.dry_run)
    }

    /// Asks these instead of one GET. The row's path replaces theirs, without their query.
    pub(crate) fn asking(mut self, asks: impl IntoIterator<Item = Ask>) -> Self {
        self.asks.extend(asks);
        self
    }

    pub(crate) fn one_sided(mut self, reason: &'static str) -> Self {
        self.one_sided = Some(reason);
        self
    }

    /// The row's policy in `namespace`, about `path` only.
    fn policy(&self, namespace: &str, path: &str) -> Result<Policy> {
        let mut rule = self.rule.clone();
        if rule.get("to").is_none() {
            rule["to"] = json!([{ "operation": {} }]);
        }
        for to in rule["to"].as_array_mut().into_iter().flatten() {
            to["operation"]["paths"] = json!([path]);
        }
        let mut spec = json!({ "action": self.action, "rules": [rule] });
        if let Some(provider) = self.provider {
            spec["provider"] = json!({ "name": provider });
        }
        let policy = Policy::parse(namespace, self.name, spec).map_err(Error::suite)?;
        Ok(if self.dry_run { policy.dry_run() } else { policy })
    }
}

/// A request of a row.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) row: &'static str,
    pub(crate) ask: Ask,
}

/// The requests of all rows, each with its row's path.
pub(crate) fn cells(rows: &[Row]) -> Vec<Cell> {
    let of = |(index, row): (usize, &Row)| {
        let asks = if row.asks.is_empty() { vec![Ask::get("get", "")] } else { row.asks.clone() };
        let name = row.name;
        asks.into_iter().map(move |ask| {
            let query = ask.path.find('?').map(|start| &ask.path[start..]).unwrap_or_default();
            Cell { row: name, ask: Ask { path: format!("{}{query}", path(index)), ..ask } }
        })
    };
    rows.iter().enumerate().flat_map(of).collect()
}

/// The policies of all rows, and one that allows the control and every path that no ALLOW row is about.
pub(crate) fn policies(rows: &[Row], namespace: &str) -> Result<Vec<Policy>> {
    let others = rows.iter().enumerate().filter(|(_, row)| !row.allows());
    let open: Vec<String> =
        others.map(|(index, _)| path(index)).chain([CONTROL.into(), WHOAMI_METHOD.into()]).collect();
    let open = json!({ "rules": [{ "to": [{ "operation": { "paths": open } }] }] });
    let open = Policy::parse(namespace, "open", open).map_err(Error::suite)?;
    let rows = rows.iter().enumerate().flat_map(|(index, row)| row.all().map(move |row| (index, row)));
    let rows = rows.map(|(index, row)| row.policy(namespace, &path(index)));
    rows.chain([Ok(open)]).collect()
}

fn path(index: usize) -> String {
    format!("/status/{}", FIRST + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_a_path_of_its_own_and_a_policy_about_it() {
        let rows = [
            from("one", "ALLOW", json!({ "namespaces": ["a"] })),
            to("two", "DENY", json!({ "methods": ["POST"] })),
            row("three", "ALLOW", json!({})).dry_run(),
        ];
        let policies = policies(&rows, "ns").unwrap();
        let spec = |index: usize| policies[index].object()["spec"].clone();
        let operation = |index: usize| spec(index)["rules"][0]["to"][0]["operation"].clone();
        assert_eq!(operation(0), json!({ "paths": ["/status/210"] }));
        assert_eq!(operation(1), json!({ "methods": ["POST"], "paths": ["/status/211"] }));
        assert_eq!(
            operation(3),
            json!({ "paths": ["/status/211", "/status/212", CONTROL, WHOAMI_METHOD] }),
            "no path of an ALLOW row"
        );
        assert_eq!(
            cells(&rows).iter().map(|cell| cell.ask.path.as_str()).collect::<Vec<_>>(),
            ["/status/210", "/status/211", "/status/212"]
        );
    }
}
