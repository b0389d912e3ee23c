//! MariaDB's UUID and INET values from the bytes they have in the binlog.

use std::fmt::Write;

/// Appends a UUID. The binlog has its bytes in the order they are printed in, however the table
/// itself stores them.
pub(super) fn print_uuid(bytes: [u8; 16], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Appends an INET4.
pub(super) fn print_inet4([a, b, c, d]: [u8; 4], text: &mut String) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{a}.{b}.{c}.{d}");
}

/// Appends an INET6. The longest run of zeros is left out even when it is a single one, and an address
/// that holds one of version 4 ends like one, both of which differ from what RFC 5952 asks for.
pub(super) fn print_inet6(bytes: [u8; 16], text: &mut String) {
    let (words, _) = bytes.as_chunks::<2>();
    let word = |index: usize| u16::from_be_bytes(words[index]);
    let mut gap = 0..0;
    let mut start = 0;
    for index in 0..8 {
        if word(index) != 0 {
            start = index + 1;
        } else if index + 1 - start > gap.len() {
            gap = start..index + 1;
        }
    }
    let holds_inet4 = gap.start == 0 && (gap.len() == 6 || (gap.len() == 5 && word(5) == 0xFFFF));
    for index in 0..8 {
        if gap.contains(&index) {
            if index == gap.start {
                text.push_str("::");
            }
            continue;
        }
        if index > 0 && index != gap.end {
            text.push(':');
        }
        if index == 6 && holds_inet4 {
            let [.., a, b, c, d] = bytes;
            print_inet4([a, b, c, d], text);
            return;
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{:x}", word(index));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inet6_is_printed_as_mariadb_does() {
        // Each as `SELECT CAST('...' AS INET6)` prints it.
        for (address, printed) in [
            ("::", "::"),
            ("::1", "::1"),
            ("1::", "1::"),
            ("1:0:2:3:4:5:6:7", "1::2:3:4:5:6:7"),
            ("1:0:0:2:3:0:0:4", "1::2:3:0:0:4"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::fffe:1.2.3.4", "::fffe:102:304"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::1:0", "::0.1.0.0"),
            ("::5", "::5"),
            ("0:1::", "0:1::"),
            ("1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7::"),
            ("0:2:3:4:5:6:7:8", "::2:3:4:5:6:7:8"),
            ("fe80::1:0:0:1", "fe80::1:0:0:1"),
        ] {
            let parsed: std::net::Ipv6Addr = address.parse().unwrap();
            let mut text = String::new();
            print_inet6(parsed.octets(), &mut text);
            assert_eq!(text, printed);
        }
    }

    #[test]
    fn a_uuid_has_dashes() {
        let mut text = String::new();
        print_uuid(
            *b"\x00\x11\x22\x33\x44\x55\x16\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
            &mut text,
        );
        assert_eq!(text, "00112233-4455-1677-8899-aabbccddeeff");
    }
}
