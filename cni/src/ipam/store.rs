//! host-local's store, as upstream's plugin keeps it, so that either can go on where the other was.
//!
//! `<dataDir>/<network>/` holds for each reserved address a file of that name, with the container ID, CR LF, and the interface
//! as text; `last_reserved_ip.<set>` with the address that was given last from a set; and `lock`. Oldest versions wrote the
//! container ID alone.
//!
//! Nothing here is synced to disk: a reservation that a crash of the node undoes was of a pod that is gone with it.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    IpamError, Owner,
    owners::{self, Owners},
    store_lock,
};
use crate::{
    boot,
    protocol::env::{check_identifier, check_interface},
};

const LAST: &str = "last_reserved_ip.";

/// Where a network's store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Folder of all stores.
    pub data_dir: PathBuf,
    /// Name of the network.
    pub network: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data_dir.join(&self.network).display().fmt(f)
    }
}

/// A store, locked for as long as this value lives.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
    owners: Owners,
    changed: bool,
    /// Whether the index may lack something by now: then it must not pass for current.
    index_failed: Cell<bool>,
    _lock: File,
}

impl Store {
    /// Locks a network's store, which is made if it does not exist. What killed calls and crashes left in it is removed.
    ///
    /// # Errors
    /// When it is locked for longer than `limit`, or cannot be read or written.
    pub(super) fn open(place: &Place, limit: Duration) -> Result<Self, IpamError> {
        let dir = place.data_dir.join(&place.network);
        DirBuilder::new().recursive(true).mode(0o755).create(&dir).map_err(|source| IpamError::Store {
            what: "make",
            path: dir.clone(),
            source,
        })?;
        let lock = store_lock::take(&dir, limit)?;
        let boot_id = boot::id().map_err(failed("read", Path::new(boot::ID)))?;
        let owners = Owners::new(&place.data_dir, &place.network, boot_id);
        let mut store = Self { dir, owners, changed: false, index_failed: Cell::new(false), _lock: lock };
        if !store.owners.is_current() {
            let found = store.scan()?;
            store.indexed(|owners| owners.rebuild(&found))?;
            store.changed = true;
        }
        Ok(store)
    }

