//! The text of a file: decompressed, and in UTF-8 whatever it was written in.
//!
//! A zip archive is several texts, one per member, each with a header of its own. Bytes that are
//! not UTF-8 in a file said to be so are passed on as they are, and what is not valid in another
//! encoding becomes a byte that is not valid UTF-8: which row it spoils is found where rows are
//! known. A text that begins with ASCII alone does not say yet how it is written; that is decided
//! where the first other byte comes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, OnceLock};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use flate2::Crc;

use crate::error::FormatError;
use crate::file::LocalFile;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Zip,
}

impl Compression {
    fn detect(file: &mut File) -> io::Result<Self> {
        let mut magic = [0; 4];
        let mut length = 0;
        while length < 4 {
            match file.read(&mut magic[length..])? {
                0 => break,
                count => length += count,
            }
        }
        file.seek(SeekFrom::Start(0))?;
        Ok(match &magic[..length] {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
            b"PK\x03\x04" => Self::Zip,
            _ => Self::None,
        })
    }
}

/// One text of a file.
#[derive(Debug, Clone)]
pub struct Member {
    /// The name within a zip archive.
    pub name: Option<String>,
    kind: MemberKind,
}

#[derive(Debug, Clone)]
enum MemberKind {
    Whole(Compression),
    Zipped {
        start: u64,
        compressed: u64,
        size: u64,
        crc: u32,
        deflated: bool,
    },
}

/// The texts of `file`, in the order of the archive.
pub fn members(
    file: &LocalFile,
    compression: Option<Compression>,
) -> Result<Vec<Member>, FormatError> {
    let mut opened = File::open(&file.path).map_err(FormatError::io)?;
    let compression = match compression {
        Some(compression) => compression,
        None => Compression::detect(&mut opened).map_err(FormatError::io)?,
    };
    if compression != Compression::Zip {
        return Ok(vec![Member {
            name: None,
            kind: MemberKind::Whole(compression),
        }]);
    }
    let broken = |error: zip::result::ZipError| {
        FormatError::malformed("the zip archive cannot be read").caused_by(error)
    };
    let mut archive = zip::ZipArchive::new(BufReader::new(opened)).map_err(broken)?;
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let hidden = name.starts_with("__MACOSX/") || name.contains("/.") || name.starts_with('.');
        if entry.is_dir() || hidden {
            continue;
        }
        if entry.encrypted() {
            return Err(FormatError::malformed(format!(
                "member \"{name}\" of the zip archive is protected by a password"
            ))
            .hint("deliver the archive without a password"));
        }
        let deflated = match entry.compression() {
            zip::CompressionMethod::Stored => false,
            zip::CompressionMethod::Deflated => true,
            other => {
                return Err(FormatError::malformed(format!(
                    "member \"{name}\" of the zip archive is compressed by {other}"
                ))
                .hint("deflate and no compression can be read"));
            }
        };
        let start = entry.data_start().ok_or_else(|| {
            FormatError::malformed(format!("member \"{name}\" of the zip archive has no data"))
        })?;
        let kind = MemberKind::Zipped {
            start,
            compressed: entry.compressed_size(),
            size: entry.size(),
            crc: entry.crc32(),
            deflated,
        };
        members.push(Member {
            name: Some(name),
            kind,
        });
    }
    Ok(members)
}

/// The bytes of one member, decompressed.
pub fn open(file: &LocalFile, member: &Member) -> Result<Box<dyn Read + Send>, FormatError> {
    let mut opened = File::open(&file.path).map_err(FormatError::io)?;
    Ok(match member.kind {
        MemberKind::Whole(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(
            BufReader::with_capacity(1 << 16, opened),
        )),
        MemberKind::Whole(Compression::Zstd) => {
            Box::new(zstd::Decoder::new(opened).map_err(FormatError::io)?)
        }
        MemberKind::Whole(Compression::None | Compression::Zip) => Box::new(opened),
        MemberKind::Zipped {
            start,
            compressed,
            size,
            crc,
            deflated,
        } => {
            opened
                .seek(SeekFrom::Start(start))
                .map_err(FormatError::io)?;
            let raw = BufReader::with_capacity(1 << 16, opened).take(compressed);
            let inner: Box<dyn Read + Send> = match deflated {
                true => Box::new(flate2::bufread::DeflateDecoder::new(raw)),
                false => Box::new(raw),
            };
            Box::new(Verified {
                inner,
                crc: Crc::new(),
                expected: crc,
                size,
            })
        }
    })
}

/// Turns the error of a reader into words.
pub fn read_error(error: io::Error) -> FormatError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            FormatError::malformed("the file is truncated").caused_by(error)
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            FormatError::malformed("the compressed data is damaged").caused_by(error)
        }
        _ => FormatError::io(error),
    }
}

/// Compares what a zip archive promised with what came.
struct Verified {
    inner: Box<dyn Read + Send>,
    crc: Crc,
    expected: u32,
    size: u64,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.crc.update(&buffer[..count]);
        if count == 0
            && !buffer.is_empty()
            && (self.crc.sum() != self.expected
                || u64::from(self.crc.amount()) != self.size & 0xffff_ffff)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "checksum does not match",
            ));
        }
        Ok(count)
    }
}

