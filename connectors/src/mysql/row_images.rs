//! Where the values of row images are.
//!
//! An event has its rows one after the other, and they are read column by column: how a column is stored is then
//! looked at once for all rows, and each value is a short way from the one before it in the same array.

use super::types::Frame;

/// A value's place among the images of an event; a NULL is at no place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub const NULL: Self = Self {
        start: u32::MAX,
        end: u32::MAX,
    };

    /// The value; `None` for NULL. Images of 4 GiB, which no server sends, have to be kept out.
    #[inline]
    pub fn of(self, images: &[u8]) -> Option<&[u8]> {
        images.get(self.start as usize..self.end as usize)
    }
}

/// A row image is shorter than its columns: the number of the first that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Truncated(pub usize);

/// Columns that share a byte of the bitmap of NULLs.
const GROUP: usize = 8;

/// How the columns of a table stand in a row image that has all of them.
pub(super) struct RowLayout {
    columns: usize,
    groups: Vec<Group>,
}

struct Group {
    frames: Vec<Frame>,
    /// Where values begin when none is NULL and none has a length before it, and where the last one ends.
    offsets: Option<[u32; GROUP + 1]>,
}

impl RowLayout {
    /// `None` for columns whose lengths take a number of bytes that none does.
    pub fn new(frames: &[Frame]) -> Option<Self> {
        let is_known = |frame: &Frame| match frame {
            Frame::Fixed(_) => true,
            Frame::Prefixed(prefix) => (1..=4).contains(prefix),
        };
        if !frames.iter().all(is_known) {
            return None;
        }
        let groups = frames.chunks(GROUP).map(|frames| Group {
            frames: frames.to_vec(),
            offsets: offsets(frames),
        });
        Some(Self {
            columns: frames.len(),
            groups: groups.collect(),
        })
    }

    /// Finds the values of the row image that begins at a place, and adds one span for each. Gives where the image
    /// ends.
    #[inline]
    pub fn locate(
        &self,
        images: &[u8],
        begin: usize,
        spans: &mut Vec<Span>,
    ) -> Result<usize, Truncated> {
        let base = spans.len();
        let mut at = begin + self.groups.len();
        let nulls = images.get(begin..at).ok_or(Truncated(0))?;
        spans.reserve(self.columns);
        for (nulls, group) in nulls.iter().zip(&self.groups) {
            match group.offsets {
                Some(offsets) if *nulls == 0 => {
                    let columns = group.frames.len();
                    let starts = offsets.iter().take(columns);
                    let ends = offsets.iter().skip(1);
                    spans.extend(starts.zip(ends).map(|(start, end)| Span {
                        start: (at as u32).wrapping_add(*start),
                        end: (at as u32).wrapping_add(*end),
                    }));
                    at += offsets[GROUP] as usize;
                }
                _ => {
                    let mut nulls = *nulls;
                    spans.extend(group.frames.iter().map(|frame| {
                        let is_null = nulls & 1 != 0;
                        nulls >>= 1;
                        span_at(*frame, images, is_null, &mut at)
                    }));
                }
            }
        }
        // Places only grow, so that one look tells of all of them.
        if at <= images.len() {
            return Ok(at);
        }
        let mut row = spans.iter().skip(base);
        // An end that does not fit into its bits is before the beginning.
        let first = row.position(|span| {
            span.start != Span::NULL.start
                && (span.end < span.start || span.end as usize > images.len())
        });
        Err(Truncated(first.unwrap_or(self.columns)))
    }

    /// The same for some columns alone, of each group of eight those whose bits are set.
    #[inline]
    pub fn locate_some(
        &self,
        images: &[u8],
        begin: usize,
        wanted: &[u8],
        spans: &mut Vec<Span>,
    ) -> Result<usize, Truncated> {
        let mut at = begin + self.groups.len();
        let nulls = images.get(begin..at).ok_or(Truncated(0))?;
        for (nulls, (group, wanted)) in nulls.iter().zip(self.groups.iter().zip(wanted)) {
            if let (Some(offsets), 0, 0) = (group.offsets, *nulls, *wanted) {
                at += offsets[GROUP] as usize;
                continue;
            }
            let (mut nulls, mut wanted) = (*nulls, *wanted);
            for frame in &group.frames {
                let span = span_at(*frame, images, nulls & 1 != 0, &mut at);
                if wanted & 1 != 0 {
                    spans.push(span);
                }
                nulls >>= 1;
                wanted >>= 1;
            }
        }
        match at <= images.len() {
            true => Ok(at),
            // Which column it is has to be looked for.
            false => self.locate(images, begin, &mut Vec::new()),
        }
    }
}

fn offsets(frames: &[Frame]) -> Option<[u32; GROUP + 1]> {
    let mut offsets = [0; GROUP + 1];
    let mut end = 0;
    for (index, frame) in frames.iter().enumerate() {
        let Frame::Fixed(length) = *frame else {
            return None;
        };
        end += u32::try_from(length).ok()?;
        offsets[index + 1] = end;
    }
    offsets[GROUP] = end;
    Some(offsets)
}

