//! As much of Markdown as our documents use.

use std::collections::BTreeSet;

/// A program's name and what follows it, as a document writes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// The program.
    pub program: String,
    /// The rest of the command.
    pub arguments: String,
}

/// What a line is.
enum Kind {
    Prose,
    Code,
}

/// Lines, told apart. Code is what is fenced, or indented by four after an empty line or other code.
fn lines(text: &str) -> Vec<(Kind, &str)> {
    let (mut fenced, mut after_gap, mut found) = (false, true, Vec::new());
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let indented = after_gap && line.starts_with("    ");
        after_gap = indented || line.trim().is_empty();
        found.push((if fenced || indented { Kind::Code } else { Kind::Prose }, line));
    }
    found
}

/// Prose without what is in backticks, and what was in them.
fn spans(line: &str) -> (String, Vec<&str>) {
    let (mut prose, mut code) = (String::new(), Vec::new());
    for (place, part) in line.split('`').enumerate() {
        if place % 2 == 0 {
            prose.push_str(part);
        } else {
            code.push(part);
            prose.push('x');
        }
    }
    (prose, code)
}

/// The targets of all links and pictures.
#[must_use]
pub fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, line) in lines(text) {
        if matches!(kind, Kind::Code) {
            continue;
        }
        let (prose, _) = spans(line);
        for part in prose.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push(target.split_whitespace().next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// What `#...` may name: every heading, as forges spell it.
#[must_use]
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (kind, line) in lines(text) {
        let hashes = line.chars().take_while(|letter| *letter == '#').count();
        let Some(title) = line.get(hashes..).and_then(|rest| rest.strip_prefix(' ')) else { continue };
        if matches!(kind, Kind::Prose) && (1..=6).contains(&hashes) {
            let plain = slug(title);
            let numbered = (1..).map(|number| format!("{plain}-{number}"));
            let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !found.contains(name));
            found.extend(free);
        }
    }
    found
}

fn slug(title: &str) -> String {
    let kept = title.trim().chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// Every `--option` of a text, without its value.
#[must_use]
pub fn options_of(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| letter.is_whitespace() || "`|,;()[]\"'".contains(letter));
    words
        .filter(|word| {
            word.starts_with("--") && word[2..].starts_with(|first: char| first.is_ascii_alphabetic())
        })
        .map(|word| word.split(['=', ':', '.']).next().unwrap_or(word).to_owned())
        .collect()
}

/// Every call of one of these programs in code, and what it is called with: up to the end of the command.
#[must_use]
pub fn calls(text: &str, programs: &[&str]) -> Vec<Call> {
    let mut found = Vec::new();
    let mut code = String::new();
    for (kind, line) in lines(text) {
        match kind {
            // A command may go on in the next line.
            Kind::Code if line.ends_with('\\') => {
                code.push_str(line.trim_end_matches('\\'));
            }
            Kind::Code => {
                code.push_str(line);
                found.extend(calls_of(&code, programs));
                code.clear();
            }
            Kind::Prose => {
                for span in spans(line).1 {
                    found.extend(calls_of(span, programs));
                }
            }
        }
    }
    found
}

fn calls_of(code: &str, programs: &[&str]) -> Vec<Call> {
    let mut found = Vec::new();
    let code = code.split(" #").next().unwrap_or(code);
    for command in code.split(['|', ';', '&']) {
        let words: Vec<&str> = command.split_whitespace().collect();
        // At the beginning, or where another program is told to execute it.
        let begins = words.iter().position(|word| !word.contains('=') && *word != "sudo");
        let after = |place: &usize| words[*place] == "--";
        let places = begins.into_iter().chain((0..words.len()).filter(after).map(|place| place + 1));
        for place in places.filter(|place| *place < words.len()) {
            let name = words[place].rsplit('/').next().unwrap_or(words[place]);
            if programs.contains(&name) {
                let arguments = words[place + 1..].join(" ");
                found.push(Call { program: name.to_owned(), arguments });
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_those_of_prose() {
        let text = "See [a](b.md#c), ![d](e.png \"f\") and `[not](this)`.\n\n    [nor](that)\n\n```\n[nor](these)\n```\n[g](h)";
        assert_eq!(links(text), ["b.md#c", "e.png", "h"]);
    }

    #[test]
    fn headings_are_spelt_as_forges_do_it() {
        let text = "# A b, `c-d`\n## E\n### E\n```\n# not\n```\n#nor this";
        assert_eq!(anchors(text).into_iter().collect::<Vec<_>>(), ["a-b-c-d", "e", "e-1"]);
    }

    #[test]
    fn calls_end_with_the_command() {
        let programs = ["tool", "tool-two"];
        let text = "`tool --a x` and `tool`.\n\n    ./bin/tool-two --b=1 \\\n        --c | other --d   # tool --e\n    sudo A=b tool go --f --; ls tool --g; run x -- tool --h\n";
        let found: Vec<(String, Vec<String>)> = calls(text, &programs)
            .into_iter()
            .map(|call| (call.program, options_of(&call.arguments)))
            .collect();
        let call = |program: &str, options: &[&str]| {
            (program.to_owned(), options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            found,
            [
                call("tool", &["--a"]),
                call("tool", &[]),
                call("tool-two", &["--b", "--c"]),
                call("tool", &["--f"]),
                call("tool", &["--h"])
            ]
        );
    }
}
