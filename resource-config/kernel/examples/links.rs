//! Prints the links, addresses and routes of this network namespace, or of the one whose path is given.

use std::path::PathBuf;

use fairlead_kernel::{Netns, Route};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let netns = match std::env::args_os().nth(1) {
        Some(path) => Netns::open(&PathBuf::from(path))?,
        None => Netns::current()?,
    };
    println!("{:?}", netns.id()?);
    let mut route = Route::open_in(&netns)?;
    for link in route.links()? {
        println!("{link:?}");
        for address in route.addresses(&link)? {
            println!("    {address:?}");
        }
        for entry in route.routes(&link)? {
            println!("    {entry:?}");
        }
    }
    Ok(())
}
