//! YAML into the same tree as JSON. Values without quotes keep their text: YAML would take device identifiers such as
//! `1572`, `15e3` and `0x1889` for numbers.

use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::{Node, SyntaxError};

/// The most values that aliases may repeat: a few lines of aliases of aliases say millions.
const MOST_REPEATED: usize = 100_000;

/// The deepest nesting, as for JSON.
const MOST_LEVELS: usize = 128;

/// Reads the one document of a YAML text.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut roots = build(text, Builder::default())?;
    roots.pop().ok_or_else(|| at(&Marker::new(0, 1, 0), "there is nothing in it"))
}

/// Reads all documents of a YAML text.
pub(super) fn parse_all(text: &str) -> Result<Vec<Node>, SyntaxError> {
    build(text, Builder { takes_several: true, ..Builder::default() })
}

fn build(text: &str, mut builder: Builder) -> Result<Vec<Node>, SyntaxError> {
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        builder.take(event).map_err(|problem| at(&span.start, problem))?;
    }
    Ok(builder.roots)
}

fn at(place: &Marker, problem: impl Into<String>) -> SyntaxError {
    SyntaxError::Yaml { line: place.line(), column: place.col() + 1, problem: problem.into() }
}

fn scan_error(error: &ScanError) -> SyntaxError {
    at(error.marker(), error.info())
}

/// A value that an alias can repeat, with its size and depth.
#[derive(Clone)]
struct Built {
    node: Node,
    nodes: usize,
    levels: usize,
}

impl Built {
    fn leaf(node: Node) -> Self {
        Self { node, nodes: 1, levels: 1 }
    }
}

/// A list or object that is not complete.
struct Open {
    node: Node,
    /// In an object, the key whose value comes next.
    key: Option<String>,
    anchor: usize,
    nodes: usize,
    levels: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    repeated: usize,
    takes_several: bool,
    /// The documents that are complete.
    roots: Vec<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::DocumentStart(..) if !self.takes_several && !self.roots.is_empty() => {
                Err("there is a second document")
            }
            Event::Scalar(text, style, anchor, _) => {
                self.add(Built::leaf(scalar(text.into_owned(), style)), anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Node::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => self.begin(Node::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(built) => {
                    self.repeated += built.nodes;
                    if self.repeated > MOST_REPEATED {
                        Err("aliases repeat too much")
                    } else {
                        self.add(built, 0)
                    }
                }
                None => Err("an alias of the value that it is in"),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, node: Node, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() >= MOST_LEVELS {
            return Err("too deeply nested");
        }
        self.open.push(Open { node, key: None, anchor, nodes: 1, levels: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), &'static str> {
        let Some(Open { node, anchor, nodes, levels, .. }) = self.open.pop() else { return Ok(()) };
        self.add(Built { node, nodes, levels }, anchor)
    }

    /// Puts a complete value where it belongs.
    fn add(&mut self, built: Built, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() + built.levels > MOST_LEVELS + 1 {
            return Err("too deeply nested");
        }
        if anchor != 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.roots.push(built.node);
            return Ok(());
        };
        open.nodes += built.nodes;
        open.levels = open.levels.max(built.levels + 1);
        match &mut open.node {
            Node::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, built.node)),
                None => open.key = Some(key(built.node)?),
            },
            Node::List(items) => items.push(built.node),
            _ => {}
        }
        Ok(())
    }
}

fn key(node: Node) -> Result<String, &'static str> {
    match node {
        Node::Plain(text) if text == "<<" => Err("merge keys are not read; repeat what is meant"),
        Node::Plain(text) | Node::Text(text) => Ok(text),
        Node::Null => Ok("null".to_owned()),
        _ => Err("a key that is no text"),
    }
}

fn scalar(text: String, style: ScalarStyle) -> Node {
    match (style, text.as_str()) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Node::Null,
        (ScalarStyle::Plain, _) => Node::Plain(text),
        _ => Node::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Node {
        Node::Plain(text.to_owned())
    }

    fn map<const N: usize>(entries: [(&str, Node); N]) -> Node {
        Node::Map(entries.map(|(key, value)| (key.to_owned(), value)).into())
    }

    fn error(text: &str) -> String {
        let text = parse(text).unwrap_err().to_string();
        text.strip_prefix("this is not YAML (nor JSON, which begins with a brace): ").unwrap().to_owned()
    }

    #[test]
    fn values_without_quotes_keep_their_text() {
        let node = parse("# comment\ndevices: [1572, 15e3, 0x1889, '10fb']\nrdma: true\nnone: ~\n").unwrap();
        let quoted = Node::Text("10fb".to_owned());
        let list = Node::List(vec![plain("1572"), plain("15e3"), plain("0x1889"), quoted]);
        assert_eq!(node, map([("devices", list), ("rdma", plain("true")), ("none", Node::Null)]));
    }

    #[test]
    fn several_documents_are_read_where_they_may_be() {
        let documents = parse_all("a: 1\n---\n---\n- b\n...\n").unwrap();
        assert_eq!(documents, [map([("a", plain("1"))]), Node::Null, Node::List(vec![plain("b")])]);
        assert_eq!(parse_all("# nothing\n").unwrap(), []);
    }

    #[test]
    fn aliases_repeat_their_value() {
        let node = parse("a: &names [p0#0-3]\nb: *names\n").unwrap();
        let list = || Node::List(vec![plain("p0#0-3")]);
        assert_eq!(node, map([("a", list()), ("b", list())]));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (text, expected) in [
            ("", "line 1, column 1: there is nothing in it"),
            ("a: 1\n---\nb: 2\n", "line 2, column 1: there is a second document"),
            ("a: &x {b: 1}\n<<: *x\n", "line 2, column 1: merge keys are not read; repeat what is meant"),
            ("? [a]\n: b\n", "line 1, column 5: a key that is no text"),
            ("a: &x [*x]\n", "line 1, column 8: an alias of the value that it is in"),
            ("a: b: c\n", "line 1, column 5: mapping values are not allowed in this context"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn nesting_and_repetition_have_a_limit() {
        let nested = "[".repeat(200) + &"]".repeat(200);
        assert!(error(&nested).contains("too deeply nested"));
        let doubled: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect();
        assert!(error(&format!("a0: &a0 x\n{doubled}")).contains("aliases repeat too much"));
        let deeper: String = (1..300).map(|n| format!("a{n}: &a{n} [*a{0}]\n", n - 1)).collect();
        assert!(error(&format!("a0: &a0 x\n{deeper}")).contains("too deeply nested"));
    }
}
