//! The drawing as a picture: SVG that needs nothing from elsewhere, for light and dark backgrounds. The same drawing gives the
//! same bytes.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::drawing::{Drawing, Item, Port, Sharing};
use super::fold::{Row, rows};
use super::text::about;

/// Pixels. Text is set in a fixed width, so that its length is known without a font.
const CHAR: usize = 8;
const LINE: usize = 22;
const MARGIN: usize = 20;
const PAD: usize = 14;
const SQUARE: usize = 12;
const SQUARE_STEP: usize = 15;
const SQUARES_IN_A_LINE: usize = 64;

/// How many colours there are for pools or drivers; then they begin again.
const COLOURS: usize = 8;

const STYLE: &str = "\
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2328}\
.m{fill:#59636e}.b{font-weight:bold}.w{fill:#cf222e}.chip{fill:#fff}\
.bg{fill:#fff}.card{fill:#f6f8fa;stroke:#d0d7de}.tree{stroke:#afb8c1;fill:none}.none{fill:none;stroke:#818b98}\
.up{fill:#1a7f37}.down{fill:#818b98}\
.c0{fill:#0969da}.c1{fill:#bc4c00}.c2{fill:#1a7f37}.c3{fill:#8250df}.c4{fill:#bf3989}.c5{fill:#0e7490}.c6{fill:#9a6700}\
.c7{fill:#57606a}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.m{fill:#9198a1}.w{fill:#ff7b72}.chip{fill:#fff}.bg{fill:#0d1117}\
.card{fill:#161b22;stroke:#30363d}.tree{stroke:#484f58}.up{fill:#3fb950}}";

/// Columns of a device's line.
const COLUMNS: usize = 8;

pub(super) fn write(drawing: &Drawing, unfold: bool) -> String {
    let colours = Colours::of(drawing);
    let ports: Vec<(&Port, Vec<Row<'_>>)> =
        drawing.ports.iter().map(|port| (port, rows(&port.below, unfold))).collect();
    let columns = Columns::of(&ports);
    let mut paper = Paper { body: String::new(), y: MARGIN, width: MARGIN + 60 * CHAR };
    paper.title(drawing);
    paper.legend(&colours);
    for (port, rows) in &ports {
        paper.port(port, rows, &columns, &colours);
    }
    for note in &drawing.notes {
        paper.line(MARGIN, "m", &format!("note: {note}"));
        paper.y += LINE;
    }
    paper.finish()
}

/// What colours stand for: pools, or without a configuration drivers.
struct Colours {
    by_pool: bool,
    /// Each name with its number of devices, in the order of their colours.
    names: Vec<(String, usize)>,
    number: BTreeMap<String, usize>,
}

impl Colours {
    fn of(drawing: &Drawing) -> Self {
        let names: Vec<(String, usize)> = match &drawing.pools {
            Some(pools) => pools.clone(),
            None => {
                let items = drawing.ports.iter().flat_map(|port| port.below.iter().chain([&port.head]));
                let mut drivers = BTreeMap::new();
                for driver in items.filter_map(|item| item.driver.clone()) {
                    *drivers.entry(driver).or_default() += 1;
                }
                drivers.into_iter().collect()
            }
        };
        let number = names.iter().enumerate().map(|(number, (name, _))| (name.clone(), number)).collect();
        Self { by_pool: drawing.pools.is_some(), names, number }
    }

    /// What a device is coloured by.
    fn name<'a>(&self, item: &'a Item) -> Option<&'a String> {
        if self.by_pool { item.pool.as_ref() } else { item.driver.as_ref() }
    }

    fn class(&self, name: Option<&String>) -> String {
        let number = name.and_then(|name| self.number.get(name));
        number.map_or_else(|| "none".to_owned(), |number| format!("c{}", number % COLOURS))
    }
}

/// Where columns begin, in pixels from the left.
struct Columns {
    at: [usize; COLUMNS],
}

