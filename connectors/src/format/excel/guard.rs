//! Looks at a workbook before anything of it is unpacked.
//!
//! Says which kind of workbook the bytes are, whatever the name of the file, and refuses what is
//! protected, cut off, no workbook at all, or packed so tightly that unpacking it is an attack.
//! What lies about its size is stopped by the memory limit of the reading process instead.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{FormatError, sqlstate};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Xls,
    Xlsx,
    Xlsb,
    Ods,
}

/// What was learned on the way.
#[derive(Debug, Clone, Copy)]
pub struct Workbook {
    pub kind: Kind,
    /// Bytes of everything in it, unpacked; of the file itself where it is not packed.
    pub unpacked: u64,
    /// Some sheet has merged cells.
    pub merged: bool,
}

/// Parts below this are harmless however tightly packed.
const PART_BYTES_FREE: u64 = 32 << 20;
/// Deflate reaches 1032; sheets of real data seldom 30.
const RATIO_MAX: u64 = 100;
const TOTAL_BYTES_MAX: u64 = 8 << 30;
const PARTS_MAX: usize = 20_000;
/// Bytes that the shortest shared text takes in memory.
const SHARED_TEXT_BYTES: u64 = 32;
const OLE_MAGIC: [u8; 8] = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

/// `memory_mib` is what reading it may use.
pub fn inspect(path: &Path, memory_mib: u64) -> Result<Workbook, FormatError> {
    let mut file = File::open(path).map_err(FormatError::io)?;
    let size = file.metadata().map_err(FormatError::io)?.len();
    let mut magic = Vec::new();
    file.by_ref()
        .take(512)
        .read_to_end(&mut magic)
        .map_err(FormatError::io)?;
    file.seek(SeekFrom::Start(0)).map_err(FormatError::io)?;
    if magic.is_empty() {
        return Err(FormatError::malformed("the file is empty"));
    }
    if magic.starts_with(&OLE_MAGIC) {
        let mut head = Vec::new();
        // Directory entries name their streams in UTF-16; an encrypted workbook has few.
        file.take(size.min(64 << 20))
            .read_to_end(&mut head)
            .map_err(FormatError::io)?;
        let name: Vec<u8> = "EncryptedPackage"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        if memchr::memmem::find(&head, &name).is_some() {
            return Err(protected());
        }
        return Ok(Workbook {
            kind: Kind::Xls,
            unpacked: size,
            merged: true,
        });
    }
    if !magic.starts_with(b"PK") {
        let text = String::from_utf8_lossy(&magic);
        let error = FormatError::malformed("the file is not a workbook");
        return Err(
            if text
                .trim_start_matches('\u{feff}')
                .trim_start()
                .starts_with('<')
            {
                error.hint("it is HTML or XML text; have it saved as XLSX")
            } else if magic.iter().all(|byte| byte.is_ascii() && *byte != 0) {
                error.hint("it looks like text; try FORMAT CSV")
            } else {
                error.hint("xls, xlsx, xlsb and ods can be read")
            },
        );
    }
    inspect_zip(file, memory_mib)
}

pub fn protected() -> FormatError {
    FormatError::malformed("the workbook is protected by a password")
        .hint("save it without a password")
}

