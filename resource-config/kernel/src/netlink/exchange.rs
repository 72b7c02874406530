//! Requests and their answers.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};

use super::error::{self, Failure, NetlinkError};
use super::frame::frames;
use super::transport::Transport;
use crate::route::Request;

/// How often a list that changed under the reader is read again (containernetworking/plugins tries five times too).
const DUMP_ATTEMPTS: usize = 5;

/// Bounds of what is sent before answers are read: the answers wait in the socket's receive buffer, and one that
/// does not fit there is lost.
const PIPELINED_MESSAGES: usize = 32;
const PIPELINED_BYTES: usize = 16 * 1024;

/// The two sides of one socket's conversation.
pub(crate) struct Exchange {
    transport: Box<dyn Transport>,
    sequence: u32,
}

impl Exchange {
    pub(crate) fn over(transport: Box<dyn Transport>) -> Self {
        Self { transport, sequence: 0 }
    }

    /// Sends all requests and collects every verdict, in order. The kernel goes on after a refused one.
    pub(crate) fn acknowledge(&mut self, requests: &[Request<'_>]) -> Vec<Result<(), NetlinkError>> {
        let mut verdicts = Vec::with_capacity(requests.len());
        let mut rest = requests;
        while !rest.is_empty() {
            let (datagram, taken) = self.pipeline(rest);
            let (now, later) = rest.split_at(taken);
            verdicts.extend(self.acknowledge_datagram(now, &datagram));
            rest = later;
        }
        verdicts
    }

    /// As many requests as may be sent at once, and how many these are: at least one.
    fn pipeline(&mut self, requests: &[Request<'_>]) -> (Vec<u8>, usize) {
        let mut datagram = Vec::new();
        let mut taken = 0;
        for request in requests.iter().take(PIPELINED_MESSAGES) {
            let message = encode(
                &request.message,
                NLM_F_REQUEST | NLM_F_ACK | request.flags,
                self.sequence.wrapping_add(1),
            );
            if taken > 0 && datagram.len() + message.len() > PIPELINED_BYTES {
                break;
            }
            self.sequence = self.sequence.wrapping_add(1);
            taken += 1;
            datagram.extend(message);
        }
        (datagram, taken)
    }

    /// `requests` are those in the datagram; the last sequence number given out is the last one's.
    fn acknowledge_datagram(
        &mut self,
        requests: &[Request<'_>],
        datagram: &[u8],
    ) -> Vec<Result<(), NetlinkError>> {
        let first = self.sequence.wrapping_sub(u32::try_from(requests.len()).unwrap_or(0)).wrapping_add(1);
        let mut verdicts: Vec<Option<Result<(), Failure>>> = requests.iter().map(|_| None).collect();
        if let Err(error) = self.transport.send(datagram) {
            verdicts.fill_with(|| Some(Err(Failure::Send(again(&error)))));
        }
        while verdicts.iter().any(Option::is_none) {
            if let Err(failure) = self.collect_verdicts(first, &mut verdicts) {
                let lost = verdicts.iter_mut().filter(|verdict| verdict.is_none());
                lost.for_each(|verdict| *verdict = Some(Err(again_failure(&failure))));
            }
        }
        let named = |(request, verdict): (&Request<'_>, Option<Result<(), Failure>>)| {
            verdict
                .unwrap_or(Err(Failure::Unanswered))
                .map_err(|failure| NetlinkError::new(request.operation.clone(), failure))
        };
        requests.iter().zip(verdicts).map(named).collect()
    }

    /// Reads one datagram; answers to earlier requests (their numbers do not fit) are passed over.
    fn collect_verdicts(
        &mut self,
        first: u32,
        verdicts: &mut [Option<Result<(), Failure>>],
    ) -> Result<(), Failure> {
        let datagram = self.receive()?;
        for frame in frames(&datagram).map_err(Failure::Malformed)? {
            let place = usize::try_from(frame.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
            if let (NLMSG_ERROR, Some(verdict)) = (frame.kind, verdicts.get_mut(place)) {
                *verdict = Some(error::verdict(&frame));
            }
        }
        Ok(())
    }

    /// Asks for one thing; gives the payload of the message that answers.
    pub(crate) fn get(
        &mut self,
        operation: &str,
        request: &(impl NetlinkSerializable + Clone),
    ) -> Result<Vec<u8>, NetlinkError> {
        self.get_once(request).map_err(|failure| NetlinkError::new(operation, failure))
    }

    fn get_once(&mut self, request: &(impl NetlinkSerializable + Clone)) -> Result<Vec<u8>, Failure> {
        self.ask(request, NLM_F_REQUEST)?;
        loop {
            let datagram = self.receive()?;
            for frame in frames(&datagram).map_err(Failure::Malformed)? {
                if frame.sequence != self.sequence {
                    continue;
                }
                if frame.kind != NLMSG_ERROR {
                    return Ok(frame.payload.to_vec());
                }
                error::verdict(&frame)?;
                return Err(Failure::Malformed("an acknowledgement instead of an answer".to_owned()));
            }
        }
    }

    /// Asks for a list; gives the payload of each of its messages. A list that changed while the kernel wrote it may
    /// miss entries or have them twice, and is asked for again.
    pub(crate) fn dump(
        &mut self,
        operation: &str,
        request: &(impl NetlinkSerializable + Clone),
    ) -> Result<Vec<Vec<u8>>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let listed = self.dump_once(request).map_err(|failure| NetlinkError::new(operation, failure))?;
            if let Some(payloads) = listed {
                return Ok(payloads);
            }
        }
        Err(NetlinkError::new(operation, Failure::Interrupted))
    }

    /// `None` when the list was interrupted.
    fn dump_once(
        &mut self,
        request: &(impl NetlinkSerializable + Clone),
    ) -> Result<Option<Vec<Vec<u8>>>, Failure> {
        self.ask(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let (mut payloads, mut interrupted) = (Vec::new(), false);
        loop {
            let datagram = self.receive()?;
            for frame in frames(&datagram).map_err(Failure::Malformed)? {
                if frame.sequence != self.sequence {
                    continue;
                }
                interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
                match frame.kind {
                    NLMSG_DONE => {
                        error::dump_verdict(&frame)?;
                        return Ok((!interrupted).then_some(payloads));
                    }
                    NLMSG_ERROR => {
                        error::verdict(&frame)?;
                        return Err(Failure::Malformed("an acknowledgement instead of a list".to_owned()));
                    }
                    _ => payloads.push(frame.payload.to_vec()),
                }
            }
        }
    }

    fn ask(&mut self, request: &(impl NetlinkSerializable + Clone), flags: u16) -> Result<(), Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        self.transport.send(&encode(request, flags, self.sequence)).map_err(Failure::Send)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        self.transport.receive().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Failure::Unanswered,
            _ => Failure::Receive(error),
        })
    }
}

