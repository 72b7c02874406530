//! Why an exchange with the kernel failed.

use std::fmt;
use std::io;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED};
use nix::errno::Errno;

use super::attributes::{attributes, text, u32_of};
use super::frame::{self, Frame};

/// Attributes of an extended acknowledgement (kernel `include/uapi/linux/netlink.h`, `enum nlmsgerr_attrs`).
const ATTRIBUTE_TEXT: u16 = 1;
const ATTRIBUTE_OFFSET: u16 = 2;

/// An operation that failed, and why. Its text is complete; it has no source.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {failure}")]
pub struct NetlinkError {
    operation: String,
    failure: Failure,
}

/// Why an operation failed.
#[derive(Debug)]
pub enum Failure {
    /// The kernel refused.
    Refused {
        /// Its error number.
        errno: Errno,
        /// Its reason in words, where it gives one (never with the words that containerd takes for success).
        text: Option<String>,
        /// Which attribute it minds: the distance in bytes from the start of the request.
        attribute_offset: Option<u32>,
    },
    /// The request could not be sent.
    Send(io::Error),
    /// The answer could not be received.
    Receive(io::Error),
    /// No answer came within the time limit.
    Unanswered,
    /// What was listed kept changing while it was read.
    Interrupted,
    /// The PF reports no VF of this number.
    NoSuchVf,
    /// The answer made no sense.
    Malformed(String),
}

impl NetlinkError {
    pub(crate) fn new(operation: impl Into<String>, failure: Failure) -> Self {
        Self { operation: operation.into(), failure }
    }

    /// What was tried, like `move link ens1f0v0 to /run/netns/x`.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// Why it failed.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.failure
    }

    /// The kernel's error number, where the failure has one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match &self.failure {
            Failure::Refused { errno, .. } => Some(*errno),
            Failure::Send(error) | Failure::Receive(error) => error.raw_os_error().map(Errno::from_raw),
            Failure::Unanswered | Failure::Interrupted | Failure::NoSuchVf | Failure::Malformed(_) => None,
        }
    }

    /// The kernel's own reason in words, where it gave one.
    #[must_use]
    pub fn kernel_text(&self) -> Option<&str> {
        match &self.failure {
            Failure::Refused { text, .. } => text.as_deref(),
            _ => None,
        }
    }

    /// The link or route that was to be changed or read is not there. Not for addresses: what the kernel says of a missing
    /// one (`EADDRNOTAVAIL`) some drivers say of a MAC that they do not allow.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENODEV | Errno::ESRCH | Errno::ENOENT | Errno::ENXIO))
    }

    /// What was to be made is there already.
    #[must_use]
    pub fn already_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { errno, text, .. } => {
                f.write_str(&words(*errno))?;
                if let Some(text) = text {
                    write!(f, " (kernel: {text})")?;
                }
                if *errno == Errno::EPERM {
                    f.write_str("; this takes CAP_NET_ADMIN")?;
                }
                Ok(())
            }
            Self::Send(error) => write!(f, "cannot send the request: {error}"),
            Self::Receive(error) => write!(f, "cannot receive the answer: {error}"),
            Self::Unanswered => f.write_str("the kernel did not answer"),
            Self::Interrupted => f.write_str("the list kept changing while it was read; try again"),
            Self::NoSuchVf => f.write_str("the PF reports no VF of this number; is its sriov_numvfs set?"),
            Self::Malformed(what) => write!(f, "the kernel's answer could not be read: {what}"),
        }
    }
}

