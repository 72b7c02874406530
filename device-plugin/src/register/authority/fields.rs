//! Compressed header fields (RFC 7541), as far as it takes to put another value in the place of `:authority`.

use super::AUTHORITY;

/// Its name, where it is written out.
const NAME: &[u8] = b":authority";

/// How many codes of each length the Huffman code has (RFC 7541, appendix B). It is canonical, so this is enough to tell
/// where each symbol ends.
const CODES: [(u32, u32); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 4),
];

/// The same fields with another value of `:authority`, of the same length where it has any; `None` when they cannot be read.
pub(super) fn with_valid_authority(block: &[u8]) -> Option<Vec<u8>> {
    let mut rest = block;
    let mut out = Vec::with_capacity(block.len() + 2);
    while let Some(&first) = rest.first() {
        let field = rest;
        // The number of bits of the first byte that belong to the index (RFC 7541, 6).
        let (bits, has_value) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let index = integer(&mut rest, bits)?;
        if !has_value {
            let is_empty_authority = bits == 7 && index == AUTHORITY;
            // Not to be put into the table: 0, the index, and a value of one byte.
            out.extend_from_slice(if is_empty_authority {
                &[0x01, 0x01, b'a']
            } else {
                consumed(field, rest)
            });
            continue;
        }
        let named = index == 0;
        let is_authority = if named { string(&mut rest)?.raw == Some(NAME) } else { index == AUTHORITY };
        if !is_authority {
            string(&mut rest)?;
            out.extend_from_slice(consumed(field, rest));
            continue;
        }
        out.extend_from_slice(consumed(field, rest));
        let length = string(&mut rest)?.length.max(1);
        put_integer(&mut out, length);
        out.resize(out.len() + length, b'a');
    }
    Some(out)
}

/// What has been read of `from`.
fn consumed<'a>(from: &'a [u8], rest: &[u8]) -> &'a [u8] {
    from.get(..from.len() - rest.len()).unwrap_or_default()
}

/// A text of a field.
struct Text<'a> {
    /// Its bytes, unless they are compressed.
    raw: Option<&'a [u8]>,
    /// How long it is when decoded.
    length: usize,
}

fn string<'a>(rest: &mut &'a [u8]) -> Option<Text<'a>> {
    let is_compressed = rest.first()? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(if is_compressed {
        Text { raw: None, length: decoded_length(bytes) }
    } else {
        Text { raw: Some(bytes), length }
    })
}

/// A number whose first part is in the low `bits` of the first byte (RFC 7541, 5.1).
fn integer(rest: &mut &[u8], bits: u32) -> Option<usize> {
    let mut next = || {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        Some(*byte)
    };
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(next()?) & most;
    if value < most {
        return Some(value);
    }
    // Four more bytes are more than any text that is sent here needs.
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Writes the length of a text that is not compressed.
fn put_integer(out: &mut Vec<u8>, value: usize) {
    const MOST: usize = 0x7f;
    let mut put = |value: usize| out.extend(u8::try_from(value));
    if value < MOST {
        return put(value);
    }
    put(MOST);
    let mut left = value - MOST;
    while left > 0x7f {
        put(left & 0x7f | 0x80);
        left >>= 7;
    }
    put(left);
}

/// How many symbols there are in a compressed text; what is left at its end is padding.
fn decoded_length(bytes: &[u8]) -> usize {
    let mut symbols = 0;
    // The bits since the last symbol, their number, and the first code of that length.
    let (mut code, mut length, mut first) = (0_u32, 0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |shift| u32::from(byte >> shift & 1))) {
        code = code << 1 | bit;
        first <<= 1;
        length += 1;
        let count = CODES.iter().find(|(bits, _)| *bits == length).map_or(0, |(_, count)| *count);
        if code.wrapping_sub(first) < count {
            symbols += 1;
            (code, length, first) = (0, 0, 0);
        } else if length > 30 {
            // No code is longer: the server will say so.
            return symbols;
        } else {
            first += count;
        }
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete() {
        let used: u64 = CODES.iter().map(|(bits, count)| u64::from(*count) << (30 - bits)).sum();
        assert_eq!(used, 1 << 30);
        assert_eq!(CODES.iter().map(|(_, count)| count).sum::<u32>(), 257);
    }

    /// RFC 7541, C.4.1 and C.6.1.
    #[test]
    fn compressed_texts_have_the_length_of_what_they_say() {
        let text = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decoded_length(&text), "www.example.com".len());
        assert_eq!(decoded_length(&[0x64, 0x02]), "302".len());
        assert_eq!(decoded_length(&[]), 0);
    }

    #[test]
    fn only_the_authority_is_replaced() {
        // :method GET, :scheme http, :path /, :authority "/a b" (put into the table), a field of 200 bytes.
        let long = [[0x10, 0x01, b'x', 0x7f, 200 - 127].as_slice(), &[b'v'; 200]].concat();
        let block = [[0x82, 0x86, 0x84, 0x41, 0x04].as_slice(), b"/a b", &long].concat();
        let expected = [[0x82, 0x86, 0x84, 0x41, 0x04].as_slice(), b"aaaa", &long].concat();
        assert_eq!(with_valid_authority(&block).unwrap(), expected);
    }

    #[test]
    fn every_way_to_write_it_is_known() {
        let written_out = [[0x00, 0x0a].as_slice(), NAME, b"\x01/"].concat();
        let replaced = [[0x00, 0x0a].as_slice(), NAME, b"\x01a"].concat();
        let compressed = [0x41, 0x82, 0x64, 0x02];
        for (field, expected) in [
            (&[0x81][..], &[0x01, 0x01, b'a'][..]),
            (&[0x41, 0x00], &[0x41, 0x01, b'a']),
            (&[0x11, 0x01, b'/'], &[0x11, 0x01, b'a']),
            (&written_out, &replaced),
            (&compressed, b"\x41\x03aaa"),
            // Table updates, and fields of the table.
            (&[0x3f, 0xe1, 0x1f, 0xbe], &[0x3f, 0xe1, 0x1f, 0xbe]),
        ] {
            assert_eq!(with_valid_authority(field).unwrap(), expected);
        }
        let path = [b'/'; 300];
        let field = [[0x41, 0x7f, 0xad, 0x01].as_slice(), &path].concat();
        assert_eq!(with_valid_authority(&field).unwrap(), [&field[..4], &[b'a'; 300]].concat());
    }

    #[test]
    fn torn_fields_are_left_to_the_server() {
        for field in [&[0x41][..], &[0x41, 0x05, b'a'], &[0xff], &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(with_valid_authority(field), None, "{field:?}");
        }
    }
}