/// The message as it is sent, padded to where the next one may start.
pub(crate) fn encode(message: &(impl NetlinkSerializable + Clone), flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut whole = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message.clone()));
    whole.finalize();
    // Zeroed: the encoder leaves the padding as it is, and the kernel refuses some of what is not zero.
    let mut bytes = vec![0; super::frame::align(whole.buffer_len())];
    let length = whole.buffer_len();
    if let Some(place) = bytes.get_mut(..length) {
        whole.serialize(place);
    }
    bytes
}

/// An I/O error for each of several requests: the type cannot be cloned.
fn again(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}

fn again_failure(failure: &Failure) -> Failure {
    match failure {
        Failure::Receive(error) => Failure::Receive(again(error)),
        Failure::Malformed(what) => Failure::Malformed(what.clone()),
        _ => Failure::Unanswered,
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::netlink::recording::{Answer, Recording};
    use crate::route::{Link, Route};

    /// `RTM_NEWLINK`.
    const NEW_LINK: u16 = 16;

    fn recorded() -> (Recording, Route) {
        let recording = Recording::default();
        let route = Route::over(Box::new(recording.clone()));
        (recording, route)
    }

    fn link(index: u8) -> (u16, Vec<u8>) {
        let mut payload = vec![0; 16];
        payload[4] = index;
        (NEW_LINK, payload)
    }

    fn indexes(links: &[Link]) -> Vec<u32> {
        links.iter().map(|link| link.index).collect()
    }

    fn deletions(count: u32) -> Vec<Request<'static>> {
        (1..=count).map(Request::delete_link).collect()
    }

    #[test]
    fn every_verdict_of_a_batch_reaches_its_request() {
        let (recording, mut route) = recorded();
        recording.answer(Answer::Acknowledged);
        recording.answer(Answer::Refused(Errno::EBUSY, Some("not now".to_owned())));
        let verdicts = route.batch(&deletions(3));
        assert!(verdicts[0].is_ok());
        let error = verdicts[1].as_ref().unwrap_err();
        assert_eq!(error.to_string(), "delete link number 2: Device or resource busy (kernel: not now)");
        assert_eq!((error.errno(), error.kernel_text()), (Some(Errno::EBUSY), Some("not now")));
        assert!(verdicts[2].is_ok());
        assert_eq!(recording.datagrams(), [3]);
    }

    #[test]
    fn large_batches_go_in_bounded_pieces() {
        let (recording, mut route) = recorded();
        let verdicts = route.batch(&deletions(70));
        assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 70);
        assert_eq!(recording.datagrams(), [32, 32, 6]);
        let (recording, mut route) = recorded();
        let long = "x".repeat(10_000);
        let aliased = crate::LinkChange { alias: Some(long), ..Default::default() };
        let requests: Vec<_> = (1..4).map(|index| Request::set_link(index, &aliased)).collect();
        assert!(route.batch(&requests).iter().all(Result::is_ok));
        assert_eq!(recording.datagrams(), [1, 1, 1]);
    }

    #[test]
    fn an_answer_to_something_earlier_is_passed_over() {
        let (recording, mut route) = recorded();
        let mut stale = vec![0; 36];
        stale[..4].copy_from_slice(&36_u32.to_ne_bytes());
        stale[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        stale[8..12].copy_from_slice(&77_u32.to_ne_bytes());
        stale[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        recording.interject(stale.clone());
        assert!(route.delete_link(1).is_ok());
        recording.interject(stale);
        recording.answer(Answer::Messages(vec![link(4)]));
        assert_eq!(route.link_by_index(4).unwrap().unwrap().index, 4);
    }

    #[test]
    fn s32_a_list_that_changed_is_read_again_but_not_for_ever() {
        let (recording, mut route) = recorded();
        recording.answer(Answer::Interrupted(vec![link(1), link(1)]));
        recording.answer(Answer::Messages(vec![link(2), link(1)]));
        assert_eq!(indexes(&route.links().unwrap()), [1, 2]);
        (0..DUMP_ATTEMPTS).for_each(|_| recording.answer(Answer::Interrupted(vec![link(1)])));
        let error = route.links().unwrap_err();
        assert!(matches!(error.failure(), Failure::Interrupted), "{error}");
        assert_eq!(recording.datagrams().len(), 2 + DUMP_ATTEMPTS);
    }

    #[test]
    fn a_refused_list_and_a_missing_link_are_told_apart() {
        let (recording, mut route) = recorded();
        recording.answer(Answer::Refused(Errno::EPERM, None));
        assert_eq!(route.links().unwrap_err().errno(), Some(Errno::EPERM));
        recording.answer(Answer::Refused(Errno::ENODEV, None));
        assert_eq!(route.link_by_name("eth9").unwrap(), None);
    }

    #[test]
    fn no_answer_and_a_torn_answer_are_errors() {
        let (recording, mut route) = recorded();
        recording.interject(vec![1, 2, 3]);
        let error = route.delete_link(1).unwrap_err();
        assert!(matches!(error.failure(), Failure::Malformed(_)), "{error}");
        // An empty list of messages for a single thing: nothing comes.
        let (recording, mut route) = recorded();
        recording.answer(Answer::Messages(Vec::new()));
        let error = route.link_by_index(1).unwrap_err();
        assert!(matches!(error.failure(), Failure::Unanswered), "{error}");
    }
}
