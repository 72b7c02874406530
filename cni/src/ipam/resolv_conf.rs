//! Name service settings from a file like `/etc/resolv.conf` (resolv.conf(5)), as CNI spells them.

use serde_json::{Map, Value, json};

/// Reads the file's text. What is neither `nameserver`, `domain`, `search` nor `options` is passed over.
pub(super) fn parse(text: &str) -> Map<String, Value> {
    let (mut servers, mut search, mut options) = (Vec::new(), Vec::new(), Vec::new());
    let mut domain = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let key = words.next();
        let Some(first) = words.next() else { continue };
        match key {
            Some("nameserver") => servers.push(first),
            Some("domain") => domain = Some(first),
            Some("search") => search.extend(std::iter::once(first).chain(words)),
            Some("options") => options.extend(std::iter::once(first).chain(words)),
            _ => {}
        }
    }
    let mut dns = Map::new();
    let mut list = |key: &str, words: Vec<&str>| {
        if !words.is_empty() {
            dns.insert(key.to_owned(), json!(words));
        }
    };
    list("nameservers", servers);
    list("search", search);
    list("options", options);
    if let Some(domain) = domain {
        dns.insert("domain".to_owned(), json!(domain));
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h13_a_resolver_file_becomes_name_service_settings() {
        let text = "# a comment\nnameserver 192.0.2.1\nnameserver\tfd00::1\n;x\nsearch a b\nsearch c\ndomain d\noptions ndots:5 rotate\nodd line\nnameserver\n";
        let wanted = json!({"nameservers": ["192.0.2.1", "fd00::1"], "search": ["a", "b", "c"], "options": ["ndots:5", "rotate"], "domain": "d"});
        assert_eq!(Value::Object(parse(text)), wanted);
        assert!(parse("\n# nothing\n").is_empty());
    }
}
