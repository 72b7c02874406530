//! Who has which reservation, without reading every reservation: an index beside the store.
//!
//! In `<dataDir>/.fairlead/<network>/` (no network can have that name): `base`, with a line for each owner, and for each owner
//! that got or gave back an address since, one small file that counts instead of its line. The reservations themselves are
//! what counts: the index only says where to look, and it is used only while nobody else has changed the store. That is told by the modification time of the store's folder: we set it to a time to the nanosecond that
//! we remember, and any other program that makes or removes a file there changes it. It is never compared with a clock. What a
//! killed call, a crash of the node, or another program did is seen so, and the index made anew from the reservations.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::Owner;

/// Folder of all indexes, inside `dataDir`.
const FOLDER: &str = ".fairlead";
/// File that tells which state of the store the index belongs to. No owner's file can have this name.
const STAMP: &str = "stamp";
/// File with all owners as they were when the index was made.
const BASE: &str = "base";

/// The index of one network's store.
#[derive(Debug)]
pub(super) struct Owners {
    dir: PathBuf,
    store: PathBuf,
    boot_id: String,
}

impl Owners {
    pub(super) fn new(data_dir: &Path, network: &str, boot_id: &str) -> Self {
        Self {
            dir: data_dir.join(FOLDER).join(network),
            store: data_dir.join(network),
            boot_id: boot_id.to_owned(),
        }
    }

    /// Whether the index is of the store as it is now. After a boot it never is: files may be torn.
    pub(super) fn is_current(&self) -> bool {
        let stamp = fs::read_to_string(self.dir.join(STAMP)).ok();
        stamp.is_some() && stamp == self.stamp().ok()
    }

    /// Declares the index to be of the store as it is now.
    pub(super) fn set_current(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let folder = File::open(&self.store)?;
        folder.set_modified(now)?;
        // Where the file system keeps coarser times another program's change could go unnoticed: then there is no stamp, and
        // every call looks for itself.
        if folder.metadata()?.modified()? == now {
            rewrite(&self.dir.join(STAMP), self.stamp()?.as_bytes())
        } else {
            Ok(())
        }
    }

    fn stamp(&self) -> io::Result<String> {
        let folder = fs::metadata(&self.store)?;
        Ok(format!("{} {} {}.{:09}\n", self.boot_id, folder.ino(), folder.mtime(), folder.mtime_nsec()))
    }

    /// Makes the index anew.
    pub(super) fn rebuild(&self, found: &BTreeMap<Owner, Vec<IpAddr>>) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // Every line has an end before it, too, so that it can be looked for whole.
        let lines = found.iter().map(|(owner, addresses)| line(owner, addresses));
        let text = format!("\n{}", lines.collect::<String>());
        write(&self.dir.join(BASE), text.as_bytes())?;
        for name in self.changed()? {
            fs::remove_file(self.dir.join(name))?;
        }
        Ok(())
    }

    /// Where an owner's addresses may be.
    pub(super) fn get(&self, owner: &Owner) -> io::Result<Vec<IpAddr>> {
        match fs::read_to_string(self.dir.join(file_name(owner))) {
            Err(error) if is_missing(&error) => self.in_base(owner),
            text => Ok(addresses(text?.split_whitespace())),
        }
    }

    fn in_base(&self, owner: &Owner) -> io::Result<Vec<IpAddr>> {
        let (base, start) = (self.base()?, format!("\n{} ", file_name(owner)));
        let line = base.find(&start).and_then(|at| base[at + start.len()..].lines().next());
        Ok(addresses(line.unwrap_or_default().split_whitespace()))
    }

    /// Notes an owner's addresses.
    pub(super) fn set(&self, owner: &Owner, addresses: &[IpAddr]) -> io::Result<()> {
        let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let path = self.dir.join(file_name(owner));
        if !text.is_empty() || !self.in_base(owner)?.is_empty() {
            return write(&path, text.join("\n").as_bytes());
        }
        match fs::remove_file(path) {
            Err(error) if !is_missing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Every owner that is noted.
    pub(super) fn all(&self) -> io::Result<BTreeSet<Owner>> {
        let base = self.base()?;
        let mut owners: BTreeSet<Owner> =
            base.lines().filter_map(|line| parse_owner(line.split(' ').next()?)).collect();
        for name in self.changed()? {
            let Some(owner) = parse_owner(&name) else { continue };
            if self.get(&owner)?.is_empty() {
                owners.remove(&owner);
            } else {
                owners.insert(owner);
            }
        }
        Ok(owners)
    }

    fn base(&self) -> io::Result<String> {
        fs::read_to_string(self.dir.join(BASE))
    }

    /// Names of the files of single owners.
    fn changed(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // The other files' names hold no colon.
            if name.contains(':') {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// Neither container IDs nor interface names hold a colon or a blank.
fn line(owner: &Owner, addresses: &[IpAddr]) -> String {
    let mut line = format!("{}:{}", owner.container_id, owner.interface);
    for address in addresses {
        line.push(' ');
        line.push_str(&address.to_string());
    }
    line.push('\n');
    line
}

/// A file of a name that is too long for one cannot be there.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename)
}

fn parse_owner(text: &str) -> Option<Owner> {
    let (container, interface) = text.split_once(':')?;
    Some(Owner { container_id: container.to_owned(), interface: interface.to_owned() })
}

fn addresses<'a>(words: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    words.filter_map(|word| word.parse().ok()).collect()
}

fn file_name(owner: &Owner) -> String {
    format!("{}:{}", owner.container_id, owner.interface)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Replaces the text of a file of some bytes. One of the same length is overwritten where it is: file systems put one on disk at
/// once that was emptied first, and that takes longer than all the rest.
pub(super) fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    if length != 0 && usize::try_from(length) != Ok(bytes.len()) {
        file.set_len(0)?;
    }
    file.write_all(bytes)
}
