use std::path::Path;

use fairlead_kernel::{Netns, Route, sysctl};

use crate::support::sandboxes;

#[test]
fn work_is_done_in_the_namespace_and_the_caller_stays() {
    let Some([sandbox]) = sandboxes("entering a namespace") else { return };
    let before = Netns::current().unwrap().id().unwrap();
    let inside = sandbox.netns.run(|| Netns::current().unwrap().id().unwrap()).unwrap();
    assert_eq!(inside, sandbox.netns.id().unwrap());
    assert_ne!(inside, before);
    assert!(inside.cookie.is_some() && inside.cookie != before.cookie);
    assert_eq!(Netns::current().unwrap().id().unwrap(), before);
}

#[test]
fn a_panic_inside_goes_on_outside_and_leaves_the_caller_where_it_was() {
    let Some([sandbox]) = sandboxes("a panic in a namespace") else { return };
    let before = Netns::current().unwrap().id().unwrap();
    let caught = std::panic::catch_unwind(|| sandbox.netns.run(|| panic!("inside")));
    assert!(caught.is_err());
    assert_eq!(Netns::current().unwrap().id().unwrap(), before);
}

#[test]
fn a_bind_mounted_namespace_is_the_same_one() {
    let Some([sandbox]) = sandboxes("a bind-mounted namespace") else { return };
    let id = sandbox.netns.id().unwrap();
    // In a mount namespace of its own thread, so that nothing is left on the machine.
    let through_mount = std::thread::spawn(move || {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let nothing = None::<&str>;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = {
            use std::os::fd::{AsFd, AsRawFd};
            format!("/proc/thread-self/fd/{}", sandbox.netns.as_fd().as_raw_fd())
        };
        mount(Some(Path::new(&own)), file.path(), nothing, MsFlags::MS_BIND, nothing).unwrap();
        let id = Netns::open(file.path()).unwrap().id().unwrap();
        nix::mount::umount(file.path()).unwrap();
        let after = Netns::open(file.path()).unwrap_err();
        assert!(after.is_gone(), "{after}");
        id
    });
    assert_eq!(through_mount.join().unwrap(), id);
}

#[test]
fn a_socket_stays_in_its_namespace() {
    let Some([mut sandbox]) = sandboxes("a socket in a namespace") else { return };
    sandbox.add_veth("only-here", "peer");
    assert!(sandbox.has("only-here"));
    assert!(Route::open().unwrap().link_by_name("only-here").unwrap().is_none());
}

#[test]
fn settings_are_those_of_the_namespace() {
    let Some([mut sandbox]) = sandboxes("settings of a namespace") else { return };
    sandbox.add_veth("pf0.100", "peer");
    let key = "net/ipv4/conf/pf0.100/arp_notify";
    assert!(sysctl::set(Some(&sandbox.netns), key, "1").unwrap());
    assert!(!sysctl::set(Some(&sandbox.netns), key, "1").unwrap());
    assert_eq!(sysctl::get(Some(&sandbox.netns), key).unwrap(), "1");
    assert!(sysctl::set_new(Some(&sandbox.netns), &[(key, "0")]).unwrap()[0].is_ok());
    assert_eq!(sysctl::get(Some(&sandbox.netns), key).unwrap(), "0");
    assert!(sysctl::set_new(Some(&sandbox.netns), &[(key, "what")]).unwrap()[0].is_err());
    assert!(sysctl::set(Some(&sandbox.netns), key, "1").unwrap());
    assert!(sysctl::get(None, key).unwrap_err().is_missing());
    let both = [(key, "0"), ("net/ipv4/conf/pf0.101/arp_notify", "1")];
    let results = sysctl::set_all(Some(&sandbox.netns), &both).unwrap();
    assert!(*results[0].as_ref().unwrap());
    assert!(results[1].as_ref().unwrap_err().is_missing());
}
