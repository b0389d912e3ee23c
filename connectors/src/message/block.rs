//! Messages side by side in one piece of memory.

use std::hash::Hasher;
use std::ops::Range;

use serde_json::Value;

use crate::value::column;

/// Some messages of some partitions. Those of one partition are in the order of their offsets.
#[derive(Debug, Default)]
pub struct MessageBlock {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    ends: Vec<PartitionEnd>,
}

/// All of a partition that was there at some time since reading began is in this block or an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEnd {
    pub partition: u32,
    /// Reading goes on at this offset, when it is known: what no message can be read at is passed over.
    pub offset: Option<i64>,
}

#[derive(Debug, Default)]
struct Entry {
    partition: u32,
    offset: i64,
    timestamp: i64,
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
    headers: Option<Range<usize>>,
}

/// A message of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The number of its partition with whoever reads.
    pub partition: u32,
    pub offset: i64,
    /// Milliseconds since 1970; -1 when there is none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub payload: Option<&'a [u8]>,
    /// A JSON object, see [`MessageBlockBuilder::header`].
    pub headers: Option<&'a str>,
}

impl MessageBlock {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys, payloads and headers.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn ends(&self) -> &[PartitionEnd] {
        &self.ends
    }

    fn message_of<'a>(&'a self, entry: &'a Entry) -> Message<'a> {
        let part = |range: &Option<Range<usize>>| {
            let range = range.clone()?;
            self.bytes.get(range)
        };
        Message {
            partition: entry.partition,
            offset: entry.offset,
            timestamp: entry.timestamp,
            key: part(&entry.key),
            payload: part(&entry.payload),
            headers: part(&entry.headers).and_then(|json| std::str::from_utf8(json).ok()),
        }
    }

    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        self.entries.get(index).map(|entry| self.message_of(entry))
    }

    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.entries.iter().map(|entry| self.message_of(entry))
    }

    /// The messages that `keep` says are to be kept, and all ends.
    pub fn filtered(mut self, mut keep: impl FnMut(&Message<'_>) -> bool) -> Self {
        let entries = std::mem::take(&mut self.entries);
        let kept = entries
            .into_iter()
            .filter(|entry| keep(&self.message_of(entry)))
            .collect();
        self.entries = kept;
        self
    }
}

/// Tells messages apart that have the same offset: one of a topic that was made again from the one there was.
pub fn fingerprint(message: &Message<'_>) -> u64 {
    // Stable over versions of this program and machines, as far as that library is.
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write_i64(message.timestamp);
    for part in [message.key, message.payload] {
        hasher.write_u64(part.map_or(u64::MAX, |part| part.len() as u64));
        hasher.write(part.unwrap_or_default());
    }
    hasher.finish()
}

/// A block under construction.
#[derive(Debug, Default)]
pub struct MessageBlockBuilder {
    block: MessageBlock,
    open: Entry,
    headers: Vec<(String, Value)>,
}

impl MessageBlockBuilder {
    /// Messages so far.
    pub fn messages(&self) -> usize {
        self.block.len()
    }

    pub fn bytes(&self) -> usize {
        self.block.bytes.len()
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.block.entries.is_empty() && self.block.ends.is_empty()
    }

    /// Begins a message.
    pub fn begin(&mut self, partition: u32, offset: i64, timestamp: i64) {
        self.open = Entry {
            partition,
            offset,
            timestamp,
            ..Entry::default()
        };
    }

    pub fn key(&mut self, key: &[u8]) {
        self.open.key = Some(self.append(key));
    }

    pub fn payload(&mut self, payload: &[u8]) {
        self.open.payload = Some(self.append(payload));
    }

    /// A header. A value that is no text is written `\x...`, as `bytea` is; the values of a name that is there several
    /// times are an array.
    pub fn header(&mut self, name: &str, value: Option<&[u8]>) {
        let value = match value.map(std::str::from_utf8) {
            None => Value::Null,
            Some(Ok(text)) => Value::from(text),
            Some(Err(_)) => Value::from(hexadecimal(value.unwrap_or_default())),
        };
        self.headers.push((name.to_owned(), value));
    }

