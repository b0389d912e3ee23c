//! MySQL's character sets: their names, their collations, and text in them as UTF-8.
//!
//! A column's text comes in the column's own character set both from the binlog and from a session
//! with `character_set_results = NULL`, so that it is decoded here in both cases. Nearly all of it is
//! UTF-8, which is only checked.

use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};

use super::charset_tables as tables;

/// A character set, by MySQL's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Charset {
    Armscii8,
    Ascii,
    Big5,
    /// Names of an ENUM or SET that are bytes.
    Binary,
    Cp1250,
    Cp1251,
    Cp1256,
    Cp1257,
    Cp850,
    Cp852,
    Cp866,
    Cp932,
    Dec8,
    Eucjpms,
    Euckr,
    Gb18030,
    Gb2312,
    Gbk,
    Geostd8,
    Greek,
    Hebrew,
    Hp8,
    Keybcs2,
    Koi8r,
    Koi8u,
    Latin1,
    Latin2,
    Latin5,
    Latin7,
    Macce,
    Macroman,
    Sjis,
    Swe7,
    Tis620,
    Ucs2,
    Ujis,
    Utf16,
    Utf16le,
    Utf32,
    Utf8mb3,
    Utf8mb4,
}

/// The collation of what is bytes and no text.
pub(super) const BINARY_COLLATION: u16 = 63;

impl Charset {
    const ALL: [Self; 41] = [
        Self::Armscii8,
        Self::Ascii,
        Self::Big5,
        Self::Binary,
        Self::Cp1250,
        Self::Cp1251,
        Self::Cp1256,
        Self::Cp1257,
        Self::Cp850,
        Self::Cp852,
        Self::Cp866,
        Self::Cp932,
        Self::Dec8,
        Self::Eucjpms,
        Self::Euckr,
        Self::Gb18030,
        Self::Gb2312,
        Self::Gbk,
        Self::Geostd8,
        Self::Greek,
        Self::Hebrew,
        Self::Hp8,
        Self::Keybcs2,
        Self::Koi8r,
        Self::Koi8u,
        Self::Latin1,
        Self::Latin2,
        Self::Latin5,
        Self::Latin7,
        Self::Macce,
        Self::Macroman,
        Self::Sjis,
        Self::Swe7,
        Self::Tis620,
        Self::Ucs2,
        Self::Ujis,
        Self::Utf16,
        Self::Utf16le,
        Self::Utf32,
        Self::Utf8mb3,
        Self::Utf8mb4,
    ];

