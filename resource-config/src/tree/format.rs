//! Trees as text files: one entry a line, readable, and in a fixed order so that two of them can be compared.
//!
//! ```text
//! fairlead-tree 1
//! [bus/pci/devices/0000:01:00.0]            a folder; what follows is in it
//! : class driver vendor                     the names in it that matter
//! class = 0x020000                          an attribute and what it holds
//! driver -> ../../../bus/pci/drivers/igb    a link and where it points
//! numa_node ! 5                             what could not be read, with the number of the system's error
//! physfn -! 22                              a link that could not be read
//! ! 13                                      the folder itself could not be read
//! netlink.json                              up to the end: what netlink knows, each line after "| "
//! | {"links": []}
//! ```
//!
//! Blank lines and lines that begin with `#` say nothing. In names a backslash, blank, or what cannot be seen is written
//! as `\xHH`, once for each byte; in values too, but not the blank, and a line break is `\n`.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::memory::{Errno, Tree};

const HEADER: &str = "fairlead-tree 1";
const NETLINK: &str = "netlink.json";

/// Why a file is no tree.
#[derive(Debug, Error)]
pub enum TreeError {
    /// It cannot be read.
    #[error("cannot read the tree file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no tree of a version that is known here.
    #[error(
        "{path}: line 1: found {found:?}, wanted {HEADER:?}; is this a file that fairlead-config record wrote?"
    )]
    Header {
        /// The file.
        path: PathBuf,
        /// Its first line.
        found: String,
    },
    /// A line of it makes no sense.
    #[error("{path}: line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
}

impl Tree {
    /// Reads a tree file.
    pub(crate) fn load(path: &Path) -> Result<Self, TreeError> {
        let bytes =
            std::fs::read(path).map_err(|source| TreeError::Read { path: path.to_owned(), source })?;
        Self::parse(&String::from_utf8_lossy(&bytes), path)
    }

    /// Reads the text of a tree file; `path` is for error texts.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, TreeError> {
        let first = text.lines().next().unwrap_or_default().trim_end();
        if first != HEADER {
            let found = first.chars().take(80).collect();
            return Err(TreeError::Header { path: path.to_owned(), found });
        }
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate().skip(1) {
            reader.line(line).map_err(|problem| TreeError::Line {
                path: path.to_owned(),
                line: index + 1,
                problem,
            })?;
        }
        Ok(reader.tree)
    }

    /// The text of a tree file.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{HEADER}\n# A node's devices, as fairlead-config record found them.\n");
        let mut sections: Vec<&str> = self.folders.keys().map(String::as_str).collect();
        sections.extend(self.files.keys().chain(self.links.keys()).map(|path| parent(path).0));
        sections.sort_unstable();
        sections.dedup();
        for section in sections {
            self.write_section(&mut text, section);
        }
        if let Some(netlink) = &self.netlink {
            text.push_str(&format!("\n{NETLINK}\n"));
            netlink.lines().for_each(|line| text.push_str(&format!("| {line}\n")));
        }
        text
    }

    fn write_section(&self, text: &mut String, section: &str) {
        text.push_str(&format!("\n[{}]\n", escaped_name(section)));
        match self.folders.get(section) {
            Some(Ok(names)) => {
                text.push(':');
                names.iter().for_each(|name| text.push_str(&format!(" {}", escaped_name(name))));
                text.push('\n');
            }
            Some(Err(errno)) => text.push_str(&format!("! {errno}\n")),
            None => {}
        }
        write_entries(text, section, &self.files, '=');
        write_entries(text, section, &self.links, '>');
    }
}

/// The entries of one folder: those whose path is the folder's with one more part.
fn write_entries(
    text: &mut String,
    section: &str,
    entries: &std::collections::BTreeMap<String, Result<String, Errno>>,
    sign: char,
) {
    let first = if section.is_empty() { String::new() } else { format!("{section}/") };
    for (path, entry) in entries.range(first.clone()..).take_while(|(path, _)| path.starts_with(&first)) {
        let (folder, name) = parent(path);
        if folder != section {
            continue;
        }
        let name = escaped_name(name);
        let line = match (entry, sign) {
            (Ok(value), '=') => format!("{name} = {}\n", escaped_value(value)),
            (Ok(target), _) => format!("{name} -> {}\n", escaped_value(target)),
            (Err(errno), '=') => format!("{name} ! {errno}\n"),
            (Err(errno), _) => format!("{name} -! {errno}\n"),
        };
        text.push_str(&line);
    }
}

