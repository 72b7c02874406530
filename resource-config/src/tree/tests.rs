use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// Reads everything that the recorded tree below is about.
fn read_all(root: &Folder) -> Vec<String> {
    let mut found = vec![format!("{:?}", root.names(|name| name != "ignored").ok())];
    let folder = root.open("dir one").unwrap();
    found.push(format!("{:?}", folder.names(|_| true).ok()));
    for name in ["plain", "odd", "missing", "large", "empty", "sub"] {
        let text = folder.text(name);
        found.push(format!("{:?}", text.map_err(|error| error.raw_os_error())));
    }
    for name in ["link", "plain"] {
        let target = folder.link(name);
        found.push(format!("{:?}", target.map_err(|error| error.raw_os_error())));
    }
    found.push(format!("{:?}", root.open("plainfile").map_err(|error| error.raw_os_error()).err()));
    found.push(format!("{:?}", root.text("dir one/sub/deep")));
    found
}

fn made_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("dir one");
    fs::create_dir_all(folder.join("sub")).unwrap();
    fs::write(dir.path().join("plainfile"), "x").unwrap();
    fs::write(dir.path().join("ignored"), "x").unwrap();
    fs::write(folder.join("plain"), " 0x8086 \n").unwrap();
    fs::write(folder.join("odd"), b"a\\b\nc\td\xff\x00e").unwrap();
    fs::write(folder.join("large"), "x".repeat(LARGEST_ATTRIBUTE + 5000)).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    fs::write(folder.join("sub/deep"), "y".repeat(10_000)).unwrap();
    symlink("../up there", folder.join("link")).unwrap();
    dir
}

#[test]
fn what_was_recorded_reads_like_the_directory() {
    let dir = made_tree();
    let expected = read_all(&Folder::directory(dir.path()).unwrap());
    assert_eq!(expected[0], r#"Some(["dir one", "plainfile"])"#);
    assert!(expected.iter().any(|line| line == r#"Ok("0x8086")"#), "{expected:?}");
    assert!(expected.iter().any(|line| line == "Err(Some(27))"), "too large: {expected:?}");

    let recorder = Arc::new(Recorder::default());
    assert_eq!(read_all(&Folder::recorded(dir.path(), &recorder).unwrap()), expected);
    let mut tree = recorder.tree();
    tree.netlink = Some("{\n \"links\": []}\n".to_owned());
    let text = tree.text();
    let read = Tree::parse(&text, Path::new("x.tree")).unwrap();
    assert_eq!(read, tree, "{text}");
    assert_eq!(read_all(&Folder::memory(&Arc::new(read))), expected, "{text}");
    assert!(!text.contains("ignored"), "{text}");
}

#[test]
fn a_file_of_windows_and_with_remarks_is_read() {
    let text = "fairlead-tree 1\r\n# remark\r\n\r\n[a]\r\n: b\r\nb = 1 2\r\nc = \r\n";
    let tree = Tree::parse(text, Path::new("x")).unwrap();
    assert_eq!(tree.file("a/b").unwrap(), "1 2");
    assert_eq!(tree.file("a/c").unwrap(), "");
    assert_eq!(tree.folder("a").unwrap(), ["b"]);
}

#[test]
fn what_is_no_tree_says_where_and_why() {
    for (text, expected) in [
        ("", "x.tree: line 1: found \"\", wanted \"fairlead-tree 1\""),
        ("fairlead-tree 2\n", "x.tree: line 1: found \"fairlead-tree 2\""),
        ("fairlead-tree 1\nclass = 1\n", "x.tree: line 2: there is no folder"),
        ("fairlead-tree 1\n[a\n", "x.tree: line 2: a folder's line ends with ]"),
        ("fairlead-tree 1\n[a]\nclass\n", "x.tree: line 3: wanted NAME = VALUE"),
        ("fairlead-tree 1\n[a]\nclass == 1\n", "x.tree: line 3: wanted NAME = VALUE"),
        ("fairlead-tree 1\n[a]\nb ! EIO\n", "x.tree: line 3: \"EIO\" is not the number of an error"),
        ("fairlead-tree 1\n[a]\nb = \\q\n", "x.tree: line 3: after a backslash"),
        ("fairlead-tree 1\n[a]\nb = \\x4\n", "x.tree: line 3: after \\x there are two"),
        ("fairlead-tree 1\nnetlink.json\n{}\n", "x.tree: line 3: a line of netlink.json begins with |"),
    ] {
        let error = Tree::parse(text, Path::new("x.tree")).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let error = Tree::load(Path::new("/nonexistent/x.tree")).unwrap_err();
    assert!(crate::error_text(&error).starts_with("cannot read the tree file /nonexistent/x.tree: "));
}
