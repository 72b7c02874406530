use super::{
    keys::{Section, compare, table},
    options::{Program, tables, usages},
    source::{File, Sources},
};

const SECTION: Section = Section { title: "x", about: "", files: &["a/x.rs"], shared: &["a/all.rs"] };

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources(files.iter().map(|(path, text)| File::parse((*path).into(), text).unwrap()).collect())
}

const SHARED: (&str, &str) = ("a/all.rs", r#"fn mac(f: &Fields) { f.text("mac") }"#);

#[test]
fn keys_have_the_type_of_the_call_that_reads_them() {
    let x = r#"
        /// Something.
        ///
        /// Keys:
        /// - `mode`: A text
        ///   of two | lines.
        /// - `mtu`, `mac`: Others.
        ///
        /// No key any more.
        fn read(f: &Fields) { f.text("mode"); let n = |key| 0; number("mtu"); f.object("args"); }
        #[cfg(test)]
        mod tests { fn not(f: &Fields) { f.text("untold"); } }
    "#;
    let text = table(&SECTION, &sources(&[("a/x.rs", x), SHARED])).unwrap();
    assert!(text.ends_with(
        "| `mode` | text | A text of two \\| lines. |\n| `mtu`, `mac` | number; text | Others. |\n"
    ));
}

#[test]
fn a_key_that_is_only_read_or_only_documented_is_told() {
    let only_read = r#"fn read(f: &Fields) { f.flag("up"); }"#;
    let error = table(&SECTION, &sources(&[("a/x.rs", only_read), SHARED])).unwrap_err();
    assert!(error.to_string().contains("\"up\""), "{error}");
    let only_documented = "/// Keys:\n/// - `up`: It is.\nfn read() {}";
    let error = table(&SECTION, &sources(&[("a/x.rs", only_documented), SHARED])).unwrap_err();
    assert!(error.to_string().contains("up is documented and nobody reads it"), "{error}");
    let listed = "/// Keys:\n/// - `up`: It is.\nconst KEYS: &[&str] = &[\"up\", \"down\"];";
    let error = compare(&SECTION, &sources(&[("a/x.rs", listed), SHARED]), &["KEYS"]).unwrap_err();
    assert!(error.to_string().contains("\"down\""), "{error}");
}

#[test]
fn options_are_as_clap_makes_them() {
    let main = r#"
        use other::place::{FOLDER, Nothing};
        /// A program.
        #[derive(Parser)]
        #[command(name = "p")]
        struct Args {
            #[command(subcommand)]
            command: Option<Command>,
            #[command(flatten)]
            more: Box<More>,
        }
        enum Command {
            Look(look::Options),
            /// Goes.
            GoOn {
                /// How far
                #[arg(short, long, value_name = "N", default_value_t = 3)]
                far: u8,
                what: String,
            },
        }
        struct More {
            /// Where.
            #[arg(long, default_value = FOLDER, alias = "dir")]
            some_dir: PathBuf,
            /// How
            #[arg(long, value_enum, default_value_t)]
            way: Way,
            #[arg(long, default_value = other::place::FOLDER)]
            there: String,
            #[arg(long = "yes")]
            is_it: bool,
        }
        enum Way { #[default] ByFoot, /** On wheels. */ Car }
    "#;
    let sources = sources(&[
        ("p/main.rs", main),
        ("p/decoy.rs", "const FOLDER: &str = \"/wrong\";"),
        ("p/look/mod.rs", "/** Looks. */ struct Options { #[arg(long)] up: bool }"),
        ("p/other.rs", "struct Options {}"),
        ("o/place.rs", "pub const FOLDER: &str = \"/right\";"),
    ]);
    let text = tables(&Program { name: "p", folder: "p", root: "Args" }, &sources).unwrap();
    for line in [
        "| `--some-dir SOME_DIR` | `/right` | Where. Also `--dir`. |",
        "| `--way WAY` | `by-foot` | How. `by-foot`; `car`: On wheels. |",
        "| `--there THERE` | `/right` |  |",
        "| `--yes` |  |  |",
        "`p look`: Looks.",
        "| `--up` |  |  |",
        "`p go-on`: Goes.",
        "| `-f, --far N` | `3` | How far. |",
        "| `WHAT` |  |  |",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn usage_texts_are_taken_as_they_are() {
    let sources = sources(&[("a/cli.rs", "const USAGE: &str = \"usage: a\\n  --b\";")]);
    assert_eq!(usages("a", &sources).unwrap(), "\n```text\nusage: a\n  --b\n```\n");
}