    /// Ends a message whose headers are a JSON object already.
    pub fn finish_message_with(&mut self, headers: Option<&str>) {
        if let Some(headers) = headers {
            self.open.headers = Some(self.append(headers.as_bytes()));
        }
        self.finish_message();
    }

    pub fn finish_message(&mut self) {
        if !self.headers.is_empty() {
            let mut object = serde_json::Map::new();
            for (name, value) in self.headers.drain(..) {
                match object.get_mut(&name) {
                    None => {
                        object.insert(name, value);
                    }
                    Some(Value::Array(values)) => values.push(value),
                    Some(known) => *known = Value::Array(vec![known.take(), value]),
                }
            }
            let json = Value::Object(object).to_string();
            self.open.headers = Some(self.append(json.as_bytes()));
        }
        self.block.entries.push(std::mem::take(&mut self.open));
    }

    /// The end of a partition was met after the messages so far.
    pub fn end(&mut self, partition: u32, offset: Option<i64>) {
        self.block.ends.push(PartitionEnd { partition, offset });
    }

    /// Gives the block out, and begins one that is expected to be like it.
    pub fn take(&mut self) -> MessageBlock {
        let (bytes, entries) = (self.block.bytes.len(), self.block.entries.len());
        let expected = Self {
            block: MessageBlock {
                bytes: Vec::with_capacity(bytes + bytes / 8),
                entries: Vec::with_capacity(entries),
                ends: Vec::new(),
            },
            ..Self::default()
        };
        std::mem::replace(self, expected).finish()
    }

    pub fn finish(mut self) -> MessageBlock {
        // It may have been expected to be a large one.
        if self.block.bytes.len() < self.block.bytes.capacity() / 2 {
            self.block.bytes.shrink_to_fit();
            self.block.entries.shrink_to_fit();
        }
        self.block
    }

    fn append(&mut self, part: &[u8]) -> Range<usize> {
        let start = self.block.bytes.len();
        self.block.bytes.extend_from_slice(part);
        start..self.block.bytes.len()
    }
}

/// Bytes as PostgreSQL prints them.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    column::hexadecimal(&mut text, bytes);
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A block of payloads of one partition.
    pub fn block_of(payloads: &[Option<&[u8]>]) -> MessageBlock {
        let mut builder = MessageBlockBuilder::default();
        for (offset, payload) in (0..).zip(payloads) {
            builder.begin(0, offset, 1_700_000_000_000 + offset);
            builder.key(format!("key {offset}").as_bytes());
            if let Some(payload) = payload {
                builder.payload(payload);
            }
            builder.finish_message();
        }
        builder.finish()
    }

    #[test]
    fn headers_are_an_object_whatever_their_values_are() {
        let mut builder = MessageBlockBuilder::default();
        builder.begin(3, 7, -1);
        builder.header("trace", Some(b"a\"b"));
        builder.header("raw", Some(&[0xff, 0x00]));
        builder.header("none", None);
        builder.header("trace", Some(b"c"));
        builder.finish_message();
        let block = builder.finish();
        assert_eq!(
            block.get(0).unwrap().headers,
            Some(r#"{"trace":["a\"b","c"],"raw":"\\xff00","none":null}"#)
        );
    }

    #[test]
    fn a_message_without_a_payload_differs_from_one_with_an_empty_one() {
        let block = block_of(&[None, Some(b"")]);
        assert_eq!(block.get(0).unwrap().payload, None);
        assert_eq!(block.get(1).unwrap().payload, Some(&b""[..]));
    }

    #[test]
    fn a_fingerprint_is_of_time_key_and_payload() {
        let block = block_of(&[Some(b"a")]);
        let message = block.get(0).unwrap();
        let same = Message {
            offset: 9,
            ..message
        };
        let later = Message {
            timestamp: message.timestamp + 1,
            ..message
        };
        assert_eq!(fingerprint(&message), fingerprint(&same));
        assert_ne!(fingerprint(&message), fingerprint(&later));
        let none = Message {
            payload: None,
            ..message
        };
        let empty = Message {
            payload: Some(b""),
            ..message
        };
        assert_ne!(fingerprint(&none), fingerprint(&empty));
    }
}
