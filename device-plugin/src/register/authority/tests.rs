//! Raw frames against the real server, and the rewriter alone on torn input.

use std::time::Duration;

use fairlead_kubelet_api::plugin_registration as api;
use fairlead_kubelet_api::plugin_registration::registration_server::{Registration, RegistrationServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::*;

struct Answering;

#[tonic::async_trait]
impl Registration for Answering {
    async fn get_info(&self, _: Request<api::InfoRequest>) -> Result<Response<api::PluginInfo>, Status> {
        Ok(Response::new(api::PluginInfo { name: "answered".to_owned(), ..Default::default() }))
    }

    async fn notify_registration_status(
        &self,
        _: Request<api::RegistrationStatus>,
    ) -> Result<Response<api::RegistrationStatusResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

/// What a client sends that asks once on each stream, with `authority` as it is in the header block of that stream.
fn client(authorities: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    write_frame(4, 0, [0; 4], &[], &mut bytes);
    for (index, authority) in authorities.iter().enumerate() {
        let stream = [0, 0, 0, u8::try_from(2 * index + 1).unwrap()];
        // :method POST and :scheme http are in the static table, names of the others too or written out.
        let mut block = vec![0x83, 0x86];
        let path = b"/pluginregistration.Registration/GetInfo";
        block.extend([0x04, u8::try_from(path.len()).unwrap()]);
        block.extend(path);
        block.extend(authority);
        block.extend(b"\x0f\x10\x10application/grpc\x00\x02te\x08trailers");
        write_frame(HEADERS, END_HEADERS, stream, &block, &mut bytes);
        // An empty message: not compressed, no bytes. The stream ends.
        write_frame(0, 1, stream, &[0; 5], &mut bytes);
    }
    bytes
}

fn literal(first: u8, text: &str) -> Vec<u8> {
    [&[first, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// Whether each request is answered; streams are reset otherwise.
async fn answered(authorities: &[Vec<u8>]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let connections = UnixListenerStream::new(listener).map(|stream| stream.map(Connection::new));
    let serving = tonic::transport::Server::builder()
        .add_service(RegistrationServer::new(Answering))
        .serve_with_incoming(connections);
    let server = tokio::spawn(serving);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(&client(authorities)).await.unwrap();
    let mut got = Vec::new();
    let count = |got: &[u8]| got.windows(8).filter(|part| part == b"answered").count();
    let all = async {
        while count(&got) < authorities.len() {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await.unwrap();
            if length == 0 {
                return false;
            }
            got.extend(&part[..length]);
            // RST_STREAM and GOAWAY.
            let mut frames = got.as_slice();
            while let &[_, b, c, kind, ..] = frames {
                if matches!(kind, 3 | 7) {
                    return false;
                }
                let end = FRAME_HEADER + usize::from(b) * 256 + usize::from(c);
                frames = frames.get(end..).unwrap_or_default();
            }
        }
        true
    };
    let all = tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    server.abort();
    all
}

#[tokio::test]
async fn clients_may_name_the_socket_in_any_way() {
    let path = "/var/lib/kubelet/device-plugins/intel.com_sriov.sock";
    for authority in
        ["localhost", path, "%2Fvar%2Flib%2Fkubelet%2Fx.sock", "x.sock", "", "unix:/a b", "@[", "\u{1}"]
    {
        // Put into the table, not put there, and never to be put there.
        for first in [0x41, 0x01, 0x11] {
            assert!(answered(&[literal(first, authority)]).await, "{authority:?} as {first:#x}");
        }
    }
    assert!(answered(&[vec![]]).await, "none at all");
    assert!(answered(&[vec![0x81]]).await, "the empty one of the static table");
    // "/a" compressed: 011000 00011 and padding.
    assert!(answered(&[vec![0x41, 0x82, 0b0110_0000, 0b0111_1111]]).await, "compressed");
}

#[tokio::test]
async fn later_requests_refer_to_what_the_first_one_said() {
    // The table's newest entry has the number 62.
    assert!(answered(&[literal(0x41, "/var/run/x.sock"), vec![0xbe], vec![0xbe]]).await);
    // Another value, and then the one before it.
    assert!(answered(&[literal(0x41, "/a"), literal(0x41, "%2Fb"), vec![0xbf], vec![0xbe]]).await);
}

fn rewritten(input: &[u8], piece: usize) -> Vec<u8> {
    let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
    for piece in input.chunks(piece) {
        rewriter.take(piece, &mut out).unwrap();
    }
    out
}

#[test]
fn pieces_of_any_size_make_the_same() {
    let input = client(&[literal(0x41, "/a/b"), vec![0xbe]]);
    let whole = rewritten(&input, input.len());
    assert_eq!(whole.len(), input.len());
    for size in 1..40 {
        assert_eq!(rewritten(&input, size), whole, "pieces of {size}");
    }
}

#[test]
fn padding_and_continuations_are_put_together() {
    let mut input = PREFACE.to_vec();
    // Two bytes of padding, a priority, and a block that is torn within its value.
    let first = [&[2, 0, 0, 0, 0, 9][..], &[0x82, 0x41, 0x04], b"/a", &[0, 0]].concat();
    write_frame(HEADERS, PADDED | PRIORITY | 1, [0, 0, 0, 1], &first, &mut input);
    write_frame(CONTINUATION, 0, [0, 0, 0, 1], b"/", &mut input);
    write_frame(CONTINUATION, END_HEADERS, [0, 0, 0, 1], b"b\x84", &mut input);
    let mut expected = PREFACE.to_vec();
    let block = [&[0, 0, 0, 0, 9][..], &[0x82, 0x41, 0x04], b"aaaa", &[0x84]].concat();
    write_frame(HEADERS, PRIORITY | END_HEADERS | 1, [0, 0, 0, 1], &block, &mut expected);
    assert_eq!(rewritten(&input, 7), expected);
}

#[test]
fn long_blocks_are_written_in_frames_that_are_not_too_long() {
    let mut input = PREFACE.to_vec();
    let field =
        [&[0x00, 0x01, b'x', 0x7f, 0x81, 0xfd, 0x00][..], &[b'v'; 0x7f + 0x81 - 0x80 + (0x7d << 7)]].concat();
    assert!(field.len() < LONGEST_FRAME);
    write_frame(HEADERS, 0, [0, 0, 0, 1], &field, &mut input);
    write_frame(CONTINUATION, END_HEADERS, [0, 0, 0, 1], &field, &mut input);
    let out = rewritten(&input, 1000);
    let (frame, next) = (&out[PREFACE.len()..], PREFACE.len() + FRAME_HEADER + LONGEST_FRAME);
    assert_eq!(
        (&frame[..5], out[next + 3], out[next + 4]),
        (&[0, 0x40, 0, HEADERS, 0][..], CONTINUATION, END_HEADERS)
    );
    let fields: Vec<u8> = [&out[PREFACE.len() + FRAME_HEADER..next], &out[next + FRAME_HEADER..]].concat();
    assert_eq!(fields, [field.clone(), field].concat());
}

#[test]
fn what_is_not_understood_is_left_to_the_server() {
    assert_eq!(rewritten(b"GET / HTTP/1.1\r\n\r\n", 5), b"GET / HTTP/1.1\r\n\r\n");
    // A continuation of nothing, more padding than there is, and a block that cannot be read.
    for (kind, flags, payload) in [
        (CONTINUATION, END_HEADERS, &b"abc"[..]),
        (HEADERS, PADDED, &[9, 1]),
        (HEADERS, END_HEADERS, &[0x41, 0x7f]),
    ] {
        let mut input = PREFACE.to_vec();
        write_frame(kind, flags, [0, 0, 0, 1], payload, &mut input);
        assert_eq!(rewritten(&input, 3), input);
    }
}

#[test]
fn a_header_without_end_is_refused() {
    let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
    rewriter.take(PREFACE, &mut out).unwrap();
    let mut frame = Vec::new();
    write_frame(HEADERS, 0, [0, 0, 0, 1], &[0; LONGEST_FRAME], &mut frame);
    let mut result = rewriter.take(&frame, &mut out);
    for _ in 0..20 {
        frame.clear();
        write_frame(CONTINUATION, 0, [0, 0, 0, 1], &[0; LONGEST_FRAME], &mut frame);
        result = result.and_then(|()| rewriter.take(&frame, &mut out));
    }
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