/// The error number in the words that people know from `ip` and `errno`.
fn words(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The verdict in an `NLMSG_ERROR` message: nothing when it is an acknowledgement.
pub(super) fn verdict(frame: &Frame<'_>) -> Result<(), Failure> {
    let code = error_code(frame)?;
    if code == 0 {
        return Ok(());
    }
    // After the code comes the request's header, and, unless capped, the rest of the request.
    let echoed = match frame.payload.get(4..).and_then(u32_of) {
        Some(length) if frame.flags & NLM_F_CAPPED == 0 => {
            frame::align(usize::try_from(length).unwrap_or(usize::MAX))
        }
        _ => frame::HEADER,
    };
    Err(refusal(code, frame, echoed.saturating_add(4)))
}

/// The verdict in an `NLMSG_DONE` message: a dump can fail after it has begun.
pub(super) fn dump_verdict(frame: &Frame<'_>) -> Result<(), Failure> {
    match frame.payload {
        [] => Ok(()),
        _ => match error_code(frame)? {
            code if code < 0 => Err(refusal(code, frame, 4)),
            _ => Ok(()),
        },
    }
}

fn error_code(frame: &Frame<'_>) -> Result<i32, Failure> {
    let code = frame.payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    code.ok_or_else(|| Failure::Malformed("an acknowledgement without error code".to_owned()))
}

fn refusal(code: i32, frame: &Frame<'_>, reasons_at: usize) -> Failure {
    let (mut text_given, mut attribute_offset) = (None, None);
    if frame.flags & NLM_F_ACK_TLVS != 0 {
        for (kind, value) in attributes(frame.payload.get(reasons_at..).unwrap_or_default()) {
            match kind {
                ATTRIBUTE_TEXT => text_given = Some(without_containerds_words(&text(value))),
                ATTRIBUTE_OFFSET => attribute_offset = u32_of(value),
                _ => {}
            }
        }
    }
    Failure::Refused { errno: Errno::from_raw(code.saturating_neg()), text: text_given, attribute_offset }
}

/// containerd takes any CNI error with "not found" in it for a successful removal, so the kernel's texts must not
/// carry these words into ours.
fn without_containerds_words(text: &str) -> String {
    text.replace("not found", "missing").replace("Not found", "Missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(frame::align(bytes.len()), 0);
        bytes
    }

    fn refused(flags: u16, echoed_request: &[u8]) -> Failure {
        let mut payload = (-libc_ebusy()).to_ne_bytes().to_vec();
        payload.extend(u32::try_from(echoed_request.len()).unwrap().to_ne_bytes());
        payload.extend([0; 12]);
        if flags & NLM_F_CAPPED == 0 {
            payload.extend(&echoed_request[frame::HEADER..]);
        }
        payload.extend(attribute(ATTRIBUTE_TEXT, b"Device not found in here\0"));
        payload.extend(attribute(ATTRIBUTE_OFFSET, &36_u32.to_ne_bytes()));
        verdict(&Frame { kind: 2, flags, sequence: 1, payload: &payload }).unwrap_err()
    }

    fn libc_ebusy() -> i32 {
        nix::libc::EBUSY
    }

    #[test]
    fn the_kernels_reason_is_read_with_and_without_the_echoed_request() {
        for flags in [NLM_F_ACK_TLVS, NLM_F_ACK_TLVS | NLM_F_CAPPED] {
            let failure = refused(flags, &[0; 40]);
            let Failure::Refused { errno, text, attribute_offset } = &failure else {
                unreachable!("{failure}")
            };
            assert_eq!((*errno, *attribute_offset), (Errno::EBUSY, Some(36)));
            assert_eq!(text.as_deref(), Some("Device missing in here"));
            let error = NetlinkError::new("move link ens1f0v0 to /run/netns/x", failure);
            assert_eq!(
                error.to_string(),
                "move link ens1f0v0 to /run/netns/x: Device or resource busy (kernel: Device missing in here)"
            );
        }
    }

    #[test]
    fn without_reasons_the_errno_stands_alone() {
        let failure = refused(0, &[0; 40]);
        assert_eq!(failure.to_string(), "Device or resource busy");
    }

    #[test]
    fn acknowledgements_and_empty_dump_ends_are_no_failures() {
        let frame = |payload| Frame { kind: 2, flags: 0, sequence: 1, payload };
        assert!(verdict(&frame(&[0; 20])).is_ok());
        assert!(dump_verdict(&frame(&[])).is_ok());
        assert!(dump_verdict(&frame(&[0; 4])).is_ok());
        assert!(matches!(verdict(&frame(&[0, 0])), Err(Failure::Malformed(_))));
    }

    #[test]
    fn no_error_number_brings_containerds_words_along() {
        for number in 1..=133 {
            assert!(!words(Errno::from_raw(number)).to_lowercase().contains("not found"), "{number}");
        }
    }
}
