//! How an interface of a pod does IPv6: keys `dad` and `accept_ra` of every plugin that makes one, ours and not upstream's.

use fairlead_kernel::sysctl;

use super::{Pod, kernel};
use crate::{
    config::Fields,
    protocol::error::{CniError, code},
};

/// What is done about duplicates of the addresses that an interface gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dad {
    /// They are looked for while the addresses are in use already (RFC 4429). A duplicate is given up by the kernel later.
    #[default]
    Optimistic,
    /// ADD ends when there is none, after a second or two, and fails when there is one.
    Wait,
    /// They are not looked for: for addresses that an IPAM plugin warrants.
    Off,
}

/// What a network says about IPv6.
///
/// Keys:
/// - `dad`: Duplicate address detection of the addresses that IPAM gives: `optimistic` (the default, in use while the kernel
///   looks), `wait` (ADD ends when there is no duplicate and fails when there is one), `off`.
/// - `accept_ra`: Whether routers' advertisements are followed: 0 no, 1 unless the pod forwards, 2 always. Absent: as the pod's
///   namespace has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv6 {
    /// Key `dad`: `optimistic` (the default), `wait`, `off`.
    pub dad: Dad,
    /// Key `accept_ra`: whether routers' advertisements are followed: 0 no, 1 unless the pod forwards, 2 always. Absent: as
    /// the pod's namespace has it (`net.ipv6.conf.default.accept_ra`).
    pub accept_ra: Option<AcceptRa>,
}

/// Values of the kernel's setting of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptRa {
    /// Advertisements are ignored.
    No,
    /// They are followed unless the pod forwards packets.
    UnlessForwarding,
    /// They are followed.
    Always,
}

impl Ipv6 {
    /// # Errors
    /// Code 7, naming the key and what is allowed.
    pub fn parse(fields: &Fields) -> Result<Self, CniError> {
        let dad = match fields.text("dad")?.map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "optimistic") => Dad::Optimistic,
            Some("wait") => Dad::Wait,
            Some("off") => Dad::Off,
            Some(other) => return Err(invalid(format!("dad \"{other}\" is none of optimistic, wait, off"))),
        };
        let accept_ra = match fields.number("accept_ra")? {
            None => None,
            Some(0) => Some(AcceptRa::No),
            Some(1) => Some(AcceptRa::UnlessForwarding),
            Some(2) => Some(AcceptRa::Always),
            Some(other) => return Err(invalid(format!("accept_ra {other} is none of 0, 1, 2"))),
        };
        Ok(Self { dad, accept_ra })
    }
}

fn invalid(text: String) -> CniError {
    CniError::new(code::INVALID_CONFIG, text)
}

/// Sets what must be set before an interface of the pod comes up for the first time: how it does IPv6, and that the kernel
/// tells the neighbours of every address that it gets later on.
pub(super) fn before_up(pod: &Pod, interface: &str) -> Result<(), CniError> {
    let v6 = |key: &str| format!("net/ipv6/conf/{interface}/{key}");
    let arp = format!("net/ipv4/conf/{interface}/arp_notify");
    let (nd, optimistic, accept_dad) = (v6("ndisc_notify"), v6("optimistic_dad"), v6("accept_dad"));
    let mut settings = vec![(arp.as_str(), "1"), (nd.as_str(), "1")];
    match pod.ipv6.dad {
        Dad::Optimistic => settings.push((&optimistic, "1")),
        Dad::Off => settings.push((&accept_dad, "0")),
        Dad::Wait => {}
    }
    // Without IPv6 there are none of its settings, and kernels may be built without optimism; neighbours that miss the news
    // learn from the first packet.
    let _ = sysctl::set_new(Some(&pod.netns), &settings);
    let Some(accept) = pod.ipv6.accept_ra else { return Ok(()) };
    let value = match accept {
        AcceptRa::No => "0",
        AcceptRa::UnlessForwarding => "1",
        AcceptRa::Always => "2",
    };
    match sysctl::set(Some(&pod.netns), &v6("accept_ra"), value) {
        Err(error) if !error.is_missing() => Err(kernel(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<Ipv6, CniError> {
        Ipv6::parse(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn keys_are_read_and_absent_ones_leave_the_pods_settings() {
        assert_eq!(parse(json!({})).unwrap(), Ipv6 { dad: Dad::Optimistic, accept_ra: None });
        let set = parse(json!({"DAD": "Wait", "accept_ra": 2})).unwrap();
        assert_eq!(set, Ipv6 { dad: Dad::Wait, accept_ra: Some(AcceptRa::Always) });
        assert_eq!(parse(json!({"dad": "off"})).unwrap().dad, Dad::Off);
    }

    #[test]
    fn other_values_are_refused_with_what_is_allowed() {
        for (value, word) in [(json!({"dad": "later"}), "optimistic"), (json!({"accept_ra": 3}), "0, 1, 2")] {
            let error = parse(value).unwrap_err();
            assert!(error.code == code::INVALID_CONFIG && error.msg.contains(word), "{error}");
        }
    }
}