/// The encoding of a text that starts with `sample`, and the length of its byte order mark.
pub fn detect_encoding(sample: &[u8], at_end: bool) -> (&'static Encoding, usize) {
    if let Some((encoding, mark)) = Encoding::for_bom(sample) {
        return (encoding, mark);
    }
    // UTF-16 without a mark: in any text with Latin letters or digits, half of the bytes are zero.
    let window = &sample[..sample.len().min(4096)];
    let zeros = |parity: usize| {
        window
            .iter()
            .skip(parity)
            .step_by(2)
            .filter(|&&byte| byte == 0)
            .count()
    };
    let (even, odd) = (zeros(0), zeros(1));
    if odd * 5 > window.len() && even * 10 < odd {
        return (UTF_16LE, 0);
    }
    if even * 5 > window.len() && odd * 10 < even {
        return (UTF_16BE, 0);
    }
    (judge(b"", sample, at_end), 0)
}

/// The encoding of `sample`, which follows the ASCII text `before`.
fn judge(before: &[u8], sample: &[u8], at_end: bool) -> &'static Encoding {
    match std::str::from_utf8(sample) {
        Ok(_) => return UTF_8,
        Err(error) if error.error_len().is_none() && !at_end => return UTF_8,
        // A stray byte does not make another encoding of a text that is full of UTF-8.
        Err(_) if mostly_utf8(sample) => return UTF_8,
        Err(_) => {}
    }
    let mut detector = chardetng::EncodingDetector::new(chardetng::Iso2022JpDetection::Deny);
    detector.feed(before, false);
    detector.feed(sample, at_end);
    detector.guess(None, chardetng::Utf8Detection::Deny)
}

/// Whether more of what is not ASCII is valid UTF-8 than is not. Letters of other encodings seldom come in
/// such pairs.
fn mostly_utf8(sample: &[u8]) -> bool {
    let (mut valid, mut invalid) = (0usize, 0usize);
    for chunk in sample.utf8_chunks() {
        valid += chunk
            .valid()
            .chars()
            .filter(|character| !character.is_ascii())
            .count();
        invalid += usize::from(!chunk.invalid().is_empty());
    }
    valid > invalid
}

/// What a text is written in, once that is decided.
#[derive(Debug, Clone)]
pub struct WrittenIn(Arc<OnceLock<&'static Encoding>>);

impl WrittenIn {
    /// ASCII is UTF-8 as well.
    pub fn get(&self) -> &'static Encoding {
        self.0.get().copied().unwrap_or(UTF_8)
    }
}

/// A record as a person may read it, be it valid or not.
pub fn shown(record: &[u8], encoding: &'static Encoding) -> String {
    match std::str::from_utf8(record) {
        Ok(text) => text.to_owned(),
        Err(_) if encoding == UTF_8 => {
            let (text, _) = WINDOWS_1252.decode_without_bom_handling(record);
            text.into_owned()
        }
        Err(_) => String::from_utf8_lossy(record).into_owned(),
    }
}

/// Why a record is rejected that is not valid UTF-8 here.
pub fn invalid_text(encoding: &'static Encoding) -> String {
    if encoding == UTF_8 {
        "the record is not valid UTF-8; its raw content is shown as windows-1252".to_owned()
    } else {
        format!(
            "the record is not valid {}; what cannot be read is shown as \u{fffd}",
            encoding.name()
        )
    }
}

/// Replaces what is not valid UTF-8 byte by byte, so that everything else stays where it is.
pub fn blank_invalid(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let Err(error) = std::str::from_utf8(rest) {
        let length = error
            .error_len()
            .unwrap_or(rest.len() - error.valid_up_to());
        let (_, invalid) = rest.split_at_mut(error.valid_up_to());
        let (invalid, after) = invalid.split_at_mut(length);
        invalid.fill(b'?');
        rest = after;
    }
}

/// What stands for a sequence of bytes that means nothing: not valid in UTF-8 either.
const INVALID: u8 = 0xff;
/// Bytes from the first that is not ASCII on by which the encoding is judged.
const JUDGED_BYTES: usize = 1 << 18;
/// Text before them: letters tell what the one among them may be.
const BEFORE_BYTES: usize = 1 << 10;

/// UTF-8 out of any encoding. `head` was already read from `inner`.
pub struct Text {
    head: Vec<u8>,
    head_at: usize,
    inner: Box<dyn Read + Send>,
    written_in: WrittenIn,
    decoder: Option<Decoder>,
    raw: Vec<u8>,
    raw_at: usize,
    decoded: Vec<u8>,
    decoded_at: usize,
    ended: bool,
}

impl Text {
    pub fn new(
        head: Vec<u8>,
        mark: usize,
        inner: Box<dyn Read + Send>,
        encoding: &'static Encoding,
    ) -> Self {
        let mut text = Self::undecided(head, inner);
        text.head_at = mark;
        text.decide(encoding);
        text
    }