    /// As `information_schema` writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Armscii8 => "armscii8",
            Self::Ascii => "ascii",
            Self::Big5 => "big5",
            Self::Binary => "binary",
            Self::Cp1250 => "cp1250",
            Self::Cp1251 => "cp1251",
            Self::Cp1256 => "cp1256",
            Self::Cp1257 => "cp1257",
            Self::Cp850 => "cp850",
            Self::Cp852 => "cp852",
            Self::Cp866 => "cp866",
            Self::Cp932 => "cp932",
            Self::Dec8 => "dec8",
            Self::Eucjpms => "eucjpms",
            Self::Euckr => "euckr",
            Self::Gb18030 => "gb18030",
            Self::Gb2312 => "gb2312",
            Self::Gbk => "gbk",
            Self::Geostd8 => "geostd8",
            Self::Greek => "greek",
            Self::Hebrew => "hebrew",
            Self::Hp8 => "hp8",
            Self::Keybcs2 => "keybcs2",
            Self::Koi8r => "koi8r",
            Self::Koi8u => "koi8u",
            Self::Latin1 => "latin1",
            Self::Latin2 => "latin2",
            Self::Latin5 => "latin5",
            Self::Latin7 => "latin7",
            Self::Macce => "macce",
            Self::Macroman => "macroman",
            Self::Sjis => "sjis",
            Self::Swe7 => "swe7",
            Self::Tis620 => "tis620",
            Self::Ucs2 => "ucs2",
            Self::Ujis => "ujis",
            Self::Utf16 => "utf16",
            Self::Utf16le => "utf16le",
            Self::Utf32 => "utf32",
            Self::Utf8mb3 => "utf8mb3",
            Self::Utf8mb4 => "utf8mb4",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        // What `utf8mb3` was called by older servers.
        if name.eq_ignore_ascii_case("utf8") {
            return Some(Self::Utf8mb3);
        }
        Self::ALL
            .into_iter()
            .find(|charset| charset.name().eq_ignore_ascii_case(name))
    }

    /// The character set of a collation, by the collation's number on either server.
    pub fn of_collation(collation: u16) -> Option<Self> {
        let collation = match collation {
            // MariaDB's collations without padding have the number of the one with padding, and this bit.
            1025..=1279 => collation - 1024,
            // MariaDB's newest collations: a block of each of the character sets that is Unicode.
            2048..=3327 => {
                return match (collation - 2048) / 256 {
                    0 => Some(Self::Utf8mb3),
                    1 => Some(Self::Utf8mb4),
                    2 => Some(Self::Ucs2),
                    3 => Some(Self::Utf16),
                    _ => Some(Self::Utf32),
                };
            }
            other => other,
        };
        Some(match collation {
            1 | 84 => Self::Big5,
            2 | 9 | 21 | 27 | 77 => Self::Latin2,
            3 | 69 => Self::Dec8,
            4 | 80 => Self::Cp850,
            5 | 8 | 15 | 31 | 47..=49 | 94 => Self::Latin1,
            6 | 72 => Self::Hp8,
            7 | 74 => Self::Koi8r,
            10 | 82 => Self::Swe7,
            11 | 65 => Self::Ascii,
            12 | 91 => Self::Ujis,
            13 | 88 => Self::Sjis,
            14 | 23 | 50..=52 => Self::Cp1251,
            16 | 71 => Self::Hebrew,
            18 | 89 => Self::Tis620,
            19 | 85 => Self::Euckr,
            20 | 41 | 42 | 79 => Self::Latin7,
            22 | 75 => Self::Koi8u,
            24 | 86 => Self::Gb2312,
            25 | 70 => Self::Greek,
            26 | 34 | 44 | 66 | 99 => Self::Cp1250,
            28 | 87 => Self::Gbk,
            29 | 58 | 59 => Self::Cp1257,
            30 | 78 => Self::Latin5,
            32 | 64 => Self::Armscii8,
            33 | 76 | 83 | 192..=223 | 576..=578 => Self::Utf8mb3,
            35 | 90 | 128..=159 | 640..=642 => Self::Ucs2,
            36 | 68 => Self::Cp866,
            37 | 73 => Self::Keybcs2,
            38 | 43 => Self::Macce,
            39 | 53 => Self::Macroman,
            40 | 81 => Self::Cp852,
            45 | 46 | 224..=247 | 255..=323 | 608..=610 => Self::Utf8mb4,
            54 | 55 | 101..=124 | 672..=674 => Self::Utf16,
            56 | 62 => Self::Utf16le,
            57 | 67 => Self::Cp1256,
            60 | 61 | 160..=183 | 736..=738 => Self::Utf32,
            BINARY_COLLATION => Self::Binary,
            92 | 93 => Self::Geostd8,
            95 | 96 => Self::Cp932,
            97 | 98 => Self::Eucjpms,
            248..=250 => Self::Gb18030,
            _ => return None,
        })
    }

    /// What reads text in it.
    pub(super) fn decoder(self) -> Decoder {
        match self {
            Self::Utf8mb3 | Self::Utf8mb4 | Self::Binary => Decoder::Utf8,
            Self::Ascii => Decoder::Ascii,
            Self::Swe7 => Decoder::Swe7,
            Self::Ucs2 | Self::Utf16 => Decoder::Utf16(u16::from_be_bytes),
            Self::Utf16le => Decoder::Utf16(u16::from_le_bytes),
            Self::Utf32 => Decoder::Utf32,
            Self::Gbk => Decoder::Encoding(encoding_rs::GBK),
            Self::Gb18030 => Decoder::Encoding(encoding_rs::GB18030),
            Self::Cp932 => Decoder::Encoding(encoding_rs::SHIFT_JIS),
            Self::Euckr => Decoder::Encoding(encoding_rs::EUC_KR),
            Self::Gb2312 => Decoder::multi_byte(encoding_rs::GBK, &tables::GB2312),
            Self::Big5 => Decoder::multi_byte(encoding_rs::BIG5, &tables::BIG5),
            Self::Sjis => Decoder::multi_byte(encoding_rs::SHIFT_JIS, &tables::SJIS),
            Self::Ujis => Decoder::multi_byte(encoding_rs::EUC_JP, &tables::UJIS),
            Self::Eucjpms => Decoder::multi_byte(encoding_rs::EUC_JP, &tables::EUCJPMS),
            Self::Armscii8 => Decoder::SingleByte(&tables::ARMSCII8),
            Self::Cp1250 => Decoder::SingleByte(&tables::CP1250),
            Self::Cp1251 => Decoder::SingleByte(&tables::CP1251),
            Self::Cp1256 => Decoder::SingleByte(&tables::CP1256),
            Self::Cp1257 => Decoder::SingleByte(&tables::CP1257),
            Self::Cp850 => Decoder::SingleByte(&tables::CP850),
            Self::Cp852 => Decoder::SingleByte(&tables::CP852),
            Self::Cp866 => Decoder::SingleByte(&tables::CP866),
            Self::Dec8 => Decoder::SingleByte(&tables::DEC8),
            Self::Geostd8 => Decoder::SingleByte(&tables::GEOSTD8),
            Self::Greek => Decoder::SingleByte(&tables::GREEK),
            Self::Hebrew => Decoder::SingleByte(&tables::HEBREW),
            Self::Hp8 => Decoder::SingleByte(&tables::HP8),
            Self::Keybcs2 => Decoder::SingleByte(&tables::KEYBCS2),
            Self::Koi8r => Decoder::SingleByte(&tables::KOI8R),
            Self::Koi8u => Decoder::SingleByte(&tables::KOI8U),
            Self::Latin1 => Decoder::SingleByte(&tables::LATIN1),
            Self::Latin2 => Decoder::SingleByte(&tables::LATIN2),
            Self::Latin5 => Decoder::SingleByte(&tables::LATIN5),
            Self::Latin7 => Decoder::SingleByte(&tables::LATIN7),
            Self::Macce => Decoder::SingleByte(&tables::MACCE),
            Self::Macroman => Decoder::SingleByte(&tables::MACROMAN),
            Self::Tis620 => Decoder::SingleByte(&tables::TIS620),
        }
    }
}