/// The value that begins at a place, which is moved to its end.
#[inline]
fn span_at(frame: Frame, images: &[u8], is_null: bool, at: &mut usize) -> Span {
    if is_null {
        return Span::NULL;
    }
    // Where a length is cut off, the value begins after the end.
    let (prefix, length) = match frame {
        Frame::Fixed(length) => (0, length),
        Frame::Prefixed(1) => {
            let length = images.get(*at).copied().unwrap_or_default();
            (1, usize::from(length))
        }
        Frame::Prefixed(prefix) => {
            let prefix = usize::from(prefix);
            let bytes = images.get(*at..*at + prefix).unwrap_or_default();
            let bytes = bytes.iter().rev();
            let length = bytes.fold(0, |length, byte| length << 8 | usize::from(*byte));
            (prefix, length)
        }
    };
    let start = *at + prefix;
    *at = start + length;
    Span {
        start: start as u32,
        end: *at as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: [Frame; 4] = [
        Frame::Fixed(2),
        Frame::Prefixed(1),
        Frame::Prefixed(2),
        Frame::Fixed(1),
    ];

    fn located(images: &[u8]) -> Result<Vec<Option<&[u8]>>, Truncated> {
        let layout = RowLayout::new(&FRAMES).unwrap();
        let (mut spans, mut at) = (Vec::new(), 0);
        while at < images.len() {
            at = layout.locate(images, at, &mut spans)?;
        }
        Ok(spans.iter().map(|span| span.of(images)).collect())
    }

    #[test]
    fn values_are_where_the_ones_before_them_end() {
        let images = b"\x00ab\x03xyz\x02\x00pqc\x0aab\x00\x00";
        let expected: [Option<&[u8]>; 8] = [
            Some(b"ab"),
            Some(b"xyz"),
            Some(b"pq"),
            Some(b"c"),
            Some(b"ab"),
            None,
            Some(b""),
            None,
        ];
        assert_eq!(located(images).unwrap(), expected);
    }

    #[test]
    fn groups_of_fixed_columns_are_found_at_once() {
        let mut frames = vec![Frame::Fixed(1); 11];
        frames[2] = Frame::Fixed(3);
        let layout = RowLayout::new(&frames).unwrap();
        let images = b"\x00\x00abCCCdefghijk\x02\x04aCCCdefghik\x00\x00ab";
        let mut spans = Vec::new();
        let second = layout.locate(images, 0, &mut spans).unwrap();
        let third = layout.locate(images, second, &mut spans).unwrap();
        let values = spans
            .iter()
            .map(|span| span.of(images).map(|value| value[0]));
        let values = values.map(|value| char::from(value.unwrap_or(b'-')));
        assert_eq!(values.collect::<String>(), "abCdefghijka-Cdefghik-");
        assert_eq!(images[third..], *b"\x00\x00ab");
        assert_eq!(layout.locate(images, third, &mut spans), Err(Truncated(2)));
    }

    #[test]
    fn some_columns_are_found_where_all_are() {
        let mut frames = vec![Frame::Fixed(2); 11];
        frames[1] = Frame::Prefixed(1);
        frames[9] = Frame::Prefixed(2);
        let layout = RowLayout::new(&frames).unwrap();
        let mut images = vec![0, 0, b'a', b'a', 3, b'x', b'y', b'z'];
        images.extend(b"ccddeeffgghhii\x02\x00pqkk");
        let second = images.len();
        images.extend(b"\x02\x06aaccddeeffgghhii");
        for begin in [0, second] {
            let mut all = Vec::new();
            let end = layout.locate(&images, begin, &mut all).unwrap();
            for wanted in 0..1_u16 << 11 {
                let [low, high] = wanted.to_le_bytes();
                let mut some = Vec::new();
                let found = layout.locate_some(&images, begin, &[low, high], &mut some);
                assert_eq!(found, Ok(end));
                let places = (0..11).filter(|place| wanted >> place & 1 != 0);
                let expected = places.map(|place| all[place].of(&images));
                let some = some.iter().map(|span| span.of(&images));
                assert!(some.eq(expected), "{wanted:b}");
            }
        }
        for length in 0..second {
            let cut = &images[..length];
            let all = layout.locate(cut, 0, &mut Vec::new());
            let some = layout.locate_some(cut, 0, &[1, 0], &mut Vec::new());
            assert_eq!(some, all, "{length}");
        }
    }

    #[test]
    fn lengths_of_unknown_width_are_not_read() {
        assert!(RowLayout::new(&[Frame::Prefixed(4)]).is_some());
        for prefix in [0, 5, 255] {
            assert!(RowLayout::new(&[Frame::Prefixed(prefix)]).is_none());
        }
    }

    #[test]
    fn a_length_beyond_all_images_is_truncated() {
        let mut frames = vec![Frame::Prefixed(4); 8];
        frames.extend([Frame::Fixed(8); 8]);
        let layout = RowLayout::new(&frames).unwrap();
        let mut images = vec![0xFE, 0];
        images.extend([0xFF; 40]);
        let located = layout.locate(&images, 0, &mut Vec::new());
        assert_eq!(located, Err(Truncated(0)));
    }

    #[test]
    fn what_is_cut_off_anywhere_is_truncated() {
        let whole = b"\x00ab\x03xyz\x02\x00pqc";
        let columns = (1..whole.len()).map(|length| located(&whole[..length]).unwrap_err().0);
        assert_eq!(
            columns.collect::<Vec<_>>(),
            [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]
        );
    }
}
