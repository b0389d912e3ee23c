//! What the server answers, appended to a buffer that the connection flushes.
//!
//! Rows are not here: [`crate::wire::rows`] writes whole batches of them.

use super::Report;

/// One column of a `RowDescription`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDescription<'a> {
    pub name: &'a str,
    pub type_oid: u32,
    pub type_length: i16,
    pub type_modifier: i32,
    pub binary: bool,
}

/// Appends one message of `kind` whose body `write` appends.
fn message(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Text with its closing zero; a zero inside would end it early for the client.
fn text(out: &mut Vec<u8>, value: &str) {
    out.extend(value.bytes().filter(|&byte| byte != 0));
    out.push(0);
}

fn int32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn int16(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub fn authentication_ok(out: &mut Vec<u8>) {
    message(out, b'R', |out| int32(out, 0));
}

pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) {
    message(out, b'R', |out| {
        int32(out, 10);
        for mechanism in mechanisms {
            text(out, mechanism);
        }
        out.push(0);
    });
}

pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &str) {
    message(out, b'R', |out| {
        int32(out, 11);
        out.extend_from_slice(data.as_bytes());
    });
}

pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &str) {
    message(out, b'R', |out| {
        int32(out, 12);
        out.extend_from_slice(data.as_bytes());
    });
}

/// Tells the newest minor version spoken here and the options not known.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, minor: i32, unknown: &[&str]) {
    message(out, b'v', |out| {
        int32(out, (3 << 16) | minor);
        int32(out, unknown.len() as i32);
        for option in unknown {
            text(out, option);
        }
    });
}

pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

pub fn backend_key_data(out: &mut Vec<u8>, process_id: i32, secret: i32) {
    message(out, b'K', |out| {
        int32(out, process_id);
        int32(out, secret);
    });
}

/// `I` idle, `T` in a transaction, `E` in a failed one.
pub fn ready_for_query(out: &mut Vec<u8>, status: u8) {
    message(out, b'Z', |out| out.push(status));
}

pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| text(out, tag));
}

pub fn empty_query_response(out: &mut Vec<u8>) {
    message(out, b'I', |_| {});
}

pub fn parse_complete(out: &mut Vec<u8>) {
    message(out, b'1', |_| {});
}

pub fn bind_complete(out: &mut Vec<u8>) {
    message(out, b'2', |_| {});
}

pub fn close_complete(out: &mut Vec<u8>) {
    message(out, b'3', |_| {});
}

pub fn portal_suspended(out: &mut Vec<u8>) {
    message(out, b's', |_| {});
}

pub fn no_data(out: &mut Vec<u8>) {
    message(out, b'n', |_| {});
}

pub fn parameter_description(out: &mut Vec<u8>, types: &[u32]) {
    message(out, b't', |out| {
        int16(out, types.len() as i16);
        for oid in types {
            int32(out, *oid as i32);
        }
    });
}

pub fn row_description(out: &mut Vec<u8>, columns: &[ColumnDescription<'_>]) {
    message(out, b'T', |out| {
        int16(out, columns.len() as i16);
        for column in columns {
            text(out, column.name);
            int32(out, 0);
            int16(out, 0);
            int32(out, column.type_oid as i32);
            int16(out, column.type_length);
            int32(out, column.type_modifier);
            int16(out, i16::from(column.binary));
        }
    });
}

/// The direction of a COPY, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    In,
    Out,
}

pub fn copy_response(out: &mut Vec<u8>, direction: CopyDirection, binary: bool, columns: usize) {
    let kind = match direction {
        CopyDirection::In => b'G',
        CopyDirection::Out => b'H',
    };
    message(out, kind, |out| {
        out.push(u8::from(binary));
        int16(out, columns as i16);
        for _ in 0..columns {
            int16(out, i16::from(binary));
        }
    });
}

pub fn copy_done(out: &mut Vec<u8>) {
    message(out, b'c', |_| {});
}

pub fn error_response(out: &mut Vec<u8>, report: &Report) {
    message(out, b'E', |out| report_fields(out, report));
}

pub fn notice_response(out: &mut Vec<u8>, report: &Report) {
    message(out, b'N', |out| report_fields(out, report));
}

fn report_fields(out: &mut Vec<u8>, report: &Report) {
    let position = report.position.map(|position| position.to_string());
    let fields = [
        (b'S', Some(report.severity)),
        (b'V', Some(report.severity)),
        (b'C', Some(report.state)),
        (b'M', Some(report.message.as_str())),
        (b'D', report.detail.as_deref()),
        (b'H', report.hint.as_deref()),
        (b'P', position.as_deref()),
    ];
    for (code, value) in fields {
        if let Some(value) = value {
            out.push(code);
            text(out, value);
        }
    }
    out.push(0);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn an_error_has_every_field_it_was_given() {
        let mut out = Vec::new();
        let mut report = Report::error("42601", "syntax error at or near \"x\0\"").hint("leave it");
        report.position = Some(8);
        error_response(&mut out, &report);
        expect![[
            r#"E\0\0\0DSERROR\0VERROR\0C42601\0Msyntax error at or near \"x\"\0Hleave it\0P8\0\0"#
        ]]
        .assert_eq(&out.escape_ascii().to_string().replace("\\x00", "\\0"));
    }
}
