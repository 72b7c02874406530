//! A port under control, wherever it is: [`Order`]s go to it, [`Answer`]s come back. One in this container is a testpmd
//! ([`crate::testpmd`]), one in another pod is a testpmd behind a connection ([`remote`], [`serve`]); whoever measures sees
//! no difference.

pub mod remote;
pub mod serve;

use fairlead_kernel::Mac;
use serde::{Deserialize, Serialize};

use crate::interrupt::{Interrupt, Stopped};
use crate::testpmd::TestpmdError;
use crate::testpmd::child::Ending;
use crate::testpmd::telemetry::{LinkStatus, PortStats};

/// What a port is told. Also what goes over the connection to a peer, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Get ready, and say who you are.
    Ready,
    /// Say how the link is.
    Link,
    /// Say what was counted.
    Counters,
    /// From now on send frames of this length, with the checksum.
    FrameSize(u16),
    /// From now on handle as many frames at a time.
    Burst(u16),
    /// From now on send at most as many Mbit/s; 0 is as fast as possible.
    Pace(u32),
    /// Begin.
    Start(Role),
    /// End what was begun.
    Halt,
    /// Say what the output so far hints at.
    Hint,
    /// There will be no more orders.
    Bye,
}

/// What a port does between [`Order::Start`] and [`Order::Halt`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Receives and drops.
    Receive,
    /// Sends, as fast as it may, and receives nothing.
    Send {
        /// Destination address.
        to: Mac,
    },
    /// Sends what it receives.
    Forward {
        /// What is done to the addresses.
        engine: Engine,
        /// Destination address, for the engine that sets one.
        to: Mac,
    },
    /// As `Forward`, after sending some frames of its own.
    Inject {
        /// What is done to the addresses.
        engine: Engine,
        /// Destination address.
        to: Mac,
        /// How many bursts of its own.
        bursts: u16,
    },
}

/// What forwarding does to a frame's addresses: testpmd's forwarding modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Nothing.
    Io,
    /// Its own as the source, the peer's as the destination.
    Mac,
    /// Swaps both.
    Macswap,
}

impl Engine {
    /// As testpmd's `set fwd` wants it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Mac => "mac",
            Self::Macswap => "macswap",
        }
    }
}

/// What a port says of itself once it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Its PCI address or interface.
    pub device: String,
    /// Its address, as DPDK sees it.
    pub mac: Mac,
    /// `DPDK 24.11.8`.
    pub dpdk_version: String,
    /// In Mbit/s, for an interface of the kernel, whose speed DPDK makes up.
    #[serde(default)]
    pub speed: Option<u64>,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// It was done.
    Done,
    /// To [`Order::Ready`].
    About(About),
    /// To [`Order::Link`].
    Link(LinkStatus),
    /// To [`Order::Counters`].
    Counters(PortStats),
    /// To [`Order::Hint`].
    Hint(Option<String>),
    /// The device cannot send at a given rate.
    NotPaced(String),
    /// It was not done.
    Failed(String),
}

/// Why a port did not obey.
#[derive(Debug, thiserror::Error)]
pub enum StationError {
    /// Its testpmd did not do its part.
    #[error(transparent)]
    Testpmd(#[from] TestpmdError),
    /// The connection to the peer.
    #[error(transparent)]
    Peer(#[from] remote::PeerError),
    /// It answered something else.
    #[error("{device} answered {order:?} with {answer:?}")]
    Answer {
        /// The port.
        device: String,
        /// What was asked.
        order: Box<Order>,
        /// What came.
        answer: Box<Answer>,
    },
    /// The check ends.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl StationError {
    /// Whether nothing is wrong but that the check ends.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        match self {
            Self::Stopped(stopped) | Self::Testpmd(TestpmdError::Stopped(stopped)) => Some(*stopped),
            Self::Peer(remote::PeerError::Stopped(stopped)) => Some(*stopped),
            _ => None,
        }
    }
}

/// A port under control.
pub trait Station: Send {
    /// Its PCI address or interface, or what is known of a peer.
    fn device(&self) -> String;
    /// Carries an order out.
    fn obey(&mut self, order: &Order, interrupt: &Interrupt) -> Result<Answer, StationError>;
    /// Ends it, whatever it does.
    fn stop(&mut self) -> Ending;
}

impl dyn Station + '_ {
    /// Waits until it is ready.
    pub fn ready(&mut self, interrupt: &Interrupt) -> Result<About, StationError> {
        match self.obey(&Order::Ready, interrupt)? {
            Answer::About(about) => Ok(about),
            answer => Err(self.unexpected(&Order::Ready, answer)),
        }
    }

    /// Its link.
    pub fn link(&mut self, interrupt: &Interrupt) -> Result<LinkStatus, StationError> {
        match self.obey(&Order::Link, interrupt)? {
            Answer::Link(link) => Ok(link),
            answer => Err(self.unexpected(&Order::Link, answer)),
        }
    }

    /// Its counters.
    pub fn counters(&mut self, interrupt: &Interrupt) -> Result<PortStats, StationError> {
        match self.obey(&Order::Counters, interrupt)? {
            Answer::Counters(counters) => Ok(counters),
            answer => Err(self.unexpected(&Order::Counters, answer)),
        }
    }

    /// What its output hints at; nothing when it cannot be asked.
    pub fn hint(&mut self, interrupt: &Interrupt) -> Option<String> {
        match self.obey(&Order::Hint, interrupt) {
            Ok(Answer::Hint(hint)) => hint,
            _ => None,
        }
    }

    /// Lets it send at most so many Mbit/s (0: as fast as it can). `Err` inside: why it cannot.
    pub fn pace(&mut self, mbps: u32, interrupt: &Interrupt) -> Result<Result<(), String>, StationError> {
        match self.obey(&Order::Pace(mbps), interrupt)? {
            Answer::Done => Ok(Ok(())),
            Answer::NotPaced(why) => Ok(Err(why)),
            answer => Err(self.unexpected(&Order::Pace(mbps), answer)),
        }
    }

    /// Something that has no other answer than that it was done.
    pub fn command(&mut self, order: &Order, interrupt: &Interrupt) -> Result<(), StationError> {
        match self.obey(order, interrupt)? {
            Answer::Done => Ok(()),
            answer => Err(self.unexpected(order, answer)),
        }
    }

    fn unexpected(&self, order: &Order, answer: Answer) -> StationError {
        StationError::Answer {
            device: self.device(),
            order: Box::new(order.clone()),
            answer: Box::new(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_are_json_that_a_peer_of_another_version_can_read() {
        let to: Mac = "02:00:00:00:00:0b".parse().unwrap();
        for (order, text) in [
            (Order::Ready, r#""ready""#),
            (Order::FrameSize(64), r#"{"frameSize":64}"#),
            (Order::Start(Role::Receive), r#"{"start":"receive"}"#),
            (
                Order::Start(Role::Inject { engine: Engine::Mac, to, bursts: 8 }),
                r#"{"start":{"inject":{"engine":"mac","to":"02:00:00:00:00:0b","bursts":8}}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&order).unwrap(), text);
            assert_eq!(serde_json::from_str::<Order>(text).unwrap(), order);
        }
        let about =
            r#"{"about":{"device":"x","mac":"02:00:00:00:00:0b","dpdkVersion":"DPDK 1","later":true}}"#;
        assert!(matches!(serde_json::from_str(about).unwrap(), Answer::About(about) if about.mac == to));
    }
}