    /// Locks a network's store; nothing when there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(super) fn open_existing(place: &Place, limit: Duration) -> Result<Option<Self>, IpamError> {
        match fs::symlink_metadata(place.data_dir.join(&place.network)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Self::open(place, limit).map(Some),
        }
    }

    /// The addresses that an owner has.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn of(&self, owner: &Owner) -> Result<Vec<IpAddr>, IpamError> {
        self.owned(owner, self.indexed(|owners| owners.get(owner))?)
    }

    /// Which of these addresses have an owner's reservation.
    fn owned(&self, owner: &Owner, noted: Vec<IpAddr>) -> Result<Vec<IpAddr>, IpamError> {
        let mut addresses = Vec::new();
        for address in noted {
            if matches!(self.read(address)?, Content::Owned(there) if there == *owner) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// Every owner that has an address here.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn owners(&self) -> Result<BTreeSet<Owner>, IpamError> {
        self.indexed(Owners::all)
    }

    /// Every address that is taken.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn taken(&self) -> Result<BTreeSet<IpAddr>, IpamError> {
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let name = entry.map_err(failed("read", &self.dir))?.file_name();
            taken.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
        }
        Ok(taken)
    }

    /// Takes an address for an owner, from the set of that number; `false` when somebody has it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn reserve(&mut self, owner: &Owner, address: IpAddr, set: usize) -> Result<bool, IpamError> {
        let path = self.file(address);
        let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match made {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(failed("write", &path)(error)),
        };
        self.changed = true;
        if let Err(error) = file.write_all(content(owner).as_bytes()) {
            let _ = fs::remove_file(&path);
            return Err(failed("write", &path)(error));
        }
        let mut addresses = self.indexed(|owners| owners.get(owner))?;
        addresses.push(address);
        self.indexed(|owners| owners.set(owner, &addresses))?;
        self.set_last(set, address)?;
        Ok(true)
    }

    /// Frees all that an owner has. An owner that has nothing under its own name has what an oldest version wrote down under
    /// the container ID alone.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(super) fn release(&mut self, owner: &Owner) -> Result<(), IpamError> {
        let own = self.of(owner)?;
        if !own.is_empty() {
            return self.give_back(owner, &own);
        }
        let old = Owner { interface: String::new(), ..owner.clone() };
        // What is noted as the owner's may have been written anew since.
        let mut noted = self.indexed(|owners| owners.get(&old))?;
        noted.extend(self.indexed(|owners| owners.get(owner))?);
        let addresses = self.owned(&old, noted)?;
        self.give_back(&old, &addresses)?;
        self.give_back(owner, &addresses)
    }

    /// Frees some of the addresses that an owner has.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(super) fn give_back(&mut self, owner: &Owner, addresses: &[IpAddr]) -> Result<(), IpamError> {
        for address in addresses {
            self.changed = true;
            remove(&self.file(*address))?;
        }
        let mut noted = self.indexed(|owners| owners.get(owner))?;
        noted.retain(|address| !addresses.contains(address));
        self.indexed(|owners| owners.set(owner, &noted))
    }

    /// Whether an owner has an address, be it under the container ID alone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn has_any(&self, owner: &Owner) -> Result<bool, IpamError> {
        let old = Owner { interface: String::new(), ..owner.clone() };
        Ok(!self.of(owner)?.is_empty() || !self.of(&old)?.is_empty())
    }

    /// The address that was given last from a set. A torn note is none.
    pub(super) fn last(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.dir.join(format!("{LAST}{set}"))).ok()?.trim().parse().ok()
    }

    fn set_last(&self, set: usize, address: IpAddr) -> Result<(), IpamError> {
        let path = self.dir.join(format!("{LAST}{set}"));
        owners::rewrite(&path, address.to_string().as_bytes()).map_err(failed("write", &path))
    }

    /// Reads every reservation. Empty and torn ones are removed: the lock is held, so nobody is writing them.
    fn scan(&self) -> Result<BTreeMap<Owner, Vec<IpAddr>>, IpamError> {
        let mut found: BTreeMap<Owner, Vec<IpAddr>> = BTreeMap::new();
        for address in self.taken()? {
            match self.read(address)? {
                Content::Owned(owner) => found.entry(owner).or_default().push(address),
                Content::Torn => remove(&self.file(address))?,
                Content::Foreign => {}
            }
        }
        Ok(found)
    }

    fn read(&self, address: IpAddr) -> Result<Content, IpamError> {
        let path = self.file(address);
        match fs::read(&path) {
            Ok(bytes) => Ok(understand(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Content::Foreign),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(Content::Foreign),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    fn file(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    fn indexed<T>(&self, work: impl FnOnce(&Owners) -> io::Result<T>) -> Result<T, IpamError> {
        work(&self.owners).map_err(|source| {
            self.index_failed.set(true);
            IpamError::Index { path: self.dir.clone(), source }
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.changed && !self.index_failed.get() {
            // Without it the next call makes the index anew.
            let _ = self.owners.set_current();
        }
    }
}

/// What a reservation's file says.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// Whose it is; the interface is empty in what oldest versions wrote.
    Owned(Owner),
    /// Nothing, or not all: a write was cut off.
    Torn,
    /// Something that we do not write: the address is taken, by whomever.
    Foreign,
}

fn content(owner: &Owner) -> String {
    format!("{}\r\n{}", owner.container_id, owner.interface)
}

/// Takes a reservation's text apart. After a crash a file may be empty or, on some file systems, full of zeros.
fn understand(bytes: &[u8]) -> Content {
    if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        return Content::Torn;
    }
    let text = String::from_utf8_lossy(bytes);
    let (container, interface) = text.trim().split_once("\r\n").unwrap_or((text.trim(), ""));
    let good = check_identifier("container", container).is_ok()
        && (interface.is_empty() || check_interface(interface).is_ok());
    if good {
        Content::Owned(Owner { container_id: container.to_owned(), interface: interface.to_owned() })
    } else {
        Content::Foreign
    }
}

fn remove(path: &Path) -> Result<(), IpamError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IpamError {
    let path = path.to_owned();
    move |source| IpamError::Store { what, path, source }
}

#[cfg(test)]
mod tests;