    /// `head` is ASCII and not the whole text.
    pub fn undecided(head: Vec<u8>, inner: Box<dyn Read + Send>) -> Self {
        Self {
            head,
            head_at: 0,
            inner,
            written_in: WrittenIn(Arc::default()),
            decoder: None,
            raw: Vec::new(),
            raw_at: 0,
            decoded: Vec::new(),
            decoded_at: 0,
            ended: false,
        }
    }

    pub fn written_in(&self) -> WrittenIn {
        self.written_in.clone()
    }

    fn decide(&mut self, encoding: &'static Encoding) {
        // Decided once, by the only one who reads.
        let _ = self.written_in.0.set(encoding);
        self.decoder = (encoding != UTF_8).then(|| encoding.new_decoder_without_bom_handling());
    }

    /// Passes ASCII on; at the first other byte the encoding is decided.
    fn read_undecided(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.read_raw(buffer)?;
        let ascii = match buffer[..count].is_ascii() {
            true => count,
            false => buffer[..count]
                .iter()
                .position(|byte| !byte.is_ascii())
                .unwrap_or(count),
        };
        if ascii == count {
            return Ok(count);
        }
        let mut sample = buffer[ascii..count].to_vec();
        let mut length = sample.len();
        sample.resize(length.max(JUDGED_BYTES), 0);
        let mut at_end = false;
        while length < sample.len() && !at_end {
            match self.read_raw(&mut sample[length..]) {
                Ok(count) => {
                    at_end = count == 0;
                    length += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        sample.truncate(length);
        let before = &buffer[ascii.saturating_sub(BEFORE_BYTES)..ascii];
        self.decide(judge(before, &sample, at_end));
        sample.extend_from_slice(&self.head[self.head_at.min(self.head.len())..]);
        self.head = sample;
        self.head_at = 0;
        if ascii > 0 {
            return Ok(ascii);
        }
        self.read(buffer)
    }

    fn read_raw(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let head = &self.head[self.head_at.min(self.head.len())..];
        if head.is_empty() {
            self.head = Vec::new();
            self.head_at = 0;
            return self.inner.read(buffer);
        }
        let count = head.len().min(buffer.len());
        buffer[..count].copy_from_slice(&head[..count]);
        self.head_at += count;
        Ok(count)
    }
}

impl Read for Text {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.written_in.0.get().is_none() {
            return self.read_undecided(buffer);
        }
        let Some(mut decoder) = self.decoder.take() else {
            return self.read_raw(buffer);
        };
        let mut result = Ok(());
        while result.is_ok() && self.decoded_at == self.decoded.len() && !self.ended {
            result = self.transcode(&mut decoder);
        }
        self.decoder = Some(decoder);
        result?;
        let decoded = &self.decoded[self.decoded_at..];
        let count = decoded.len().min(buffer.len());
        buffer[..count].copy_from_slice(&decoded[..count]);
        self.decoded_at += count;
        Ok(count)
    }
}

impl Text {
    fn transcode(&mut self, decoder: &mut Decoder) -> io::Result<()> {
        if self.raw_at == self.raw.len() {
            let mut raw = std::mem::take(&mut self.raw);
            raw.resize(1 << 16, 0);
            let count = self.read_raw(&mut raw)?;
            raw.truncate(count);
            self.raw = raw;
            self.raw_at = 0;
        }
        let last = self.raw.is_empty();
        self.decoded.resize(1 << 16, 0);
        self.decoded_at = 0;
        let (result, read, written) = decoder.decode_to_utf8_without_replacement(
            &self.raw[self.raw_at..],
            &mut self.decoded,
            last,
        );
        self.decoded.truncate(written);
        self.raw_at += read;
        match result {
            DecoderResult::InputEmpty => self.ended = last,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => self.decoded.push(INVALID),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_invalid_is_blanked() {
        let mut bytes = b"Gr\xc3\xb6\xe9\xdfe\xc3".to_vec();
        blank_invalid(&mut bytes);
        assert_eq!(String::from_utf8(bytes).unwrap(), "Grö??e?");
    }

    /// Reads ASCII first, however long, and then `rest`.
    fn read_late(rest: &[u8]) -> (String, &'static str) {
        let head = b"name\n".to_vec();
        let ascii = io::Cursor::new(b"a\n".repeat(10));
        let inner = Box::new(ascii.chain(io::Cursor::new(rest.to_vec())));
        let mut text = Text::undecided(head, inner);
        let mut read = String::new();
        text.read_to_string(&mut read).unwrap();
        let rest = read.trim_start_matches("name\n").trim_start_matches("a\n");
        (rest.to_owned(), text.written_in().get().name())
    }

    #[test]
    fn the_encoding_is_decided_where_the_first_byte_shows_it() {
        assert_eq!(
            read_late(b"Caf\xe9 Orl\xe9ans\n"),
            ("Café Orléans\n".to_owned(), "windows-1252")
        );
        assert_eq!(
            read_late("Café Orléans\n".as_bytes()),
            ("Café Orléans\n".to_owned(), "UTF-8")
        );
        assert_eq!(read_late(b"b\n"), ("b\n".to_owned(), "UTF-8"));
    }
}