impl Columns {
    fn of(ports: &[(&Port, Vec<Row<'_>>)]) -> Self {
        let mut widths = [0; COLUMNS];
        let mut widen = |cells: [String; COLUMNS]| {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        };
        for (port, rows) in ports {
            widen(cells(&Row::single(&port.head)));
            rows.iter().map(cells).for_each(&mut widen);
        }
        let mut at = [0; COLUMNS];
        let mut x = MARGIN + PAD + 2 * CHAR;
        for (place, width) in at.iter_mut().zip(widths) {
            *place = x;
            x += if width == 0 { 0 } else { (width + 2) * CHAR };
        }
        Self { at }
    }
}

/// What a device is to its port, its name, its driver with its pool, network device, link, group, NUMA node, and the rest.
fn cells(row: &Row<'_>) -> [String; COLUMNS] {
    let text = |value: fn(&Item) -> Option<String>| row.any().and_then(value).unwrap_or_default();
    let prefix = |what: &str, text: String| if text.is_empty() { text } else { format!("{what} {text}") };
    let pool = text(|item| item.pool.clone());
    let driver = text(|item| item.driver.clone());
    [
        row.label(),
        row.device(),
        if pool.is_empty() { driver } else { format!("{driver}  {pool}") },
        row.netdev(),
        // With room for the dot.
        text(|item| item.link.as_ref().map(|link| format!("  {link}"))),
        prefix("group", row.group()),
        prefix("NUMA", text(|item| item.numa.map(|node| node.to_string()))),
        // A port's has a line of its own.
        String::new(),
    ]
}

/// What is drawn so far.
struct Paper {
    body: String,
    /// The top of what comes next.
    y: usize,
    /// As wide as the widest so far.
    width: usize,
}

impl Paper {
    fn title(&mut self, drawing: &Drawing) {
        let below = drawing.ports.iter().map(|port| port.below.len()).sum::<usize>();
        let text =
            format!("{} PCI functions, {below} VFs and scalable functions on them", drawing.ports.len());
        self.line(MARGIN, "b", &text);
        self.y += LINE + 4;
    }

    /// Which colour stands for what.
    fn legend(&mut self, colours: &Colours) {
        if colours.names.is_empty() {
            return;
        }
        let what = if colours.by_pool { "pools:" } else { "drivers:" };
        self.line(MARGIN, "m", what);
        let mut x = MARGIN + 9 * CHAR;
        for (name, count) in &colours.names {
            let text = format!("{name} {count}");
            self.square(x, self.y + 4, &colours.class(Some(name)), &text);
            self.line(x + SQUARE_STEP + 2, "", &text);
            x += SQUARE_STEP + (text.chars().count() + 3) * CHAR;
        }
        let what = if colours.by_pool { "in no pool" } else { "no driver" };
        self.square(x, self.y + 4, "none", what);
        self.line(x + SQUARE_STEP + 2, "m", what);
        self.y += LINE + 10;
    }

    fn port(&mut self, port: &Port, rows: &[Row<'_>], columns: &Columns, colours: &Colours) {
        let top = self.y;
        // The frame is put behind what is in it, when its size is known.
        let behind = self.body.len();
        self.y += PAD / 2;
        let head = Row::single(&port.head);
        self.row(&head, columns, colours, true);
        let remarks = about(&head);
        if !remarks.is_empty() {
            self.line(columns.at[0], "m", &remarks);
            self.y += LINE;
        }
        self.squares(&port.below, colours);
        for (place, row) in rows.iter().enumerate() {
            let (x, y) = (MARGIN + PAD, self.y);
            let bottom = if place + 1 == rows.len() { y + LINE / 2 } else { y + LINE };
            let _ = writeln!(
                self.body,
                r#"<path class="tree" d="M{x} {y}V{bottom}M{x} {middle}h10"/>"#,
                middle = y + LINE / 2
            );
            self.row(row, columns, colours, false);
        }
        self.y += PAD / 2;
        let height = self.y - top;
        // Cards are as wide as the picture, which `finish` knows.
        let card = format!(
            "<rect class=\"card\" x=\"{MARGIN}\" y=\"{top}\" width=\"@W\" height=\"{height}\" rx=\"6\"/>\n"
        );
        self.body.insert_str(behind, &card);
        self.y += 10;
    }

    /// A square for each device below a port.
    fn squares(&mut self, below: &[Item], colours: &Colours) {
        // A few are seen at a glance in their lines.
        if below.len() < 8 {
            return;
        }
        for line in below.chunks(SQUARES_IN_A_LINE) {
            for (place, item) in line.iter().enumerate() {
                let x = MARGIN + PAD + 2 * CHAR + place * SQUARE_STEP;
                let name = colours.name(item);
                let row = Row::single(item);
                let driver = item.driver.as_deref().unwrap_or("no driver");
                let pool = item.pool.as_ref().map(|pool| format!(", {pool}")).unwrap_or_default();
                let text = format!("{} {}: {driver}{pool}", row.label(), item.device);
                self.square(x, self.y + 4, &colours.class(name), &text);
            }
            self.y += SQUARE_STEP;
        }
        self.y += 8;
    }

    fn row(&mut self, row: &Row<'_>, columns: &Columns, colours: &Colours, is_head: bool) {
        let Some(item) = row.any() else { return };
        let [label, device, _, netdev, link, group, numa, _] = cells(row);
        let at = columns.at;
        self.line(at[0], "m", &label);
        self.line(if is_head { at[0] } else { at[1] }, if is_head { "b" } else { "" }, &device);
        self.driver(at[2], item, colours);
        self.line(at[3], if is_head { "b" } else { "" }, &netdev);
        if !link.is_empty() {
            let class =
                if item.link.as_deref().is_some_and(|link| link.starts_with("up")) { "up" } else { "down" };
            let (x, y) = (at[4] + 5, self.y + LINE / 2);
            let _ = writeln!(self.body, r#"<circle class="{class}" cx="{x}" cy="{y}" r="4"/>"#);
            self.line(at[4] + 2 * CHAR, "", link.trim_start());
        }
        let group_class = if item.sharing == Sharing::NotViable { "w b" } else { "m" };
        self.line(at[5], group_class, &group);
        self.line(at[6], "m", &numa);
        if !is_head {
            let class = if item.sharing == Sharing::NotViable { "w" } else { "m" };
            self.line(at[7], class, &about(row));
        }
        self.y += LINE;
    }

    /// The driver, and the pool on its colour; without pools, the driver on its colour.
    fn driver(&mut self, x: usize, item: &Item, colours: &Colours) {
        let driver = item.driver.as_deref().unwrap_or("no driver");
        match (&item.pool, colours.by_pool) {
            (Some(pool), _) => {
                self.line(x, "", driver);
                self.chip(x + (driver.chars().count() + 2) * CHAR, pool, &colours.class(Some(pool)));
            }
            (None, true) => self.line(x, "", driver),
            (None, false) if item.driver.is_some() => {
                self.chip(x, driver, &colours.class(item.driver.as_ref()));
            }
            (None, false) => self.line(x, "m", driver),
        }
    }

    fn chip(&mut self, x: usize, text: &str, class: &str) {
        let width = (text.chars().count() + 1) * CHAR;
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{left}" y="{top}" width="{width}" height="18" rx="4"/>"#,
            left = x.saturating_sub(CHAR / 2),
            top = self.y + 2,
        );
        self.line(x, "chip", text);
    }

    fn square(&mut self, x: usize, y: usize, class: &str, title: &str) {
        let title = escaped(title);
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{x}" y="{y}" width="{SQUARE}" height="{SQUARE}" rx="2"><title>{title}</title></rect>"#
        );
        self.width = self.width.max(x + SQUARE);
    }

    /// Text on the line that is being drawn.
    fn line(&mut self, x: usize, class: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let y = self.y + 15;
        let class = if class.is_empty() { String::new() } else { format!(r#" class="{class}""#) };
        let _ = writeln!(self.body, r#"<text x="{x}" y="{y}"{class}>{}</text>"#, escaped(text));
        self.width = self.width.max(x + text.chars().count() * CHAR);
    }

    fn finish(self) -> String {
        let width = self.width + PAD + MARGIN;
        let height = self.y + MARGIN;
        let body = self.body.replace("width=\"@W\"", &format!("width=\"{}\"", width - 2 * MARGIN));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\">\n<title>The network devices of a node</title>\n<style>{STYLE}</style>\n\
             <rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n"
        )
    }
}

/// Text as XML wants it. Control characters, which XML cannot hold, are replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}
