use std::{collections::HashSet, thread};

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

struct Bed {
    dir: tempfile::TempDir,
    place: Place,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { data_dir: dir.path().to_owned(), network: "net".into() };
        Self { dir, place }
    }

    fn open(&self) -> Store {
        Store::open(&self.place, LIMIT).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("net").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.dir.path().join("net")).unwrap();
        fs::write(self.path(name), text).unwrap();
    }
}

fn owner(container: &str, interface: &str) -> Owner {
    Owner { container_id: container.into(), interface: interface.into() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn h12_files_are_named_and_filled_as_upstreams() {
    let bed = Bed::new();
    let mut store = bed.open();
    assert!(store.reserve(&owner("c1", "net1"), ip("10.0.0.2"), 0).unwrap());
    assert!(store.reserve(&owner("c1", "net1"), ip("fd00:0::2"), 1).unwrap());
    drop(store);
    let mut names: Vec<_> = fs::read_dir(bed.dir.path().join("net"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["10.0.0.2", "fd00::2", "last_reserved_ip.0", "last_reserved_ip.1", "lock"]);
    assert_eq!(fs::read_to_string(bed.path("10.0.0.2")).unwrap(), "c1\r\nnet1");
    assert_eq!(fs::read_to_string(bed.path("last_reserved_ip.1")).unwrap(), "fd00::2");
    assert_eq!(bed.open().last(1), Some(ip("fd00::2")));
}

#[test]
fn h11_only_the_owners_own_addresses_are_freed() {
    let bed = Bed::new();
    let mut store = bed.open();
    for (place, interface) in ["net1", "net2"].into_iter().enumerate() {
        store.reserve(&owner("c1", interface), ip(&format!("10.0.0.{}", place + 2)), 0).unwrap();
    }
    store.reserve(&owner("c10", "net1"), ip("10.0.0.9"), 0).unwrap();
    store.release(&owner("c1", "net1")).unwrap();
    store.release(&owner("c1", "net1")).unwrap();
    assert_eq!(store.taken().unwrap(), [ip("10.0.0.3"), ip("10.0.0.9")].into());
    assert_eq!(store.owners().unwrap(), [owner("c1", "net2"), owner("c10", "net1")].into());
}

#[test]
fn h11_what_the_oldest_versions_wrote_is_freed_by_container_alone() {
    let bed = Bed::new();
    bed.write("10.0.0.2", "c1\n");
    bed.write("10.0.0.3", "c1\r\nnet2");
    let mut store = bed.open();
    store.release(&owner("c1", "net2")).unwrap();
    assert_eq!(store.taken().unwrap(), [ip("10.0.0.2")].into(), "it had one under its own name");
    store.release(&owner("c1", "net1")).unwrap();
    assert_eq!(store.taken().unwrap(), [].into());
}

#[test]
fn h11_a_reservation_that_an_oldest_version_wrote_anew_is_freed_too() {
    let bed = Bed::new();
    let mut store = bed.open();
    store.reserve(&owner("c1", "net1"), ip("10.0.0.2"), 0).unwrap();
    bed.write("10.0.0.2", "c1");
    store.release(&owner("c1", "net1")).unwrap();
    assert_eq!(store.taken().unwrap(), [].into());
}

#[test]
fn h12_what_another_program_reserved_or_freed_is_seen() {
    let bed = Bed::new();
    let mut store = bed.open();
    store.reserve(&owner("c1", "net1"), ip("10.0.0.2"), 0).unwrap();
    store.reserve(&owner("c2", "net1"), ip("10.0.0.3"), 0).unwrap();
    drop(store);
    fs::remove_file(bed.path("10.0.0.2")).unwrap();
    bed.write("10.0.0.4", "c3\r\nnet1");
    let store = bed.open();
    assert_eq!(store.of(&owner("c1", "net1")).unwrap(), Vec::<IpAddr>::new());
    assert_eq!(store.of(&owner("c3", "net1")).unwrap(), [ip("10.0.0.4")]);
    assert_eq!(store.owners().unwrap(), [owner("c2", "net1"), owner("c3", "net1")].into());
}

#[test]
fn h15_empty_and_torn_reservations_are_removed_and_foreign_ones_stay() {
    let bed = Bed::new();
    bed.write("10.0.0.2", "");
    bed.write("10.0.0.3", "\0\0\0\0");
    bed.write("10.0.0.4", " \r\n");
    bed.write("10.0.0.5", "somebody: else");
    bed.write("10.0.0.6", "c1\r\nnet1");
    bed.write("notes", "");
    fs::create_dir(bed.path("10.0.0.7")).unwrap();
    let mut store = bed.open();
    assert_eq!(store.taken().unwrap(), [ip("10.0.0.5"), ip("10.0.0.6"), ip("10.0.0.7")].into());
    assert!(bed.path("notes").exists());
    assert!(!store.reserve(&owner("c2", "net1"), ip("10.0.0.5"), 0).unwrap());
}

#[test]
fn h15_what_a_killed_call_left_is_healed_by_the_next_one() {
    let bed = Bed::new();
    let mut store = bed.open();
    store.reserve(&owner("c1", "net1"), ip("10.0.0.2"), 0).unwrap();
    drop(store);
    // Killed between making the file and filling it.
    bed.write("10.0.0.3", "");
    // Killed between reserving and noting the owner.
    bed.write("10.0.0.4", "c2\r\nnet1");
    let mut store = bed.open();
    assert!(store.reserve(&owner("c3", "net1"), ip("10.0.0.3"), 0).unwrap());
    store.release(&owner("c2", "net1")).unwrap();
    assert_eq!(store.taken().unwrap(), [ip("10.0.0.2"), ip("10.0.0.3")].into());
}

#[test]
fn a_torn_note_of_the_last_address_is_none() {
    let bed = Bed::new();
    bed.write("last_reserved_ip.0", "10.0.");
    assert_eq!(bed.open().last(0), None);
}

#[test]
fn an_index_of_before_the_boot_is_not_trusted() {
    let bed = Bed::new();
    let owners = |boot: &str| Owners::new(bed.dir.path(), "net", boot);
    drop(bed.open());
    owners("one").set_current().unwrap();
    assert!(owners("one").is_current() && !owners("two").is_current());
}

#[test]
fn what_changed_since_the_index_was_made_counts_instead_of_it() {
    let bed = Bed::new();
    bed.write("10.0.0.2", "c1\r\nnet1");
    bed.write("10.0.0.3", "c12\r\nnet1");
    bed.write("10.0.0.4", "c12\r\nnet10");
    let mut store = bed.open();
    store.reserve(&owner("c1", "net1"), ip("fd00::2"), 1).unwrap();
    assert_eq!(store.of(&owner("c1", "net1")).unwrap(), [ip("10.0.0.2"), ip("fd00::2")]);
    assert_eq!(store.of(&owner("c12", "net1")).unwrap(), [ip("10.0.0.3")]);
    store.release(&owner("c12", "net1")).unwrap();
    drop(store);
    let mut store = bed.open();
    assert_eq!(store.owners().unwrap(), [owner("c1", "net1"), owner("c12", "net10")].into());
    assert!(store.of(&owner("c12", "net1")).unwrap().is_empty());
    store.reserve(&owner("c12", "net1"), ip("10.0.0.9"), 0).unwrap();
    store.release(&owner("c1", "net1")).unwrap();
    assert_eq!(store.owners().unwrap(), [owner("c12", "net1"), owner("c12", "net10")].into());
}

#[test]
fn deleting_where_there_is_no_store_makes_none() {
    let bed = Bed::new();
    assert!(Store::open_existing(&bed.place, LIMIT).unwrap().is_none());
    assert_eq!(fs::read_dir(bed.dir.path()).unwrap().count(), 0);
}

#[test]
fn h14_many_calls_at_once_never_share_an_address() {
    let bed = Bed::new();
    let reserve = |number: u32| {
        let mut store = bed.open();
        (2..200)
            .map(|last| ip(&format!("10.0.0.{last}")))
            .find(|address| store.reserve(&owner(&format!("c{number}"), "net1"), *address, 0).unwrap())
            .unwrap()
    };
    let addresses: HashSet<IpAddr> = thread::scope(|scope| {
        let reserve = &reserve;
        let threads: Vec<_> = (0..100).map(|number| scope.spawn(move || reserve(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(addresses.len(), 100);
}