/// Characters of a few codes: the first code, its character, and how many of both follow one another.
type Codes = &'static [(u32, u16, u16)];

/// Turns text of one character set into UTF-8.
#[derive(Clone, Copy)]
pub(super) enum Decoder {
    Utf8,
    Ascii,
    /// ASCII, and these characters from 0x80.
    SingleByte(&'static [u16; 128]),
    /// ASCII of seven bits with Swedish letters in the place of brackets.
    Swe7,
    Encoding(&'static Encoding),
    /// An encoding from which the server's differs in a few codes.
    MultiByte {
        encoding: &'static Encoding,
        own: Codes,
    },
    Utf16(fn([u8; 2]) -> u16),
    Utf32,
}

impl Decoder {
    fn multi_byte(encoding: &'static Encoding, own: Codes) -> Self {
        Self::MultiByte { encoding, own }
    }

    /// Whether bytes of ASCII are the characters of ASCII.
    #[inline]
    pub fn extends_ascii(self) -> bool {
        !matches!(self, Self::Swe7 | Self::Utf16(_) | Self::Utf32)
    }

    /// Appends the text, with U+FFFD for what is none. Tells whether all of it was text.
    pub fn decode(self, bytes: &[u8], text: &mut String) -> bool {
        let mut valid = true;
        let mut push = |character: Option<char>| match character {
            Some(character) => text.push(character),
            None => {
                text.push(char::REPLACEMENT_CHARACTER);
                valid = false;
            }
        };
        match self {
            Self::Utf8 => match String::from_utf8_lossy(bytes) {
                std::borrow::Cow::Borrowed(borrowed) => text.push_str(borrowed),
                std::borrow::Cow::Owned(owned) => {
                    text.push_str(&owned);
                    valid = false;
                }
            },
            Self::Ascii => bytes
                .iter()
                .for_each(|byte| push(byte.is_ascii().then(|| char::from(*byte)))),
            Self::SingleByte(table) => {
                for byte in bytes {
                    push(match byte.checked_sub(128) {
                        None => Some(char::from(*byte)),
                        Some(index) => assigned(table[usize::from(index)]),
                    });
                }
            }
            Self::Swe7 => bytes.iter().for_each(|byte| push(swedish(*byte))),
            Self::Encoding(encoding) => {
                let (decoded, errors) = encoding.decode_without_bom_handling(bytes);
                text.push_str(&decoded);
                valid = !errors;
            }
            Self::MultiByte { encoding, own } => {
                let mut rest = bytes;
                while let [lead, ..] = rest {
                    if lead.is_ascii() {
                        push(Some(char::from(*lead)));
                        rest = &rest[1..];
                        continue;
                    }
                    let length = multi_byte_length(encoding, *lead).min(rest.len());
                    let (code, after) = rest.split_at(length);
                    rest = after;
                    match own_character(encoding, own, code) {
                        Some(character) => push(Some(character)),
                        None => {
                            let decoded =
                                encoding.decode_without_bom_handling_and_without_replacement(code);
                            match decoded {
                                Some(decoded) => decoded.chars().for_each(|one| push(Some(one))),
                                None => push(None),
                            }
                        }
                    }
                }
            }
            Self::Utf16(unit) => {
                let (units, rest) = bytes.as_chunks::<2>();
                for decoded in char::decode_utf16(units.iter().map(|bytes| unit(*bytes))) {
                    push(decoded.ok());
                }
                if !rest.is_empty() {
                    push(None);
                }
            }
            Self::Utf32 => {
                let (units, rest) = bytes.as_chunks::<4>();
                for unit in units {
                    push(char::from_u32(u32::from_be_bytes(*unit)));
                }
                if !rest.is_empty() {
                    push(None);
                }
            }
        }
        valid
    }
}

fn assigned(unit: u16) -> Option<char> {
    char::from_u32(u32::from(unit)).filter(|one| *one != char::REPLACEMENT_CHARACTER)
}

fn swedish(byte: u8) -> Option<char> {
    Some(match byte {
        b'@' => 'É',
        b'[' => 'Ä',
        b'\\' => 'Ö',
        b']' => 'Å',
        b'^' => 'Ü',
        b'`' => 'é',
        b'{' => 'ä',
        b'|' => 'ö',
        b'}' => 'å',
        b'~' => 'ü',
        0x7F.. => return None,
        other => char::from(other),
    })
}

/// How many bytes a character has that begins with `lead`.
fn multi_byte_length(encoding: &'static Encoding, lead: u8) -> usize {
    match lead {
        0x8F if encoding == encoding_rs::EUC_JP => 3,
        // Half-width katakana.
        0xA1..=0xDF if encoding == encoding_rs::SHIFT_JIS => 1,
        _ => 2,
    }
}

/// The character the servers have for a code in the place of the one the encoding has.
fn own_character(encoding: &'static Encoding, own: Codes, code: &[u8]) -> Option<char> {
    // The rows of the two planes that are left to users, which are in the private use area one after another.
    if encoding == encoding_rs::EUC_JP {
        let place = match code {
            [row @ 0xF5..=0xFE, cell @ 0xA1..=0xFE] => Some((0xE000, row, cell)),
            [0x8F, row @ 0xF5..=0xFE, cell @ 0xA1..=0xFE] => Some((0xE3AC, row, cell)),
            _ => None,
        };
        if let Some((first, row, cell)) = place {
            let index = u32::from(row - 0xF5) * 94 + u32::from(cell - 0xA1);
            return char::from_u32(first + index);
        }
    }
    let code = code
        .iter()
        .fold(0, |code, byte| (code << 8) | u32::from(*byte));
    let after = own.partition_point(|(first, ..)| *first <= code);
    let (first, character, count) = own.get(after.checked_sub(1)?)?;
    let offset = code - first;
    (offset < u32::from(*count)).then(|| char::from_u32(u32::from(*character) + offset))?
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(charset: Charset, bytes: &[u8], expected: Expect) {
        let mut text = String::new();
        let valid = charset.decoder().decode(bytes, &mut text);
        expected.assert_eq(&format!("{text} {valid}"));
    }

    #[test]
    fn latin1_is_windows_1252_and_five_control_characters() {
        check(Charset::Latin1, b"caf\xE9 \x80", expect![["café € true"]]);
        check(Charset::Latin1, b"\x81\x9D", expect![["\u{81}\u{9d} true"]]);
    }

    #[test]
    fn text_of_any_character_set_is_utf_8_afterwards() {
        check(Charset::Latin2, b"\xB1\xE6\xEA", expect![["ąćę true"]]);
        check(Charset::Cp1251, b"\xCF\xF0\xE8", expect![["При true"]]);
        check(Charset::Gbk, b"\xC4\xE3", expect![["你 true"]]);
        check(Charset::Gb18030, b"\x94\x39\xDA\x33", expect![["💩 true"]]);
        check(
            Charset::Sjis,
            b"\x93\xFA\xB1\x81\x60",
            expect![["日ｱ〜 true"]],
        );
        check(Charset::Cp932, b"\x81\x60", expect![["～ true"]]);
        check(
            Charset::Ujis,
            b"\xC6\xFC\x8E\xB1\x8F\xB0\xA1",
            expect![["日ｱ丂 true"]],
        );
        check(Charset::Eucjpms, b"\x8F\xF4\xFE", expect![["黑 true"]]);
        check(Charset::Euckr, b"\xB0\xA1", expect![["가 true"]]);
        check(Charset::Big5, b"\xA4\xA4\xC6\xE7", expect![["中ゃ true"]]);
        check(Charset::Swe7, b"a[b", expect![["aÄb true"]]);
        check(Charset::Ucs2, b"\x00a\x20\xAC", expect![["a€ true"]]);
        check(Charset::Utf16, b"\xD8\x3D\xDC\xA9", expect![["💩 true"]]);
        check(Charset::Utf16le, b"a\x00", expect![["a true"]]);
        check(Charset::Utf32, b"\x00\x01\xF4\xA9", expect![["💩 true"]]);
    }

    #[test]
    fn what_is_no_text_is_marked() {
        check(Charset::Utf8mb4, b"a\xFF", expect![["a\u{fffd} false"]]);
        check(Charset::Ascii, b"a\x80", expect![["a\u{fffd} false"]]);
        check(Charset::Tis620, b"\xA1\xFF", expect![["ก\u{fffd} false"]]);
        check(Charset::Sjis, b"a\x93", expect![["a\u{fffd} false"]]);
        check(Charset::Utf16, b"\x00a\x00", expect![["a\u{fffd} false"]]);
        check(Charset::Gbk, b"\xC4", expect![["\u{fffd} false"]]);
    }

    #[test]
    fn a_collation_says_the_character_set() {
        for (collation, charset) in [
            (8, Charset::Latin1),
            (1032, Charset::Latin1),
            (255, Charset::Utf8mb4),
            (309, Charset::Utf8mb4),
            (2304, Charset::Utf8mb4),
            (3072, Charset::Utf32),
            (1216, Charset::Utf8mb3),
            (63, Charset::Binary),
        ] {
            assert_eq!(Charset::of_collation(collation), Some(charset));
        }
        assert_eq!(Charset::of_collation(9999), None);
        for charset in Charset::ALL {
            assert_eq!(Charset::of_name(charset.name()), Some(charset));
        }
    }
}
