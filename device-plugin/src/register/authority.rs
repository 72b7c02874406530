//! Clients whose requests name the socket's path as the server (`:authority`).
//!
//! kubelets before 1.26 and clients on gRPC's C core do so, with the path plain or percent-encoded, or leave it empty. The
//! HTTP/2 library takes that for a malformed request and resets the stream. Nobody here reads the value, so it is replaced
//! on its way in by one of the same length that is valid: header compression (RFC 7541) counts the lengths of what it has
//! in its table, and both ends must count the same.

mod fields;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tonic::transport::server::Connected;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What precedes every frame (RFC 9113, 4.1): length (3 bytes), type, flags, stream (4 bytes).
const FRAME_HEADER: usize = 9;

/// The longest payload that is valid without agreement on more.
const LONGEST_FRAME: usize = 16_384;

/// More than any sensible request has in its header.
const LONGEST_BLOCK: usize = 1 << 18;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The place of `:authority` in the static table; alone it stands for an empty value.
const AUTHORITY: usize = 1;

/// A client's connection whose `:authority` values are made valid.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    rewriter: Rewriter,
    /// What is rewritten and not read yet.
    ready: Vec<u8>,
    taken: usize,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, rewriter: Rewriter::default(), ready: Vec::new(), taken: 0 }
    }
}

impl Connected for Connection {
    type ConnectInfo = <UnixStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.taken == this.ready.len() {
            this.ready.clear();
            this.taken = 0;
            let mut bytes = [0; 4096];
            let mut input = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut input))?;
            if input.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.rewriter.take(input.filled(), &mut this.ready)?;
        }
        let rest = this.ready.get(this.taken..).unwrap_or_default();
        let part = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(part);
        this.taken += part.len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows the client's side of a connection, byte by byte as it comes.
#[derive(Debug, Default)]
struct Rewriter {
    state: State,
    /// The part of a frame that has come so far, where it is wanted whole.
    held: Vec<u8>,
    /// A header block whose end has not come.
    block: Option<Block>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Preface,
    FrameHeader,
    /// Bytes of a payload that are no business of ours.
    Passing(usize),
    /// A payload that is wanted whole.
    Payload(Frame),
    /// Not HTTP/2: the server's to refuse.
    Foreign,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

/// A header block: the fields of one request, which may come in several frames.
#[derive(Debug)]
struct Block {
    flags: u8,
    stream: [u8; 4],
    priority: Vec<u8>,
    fields: Vec<u8>,
}

impl Rewriter {
    /// Takes bytes of the client and puts what the server is to see at the end of `out`.
    fn take(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !input.is_empty() {
            let used = match self.state {
                State::Preface => self.preface(input, out),
                State::FrameHeader => self.frame_header(input, out),
                State::Passing(left) => {
                    let part = input.get(..left).unwrap_or(input);
                    out.extend_from_slice(part);
                    let left = left - part.len();
                    self.state = if left == 0 { State::FrameHeader } else { State::Passing(left) };
                    part.len()
                }
                State::Payload(frame) => self.payload(frame, input, out)?,
                State::Foreign => {
                    out.extend_from_slice(input);
                    input.len()
                }
            };
            input = input.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    fn preface(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let used = self.hold(input, PREFACE.len());
        if !PREFACE.starts_with(&self.held) {
            out.append(&mut self.held);
            self.state = State::Foreign;
        } else if self.held.len() == PREFACE.len() {
            out.append(&mut self.held);
            self.state = State::FrameHeader;
        }
        used
    }

    fn frame_header(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let used = self.hold(input, FRAME_HEADER);
        if let &[a, b, c, kind, flags, d, e, f, g] = self.held.as_slice() {
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            // A frame that is too long is the server's to refuse.
            if matches!(kind, HEADERS | CONTINUATION) && length <= LONGEST_FRAME {
                self.held.clear();
                self.state = State::Payload(Frame { length, kind, flags, stream: [d, e, f, g] });
                if length == 0 {
                    self.end_of_payload(out);
                }
            } else {
                out.append(&mut self.held);
                self.state = if length == 0 { State::FrameHeader } else { State::Passing(length) };
            }
        }
        used
    }

    fn payload(&mut self, frame: Frame, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let used = self.hold(input, frame.length);
        if self.held.len() == frame.length {
            self.end_of_payload(out);
        }
        match &self.block {
            Some(block) if block.fields.len() > LONGEST_BLOCK => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the header of a request is too long"))
            }
            _ => Ok(used),
        }
    }

    /// Takes of the input what is missing to `wanted` held bytes.
    fn hold(&mut self, input: &[u8], wanted: usize) -> usize {
        let missing = wanted.saturating_sub(self.held.len());
        let part = input.get(..missing).unwrap_or(input);
        self.held.extend_from_slice(part);
        part.len()
    }

    fn end_of_payload(&mut self, out: &mut Vec<u8>) {
        let State::Payload(frame) = std::mem::replace(&mut self.state, State::FrameHeader) else { return };
        let payload = std::mem::take(&mut self.held);
        let is_next = |block: &Block| frame.kind == CONTINUATION && block.stream == frame.stream;
        let block = match self.block.take().filter(is_next) {
            Some(mut block) => {
                block.fields.extend_from_slice(&payload);
                Some(block)
            }
            None if frame.kind == HEADERS => Block::begin(frame, &payload),
            None => None,
        };
        match block {
            Some(block) if frame.flags & END_HEADERS != 0 => block.write(out),
            Some(block) => self.block = Some(block),
            // What makes no sense is the server's to refuse.
            None => write_frame(frame.kind, frame.flags, frame.stream, &payload, out),
        }
    }
}

impl Block {
    /// Takes a HEADERS frame apart; `None` when its padding is longer than it.
    fn begin(frame: Frame, payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        if frame.flags & PADDED != 0 {
            let (padding, fields) = rest.split_first()?;
            rest = fields.get(..fields.len().checked_sub(usize::from(*padding))?)?;
        }
        let priority = if frame.flags & PRIORITY != 0 { rest.get(..5)? } else { &[] };
        Some(Self {
            flags: frame.flags & !(PADDED | END_HEADERS),
            stream: frame.stream,
            priority: priority.to_vec(),
            fields: rest.get(priority.len()..)?.to_vec(),
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        let Self { flags, stream, mut priority, fields } = self;
        priority.extend(fields::with_valid_authority(&fields).unwrap_or(fields));
        let mut frames = priority.chunks(LONGEST_FRAME).peekable();
        let (mut kind, mut flags) = (HEADERS, flags);
        while let Some(payload) = frames.next() {
            let end = if frames.peek().is_none() { END_HEADERS } else { 0 };
            write_frame(kind, flags | end, stream, payload, out);
            (kind, flags) = (CONTINUATION, 0);
        }
    }
}

fn write_frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
    // Never more than LONGEST_FRAME.
    let [.., a, b, c] = payload.len().to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests;