fn parent(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[derive(Default)]
struct Reader {
    tree: Tree,
    /// The folder that lines are in.
    section: Option<String>,
    in_netlink: bool,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim_end_matches('\r');
        if self.in_netlink {
            return self.netlink_line(line);
        }
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if line == NETLINK {
            self.in_netlink = true;
            self.tree.netlink = Some(String::new());
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix('[') {
            let path = rest.strip_suffix(']').ok_or("a folder's line ends with ]")?;
            self.section = Some(unescaped(path)?);
            return Ok(());
        }
        let section = self.section.clone().ok_or("there is no folder, like [bus/pci/devices], before it")?;
        self.entry(&section, line)
    }

    fn netlink_line(&mut self, line: &str) -> Result<(), String> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let json = line.strip_prefix('|').ok_or("a line of netlink.json begins with |")?;
        let netlink = self.tree.netlink.get_or_insert_default();
        netlink.push_str(json.strip_prefix(' ').unwrap_or(json));
        netlink.push('\n');
        Ok(())
    }

    fn entry(&mut self, section: &str, line: &str) -> Result<(), String> {
        if let Some(names) = line.strip_prefix(':') {
            let names = names.split_whitespace().map(unescaped).collect::<Result<Vec<String>, String>>()?;
            self.tree.folders.insert(section.to_owned(), Ok(names));
            return Ok(());
        }
        if let Some(errno) = line.strip_prefix('!') {
            self.tree.folders.insert(section.to_owned(), Err(number(errno)?));
            return Ok(());
        }
        let usage = "wanted NAME = VALUE, NAME -> TARGET, or NAME ! NUMBER";
        let (name, rest) = line.split_once(' ').ok_or(usage)?;
        let path = super::joined(section, &unescaped(name)?);
        let (sign, value) = rest.split_once(' ').unwrap_or((rest, ""));
        match sign {
            "=" => drop(self.tree.files.insert(path, Ok(unescaped(value)?))),
            "->" => drop(self.tree.links.insert(path, Ok(unescaped(value)?))),
            "!" => drop(self.tree.files.insert(path, Err(number(value)?))),
            "-!" => drop(self.tree.links.insert(path, Err(number(value)?))),
            _ => return Err(usage.to_owned()),
        }
        Ok(())
    }
}

fn number(text: &str) -> Result<Errno, String> {
    let number = text.trim().parse::<Errno>().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{:?} is not the number of an error, like 5 for EIO", text.trim()))
}

/// Without blanks, and not to be taken for another kind of line.
fn escaped_name(name: &str) -> String {
    let mut text = String::new();
    for (index, c) in name.chars().enumerate() {
        let is_sign = index == 0 && matches!(c, '[' | ':' | '!' | '#') || matches!(c, ']' | ' ');
        escape(&mut text, c, is_sign);
    }
    text
}

fn escaped_value(value: &str) -> String {
    let mut text = String::new();
    value.chars().for_each(|c| escape(&mut text, c, false));
    text
}

fn escape(text: &mut String, c: char, always: bool) {
    match c {
        '\n' => text.push_str("\\n"),
        '\\' => text.push_str("\\\\"),
        c if always || c.is_control() || (c.is_whitespace() && c != ' ') => {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        c => text.push(c),
    }
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'n') => b'\n',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits = [rest.next(), rest.next()].into_iter().flatten().collect::<Vec<u8>>();
                let digits = std::str::from_utf8(&digits).ok().filter(|digits| digits.len() == 2);
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                byte.ok_or("after \\x there are two hexadecimal digits")?
            }
            _ => return Err("after a backslash there is n, x or a backslash".to_owned()),
        });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
