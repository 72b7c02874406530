//! Prints the status of the VFIO groups whose numbers are given. Not for a node with pods: it opens them.

use std::path::Path;

use fairlead_kernel::vfio::{check_interface, group_status};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    check_interface(Path::new("/dev/vfio/vfio"))?;
    for group in std::env::args().skip(1) {
        match group_status(&Path::new("/dev/vfio").join(&group)) {
            Ok(status) => println!("group {group}: {status:?}"),
            Err(error) => println!("group {group}: {error}"),
        }
    }
    Ok(())
}
