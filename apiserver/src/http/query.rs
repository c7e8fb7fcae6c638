//! Query parameters, and the options of requests that come in them.

use api::status::Status;

/// Parsed query parameters, in order.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

/// More parameters than this are ignored; exec with a long command has the most of all requests.
const MAX_PARAMETERS: usize = 1_024;

impl Query {
    /// Parses `a=b&c=d`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty()).take(MAX_PARAMETERS);
        Self(pairs.map(|p| p.split_once('=').unwrap_or((p, ""))).map(|(k, v)| (percent_decode(k, true), percent_decode(v, true))).collect())
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A boolean as upstream reads it: absent, `0` and `false` are false, anything else is true.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    /// A number.
    ///
    /// # Errors
    /// 400 for what is none.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => {
                text.parse().map(Some).map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
            }
        }
    }
}

/// Undoes percent-encoding, and `+` for spaces where asked. What is no encoding stays as it is.
#[must_use]
pub fn percent_decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| *b == b'%' || (plus && *b == b'+')) {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |b: Option<&u8>| b.and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], hex(bytes.get(i + 1)), hex(bytes.get(i + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                i += 2;
            }
            (b'+', ..) if plus => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Which resourceVersion a list or get must be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// As fresh as a quorum read.
    Latest,
    /// Whatever is at hand.
    Any,
    /// At least this.
    NotOlderThan(u64),
    /// Exactly this.
    Exact(u64),
}

/// The options of lists and watches.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// Label selector.
    pub labels: api::labels::Selector,
    /// Field selector.
    pub fields: api::fields::Selector,
    /// `resourceVersion`; `None` when empty.
    pub resource_version: Option<u64>,
    /// `resourceVersionMatch`
    pub version_match: Option<String>,
    /// Page size; 0 for everything.
    pub limit: usize,
    /// Continue token.
    pub continue_token: String,
    /// How long a watch lasts, in seconds.
    pub timeout_seconds: Option<u64>,
    /// Whether the watcher understands bookmarks.
    pub bookmarks: bool,
    /// `sendInitialEvents`
    pub initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// 400 for what cannot be parsed, 422 for combinations that make no sense.
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let text = |name: &str| query.get(name).unwrap_or("").to_owned();
        let (label_text, field_text) = (text("labelSelector"), text("fieldSelector"));
        let resource_version = match query.get("resourceVersion").unwrap_or("") {
            "" => None,
            v => Some(
                v.parse()
                    .map_err(|_| Status::bad_request(format!("Invalid value: {v:?}: strconv.ParseUint: parsing {v:?}: invalid syntax")))?,
            ),
        };
        let options = Self {
            labels: api::labels::Selector::parse(&label_text).map_err(Status::bad_request)?,
            fields: api::fields::Selector::parse(&field_text).map_err(Status::bad_request)?,
            resource_version,
            version_match: query.get("resourceVersionMatch").filter(|v| !v.is_empty()).map(str::to_owned),
            limit: query.number("limit")?.and_then(|l| usize::try_from(l).ok()).unwrap_or(0),
            continue_token: text("continue"),
            timeout_seconds: query.number("timeoutSeconds")?.and_then(|t| u64::try_from(t).ok()).filter(|t| *t > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial_events: query.get("sendInitialEvents").filter(|v| !v.is_empty()).map(|_| query.flag("sendInitialEvents")),
        };
        options.check(watch)?;
        Ok(options)
    }

    /// The rules of `ValidateListOptions`.
    fn check(&self, watch: bool) -> Result<(), Status> {
        let mut errors = api::field::Errors::new();
        let at = api::field::Path::new;
        let matching = self.version_match.as_deref();
        let matched = at("resourceVersionMatch");
        if watch {
            if self.initial_events.is_some() && matching != Some("NotOlderThan") {
                errors.forbidden(&matched, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            if let Some(matching) = matching {
                if self.initial_events.is_none() {
                    errors.forbidden(&matched, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
                }
                if matching != "NotOlderThan" {
                    errors.not_supported(&matched, matching, &["NotOlderThan"]);
                }
                if !self.continue_token.is_empty() {
                    errors.forbidden(&matched, "resourceVersionMatch is forbidden when continue is provided");
                }
            }
        } else {
            if self.initial_events.is_some() {
                errors.forbidden(&at("sendInitialEvents"), "sendInitialEvents is forbidden for list");
            }
            if let Some(matching) = matching {
                if self.resource_version.is_none() {
                    errors.forbidden(&matched, "resourceVersionMatch is forbidden unless resourceVersion is provided");
                }
                if !self.continue_token.is_empty() {
                    errors.forbidden(&matched, "resourceVersionMatch is forbidden when continue is provided");
                }
                if !["Exact", "NotOlderThan"].contains(&matching) {
                    errors.not_supported(&matched, matching, &["Exact", "NotOlderThan", ""]);
                }
                if matching == "Exact" && self.resource_version == Some(0) {
                    errors.forbidden(&matched, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors)) }
    }

    /// The version that a list must be of.
    #[must_use]
    pub fn version(&self) -> Version {
        match (self.resource_version, self.version_match.as_deref()) {
            (None, _) => Version::Latest,
            (Some(v), Some("Exact")) => Version::Exact(v),
            (Some(0), _) => Version::Any,
            // A page of an exact version: upstream's rule for limit without a match.
            (Some(v), None) if self.limit > 0 => Version::Exact(v),
            (Some(v), _) => Version::NotOlderThan(v),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let q = Query::parse("a=b%2Cc+d&command=ls&command=-l&watch=true&limit=5&x=%zz");
        assert_eq!((q.get("a"), q.get("x")), (Some("b,c d"), Some("%zz")));
        assert_eq!(q.all("command").collect::<Vec<_>>(), ["ls", "-l"]);
        assert!(q.flag("watch") && !q.flag("other") && !Query::parse("watch=0").flag("watch"));
        assert_eq!(q.number("limit").unwrap(), Some(5));
        assert!(q.number("a").is_err());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        let list = |q: &str| ListOptions::parse(&Query::parse(q), false);
        let watch = |q: &str| ListOptions::parse(&Query::parse(q), true);
        assert!(list("resourceVersionMatch=Exact").is_err());
        assert!(list("resourceVersionMatch=Exact&resourceVersion=0").is_err());
        assert!(list("resourceVersion=x").is_err());
        assert!(list("labelSelector=a%20b").is_err());
        assert!(watch("sendInitialEvents=true").is_err());
        assert!(watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan").is_ok());
        assert_eq!(list("resourceVersion=7&limit=1").unwrap().version(), Version::Exact(7));
        assert_eq!(list("resourceVersion=7").unwrap().version(), Version::NotOlderThan(7));
        assert_eq!(list("resourceVersion=0&limit=1").unwrap().version(), Version::Any);
        assert_eq!(list("").unwrap().version(), Version::Latest);
    }
}