pub fn damaged(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> FormatError {
    FormatError::malformed("the workbook is truncated or damaged")
        .hint("deliver the file again; a transfer may have been cut off")
        .caused_by(cause)
}

pub fn needs_memory(memory_mib: u64) -> FormatError {
    FormatError::new(
        sqlstate::OUT_OF_MEMORY,
        format!("reading the workbook needs more than {memory_mib} MiB of memory"),
    )
    .hint("if the workbook is honest, raise memory_limit_mb or deliver it in parts")
}

/// How many shared texts the beginning of their part promises.
fn shared_texts(part: impl Read) -> Option<u64> {
    let mut head = Vec::new();
    part.take(1 << 10).read_to_end(&mut head).ok()?;
    let name = b"uniqueCount=\"";
    let start = memchr::memmem::find(&head, name)? + name.len();
    let length = memchr::memchr(b'"', head.get(start..)?)?;
    std::str::from_utf8(&head[start..start + length])
        .ok()?
        .parse()
        .ok()
}

fn inspect_zip(file: File, memory_mib: u64) -> Result<Workbook, FormatError> {
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let bomb = |what: String| {
        FormatError::new(sqlstate::LIMIT_EXCEEDED, what)
            .hint("this is how files made to exhaust memory look; save the workbook anew")
    };
    if archive.len() > PARTS_MAX {
        return Err(bomb(format!(
            "the workbook has more than {PARTS_MAX} parts"
        )));
    }
    let mut kind = None;
    let mut unpacked = 0u64;
    let mut sheets = Vec::new();
    for index in 0..archive.len() {
        let part = archive.by_index_raw(index).map_err(damaged)?;
        let name = part.name().map_err(damaged)?.into_owned();
        let (size, packed) = (part.size(), part.compressed_size());
        if size > PART_BYTES_FREE && size / packed.max(1) > RATIO_MAX {
            return Err(bomb(format!(
                "part \"{name}\" of the workbook unpacks to {} MiB from {} KiB",
                size >> 20,
                packed >> 10
            )));
        }
        unpacked = unpacked.saturating_add(size);
        match name.as_str() {
            // How later versions of LibreOffice protect: all parts in one.
            "encrypted-package" => return Err(protected()),
            "xl/workbook.bin" => kind = Some(Kind::Xlsb),
            "xl/workbook.xml" => kind = Some(Kind::Xlsx),
            "content.xml" if kind.is_none() => kind = Some(Kind::Ods),
            _ => {}
        }
        if name.starts_with("xl/worksheets/") && name.ends_with(".xml") {
            sheets.push((index, size));
        }
    }
    if unpacked > TOTAL_BYTES_MAX {
        return Err(bomb(format!(
            "the workbook unpacks to {} GiB",
            unpacked >> 30
        )));
    }
    // Found out by unpacking them all it takes seconds.
    let promised = archive
        .by_name("xl/sharedStrings.xml")
        .ok()
        .and_then(shared_texts);
    if promised.is_some_and(|texts| texts.saturating_mul(SHARED_TEXT_BYTES) > memory_mib << 20) {
        return Err(needs_memory(memory_mib));
    }
    let Some(kind) = kind else {
        return Err(
            FormatError::malformed("the file is a zip archive but not a workbook")
                .hint("for zipped text use FORMAT CSV (compression = 'zip')"),
        );
    };
    let mut merged = kind != Kind::Xlsx;
    for (index, size) in sheets {
        merged = merged || mentions_merged_cells(&mut archive, index, size)?;
    }
    Ok(Workbook {
        kind,
        unpacked,
        merged,
    })
}

/// Merged cells stand behind all the rows of a sheet. Searching the unpacked bytes for them is
/// far cheaper than parsing, and most large sheets have none.
fn mentions_merged_cells(
    archive: &mut zip::ZipArchive<BufReader<File>>,
    index: usize,
    size: u64,
) -> Result<bool, FormatError> {
    let mut part = archive.by_index(index).map_err(damaged)?;
    let finder = memchr::memmem::Finder::new("<mergeCell ");
    let overlap = "<mergeCell ".len();
    let mut window = vec![0; 1 << 18];
    let mut kept = 0;
    let mut total = 0u64;
    loop {
        let count = part.read(&mut window[kept..]).map_err(damaged)?;
        if count == 0 {
            return Ok(false);
        }
        total += count as u64;
        if total > size {
            return Err(damaged("a sheet is larger than the archive says"));
        }
        let filled = kept + count;
        if finder.find(&window[..filled]).is_some() {
            return Ok(true);
        }
        kept = filled.min(overlap);
        window.copy_within(filled - kept..filled, 0);
    }
}
