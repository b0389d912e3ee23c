//! The fields of a message's bytes.

/// A field's value as it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wire<'m> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'m [u8]),
    /// What is between the beginning and the end of a group.
    Group(&'m [u8]),
}

/// Groups within groups.
const DEPTH_MAX: usize = 100;

fn truncated() -> String {
    "it ends within a field".to_owned()
}

/// A number of up to ten bytes.
#[inline]
pub(super) fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    if let [byte, after @ ..] = *rest
        && *byte < 0x80
    {
        *rest = after;
        return Ok(u64::from(*byte));
    }
    let mut value = 0_u64;
    for (index, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    match rest.len() < 10 {
        true => Err(truncated()),
        false => Err("a number has too many bytes".to_owned()),
    }
}

pub(super) fn fixed32(rest: &mut &[u8]) -> Result<u32, String> {
    let (bytes, after) = rest.split_first_chunk::<4>().ok_or_else(truncated)?;
    *rest = after;
    Ok(u32::from_le_bytes(*bytes))
}

pub(super) fn fixed64(rest: &mut &[u8]) -> Result<u64, String> {
    let (bytes, after) = rest.split_first_chunk::<8>().ok_or_else(truncated)?;
    *rest = after;
    Ok(u64::from_le_bytes(*bytes))
}

/// The next field: its number and its value.
#[inline]
pub(super) fn field<'m>(rest: &mut &'m [u8]) -> Result<(u32, Wire<'m>), String> {
    field_within(rest, 0)
}

fn field_within<'m>(rest: &mut &'m [u8], depth: usize) -> Result<(u32, Wire<'m>), String> {
    let (number, kind) = tag(rest)?;
    let value = match kind {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(fixed64(rest)?),
        2 => {
            let count = varint(rest)?;
            let count = usize::try_from(count).map_err(|_| truncated())?;
            let (bytes, after) = rest.split_at_checked(count).ok_or_else(truncated)?;
            *rest = after;
            Wire::Bytes(bytes)
        }
        3 => Wire::Group(group(rest, number, depth)?),
        5 => Wire::Fixed32(fixed32(rest)?),
        4 => return Err(format!("group {number} ends that did not begin")),
        kind => return Err(format!("field {number} is of the unknown kind {kind}")),
    };
    Ok((number, value))
}

fn tag(rest: &mut &[u8]) -> Result<(u32, u64), String> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).unwrap_or(0);
    if !(1..1 << 29).contains(&number) {
        return Err("a field has no number that fields can have".to_owned());
    }
    Ok((number, tag & 7))
}

fn group<'m>(rest: &mut &'m [u8], number: u32, depth: usize) -> Result<&'m [u8], String> {
    if depth > DEPTH_MAX {
        return Err(format!("groups lie more than {DEPTH_MAX} deep"));
    }
    let whole = *rest;
    loop {
        let inner = whole.len() - rest.len();
        let mut after = *rest;
        if let (ended, 4) = tag(&mut after)? {
            if ended != number {
                return Err(format!("group {number} ends as group {ended}"));
            }
            *rest = after;
            return Ok(&whole[..inner]);
        }
        field_within(rest, depth + 1)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_one_by_one() {
        let bytes = [
            0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0,
            0, 0x2b, 0x08, 0x01, 0x2c,
        ];
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            found.push(field(&mut rest).unwrap());
        }
        assert_eq!(
            found,
            [
                (1, Wire::Varint(150)),
                (2, Wire::Bytes(b"hi")),
                (3, Wire::Fixed32(1)),
                (4, Wire::Fixed64(2)),
                (5, Wire::Group(&[0x08, 0x01])),
            ]
        );
    }

    #[test]
    fn bytes_that_are_no_field_are_refused() {
        let reason = |bytes: &[u8]| field(&mut &bytes[..]).unwrap_err();
        assert_eq!(reason(&[0x12, 0x05, b'a']), "it ends within a field");
        assert_eq!(reason(&[0x1d, 1]), "it ends within a field");
        assert_eq!(reason(&[0x08, 0x80]), "it ends within a field");
        assert_eq!(
            reason(&[0, 0]),
            "a field has no number that fields can have"
        );
        assert_eq!(reason(&[0x0f]), "field 1 is of the unknown kind 7");
        assert_eq!(reason(&[0x0c]), "group 1 ends that did not begin");
        assert_eq!(reason(&[0x0b, 0x14]), "group 1 ends as group 2");
        assert_eq!(reason(&[0xff; 11]), "a number has too many bytes");
        assert_eq!(reason(&[0x0b; 200]), "groups lie more than 100 deep");
    }
}
