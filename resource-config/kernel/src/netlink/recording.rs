//! A transport for tests: it records what is sent and plays back answers.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR,
};
use nix::errno::Errno;

use super::frame::{self, Frame, align, frames};
use super::transport::Transport;

/// What a recording transport says to one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Done.
    Acknowledged,
    /// Refused, with or without a reason in words.
    Refused(Errno, Option<String>),
    /// Messages, as (type, payload); for a list, or the first of them for a single thing.
    Messages(Vec<(u16, Vec<u8>)>),
    /// The same, of a list that changed while it was read.
    Interrupted(Vec<(u16, Vec<u8>)>),
}

/// Records requests and plays back answers. Clones share what they record, so keep one and give another to
/// [`crate::Route::over`]. Without an answer waiting, changes are acknowledged and questions refused with `ENODEV`.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    state: Arc<Mutex<State>>,
}

/// What answers requests, given type and payload; nothing for the usual answer.
type Rule = Box<dyn FnMut(u16, &[u8]) -> Option<Answer> + Send>;

#[derive(Default)]
struct State {
    sent: Vec<Vec<Vec<u8>>>,
    answers: VecDeque<Answer>,
    rule: Option<Rule>,
    incoming: VecDeque<Vec<u8>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("sent", &self.sent)
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}

impl Recording {
    /// The answer to the next request that has none yet.
    pub fn answer(&self, answer: Answer) {
        self.state().answers.push_back(answer);
    }

    /// Answers every request that no answer waits for, from its type and payload; `None` for the usual answer.
    pub fn rule(&self, rule: impl FnMut(u16, &[u8]) -> Option<Answer> + Send + 'static) {
        self.state().rule = Some(Box::new(rule));
    }

    /// A datagram that comes from the kernel unasked, before any answer to what is sent from now on.
    pub fn interject(&self, datagram: Vec<u8>) {
        self.state().incoming.push_back(datagram);
    }

    /// Every message sent so far, header included.
    #[must_use]
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.state().sent.concat()
    }

    /// How many messages each datagram held.
    #[must_use]
    pub fn datagrams(&self) -> Vec<usize> {
        self.state().sent.iter().map(Vec::len).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for Recording {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let requests = frames(datagram).map_err(io::Error::other)?;
        let mut state = self.state();
        for request in &requests {
            let usual = if request.flags & NLM_F_ACK != 0 {
                Answer::Acknowledged
            } else {
                Answer::Refused(Errno::ENODEV, None)
            };
            let mut waiting = state.answers.pop_front();
            if let (None, Some(rule)) = (&waiting, &mut state.rule) {
                waiting = rule(request.kind, request.payload);
            }
            let answer = waiting.unwrap_or(usual);
            state.incoming.extend(datagrams(request, &answer));
        }
        state.sent.push(requests.iter().map(whole).collect());
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        self.state().incoming.pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

fn datagrams(request: &Frame<'_>, answer: &Answer) -> Vec<Vec<u8>> {
    match answer {
        Answer::Acknowledged => vec![verdict(request, 0, None)],
        Answer::Refused(errno, text) => vec![verdict(request, -(*errno as i32), text.as_deref())],
        Answer::Messages(messages) => listed(request, messages, 0),
        Answer::Interrupted(messages) => listed(request, messages, netlink_packet_core::NLM_F_DUMP_INTR),
    }
}

fn listed(request: &Frame<'_>, messages: &[(u16, Vec<u8>)], flags: u16) -> Vec<Vec<u8>> {
    let is_list = request.flags & NLM_F_DUMP == NLM_F_DUMP;
    let flags = if is_list { flags | NLM_F_MULTIPART } else { flags };
    let answer = |kind, payload: &[u8]| whole(&Frame { kind, flags, sequence: request.sequence, payload });
    let mut datagrams: Vec<Vec<u8>> = messages.iter().map(|(kind, payload)| answer(*kind, payload)).collect();
    if is_list {
        datagrams.push(answer(NLMSG_DONE, &[0; 4]));
    }
    datagrams
}

fn verdict(request: &Frame<'_>, code: i32, text: Option<&str>) -> Vec<u8> {
    let mut payload = code.to_ne_bytes().to_vec();
    payload.extend(whole(request).iter().take(frame::HEADER));
    let mut flags = NLM_F_CAPPED;
    if let Some(text) = text {
        flags |= NLM_F_ACK_TLVS;
        let length = u16::try_from(text.len() + 5).unwrap_or(u16::MAX);
        payload.extend(length.to_ne_bytes());
        payload.extend([1, 0]);
        payload.extend(text.bytes());
        payload.push(0);
        payload.resize(align(payload.len()), 0);
    }
    whole(&Frame { kind: NLMSG_ERROR, flags, sequence: request.sequence, payload: &payload })
}

/// The message with its header, padded.
fn whole(frame: &Frame<'_>) -> Vec<u8> {
    let length = u32::try_from(frame::HEADER + frame.payload.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(frame.kind.to_ne_bytes());
    bytes.extend(frame.flags.to_ne_bytes());
    bytes.extend(frame.sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(frame.payload);
    bytes.resize(align(bytes.len()), 0);
    bytes
}
