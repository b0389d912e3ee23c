//! The text of a `.proto` file, and of those it imports, to the descriptor of a message.

use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::file::{File, FileResolver, GoogleFileResolver};

use super::super::schema::RecordName;
use super::super::schema_registry::ReferencedSchema;

/// What the file is called that nobody imports.
const MAIN: &str = "schema";

/// Brackets within brackets of a file, at most.
const NESTING_MAX: usize = 64;

/// Files that Confluent's serializers know without a reference.
const CONFLUENT: [(&str, &str); 2] = [
    (
        "confluent/meta.proto",
        r#"syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta {
  string doc = 1;
  map<string, string> params = 2;
  repeated string tags = 3;
}
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3";
package confluent.type;
message Decimal {
  bytes value = 1;
  uint32 precision = 2;
  int32 scale = 3;
}
"#,
    ),
];

struct Files<'s> {
    main: &'s str,
    references: &'s [ReferencedSchema],
}

impl Files<'_> {
    fn open(&self, name: &str) -> Result<File, String> {
        let mut references = self.references.iter();
        let text = if name == MAIN {
            Some(self.main)
        } else if let Some(found) = references.find(|reference| reference.name == name) {
            Some(found.text.as_str())
        } else {
            let known = CONFLUENT.iter().find(|(known, _)| *known == name);
            known.map(|(_, text)| *text)
        };
        let file = match text {
            Some(text) if nesting(text) > NESTING_MAX => {
                return Err(format!(
                    "it has more than {NESTING_MAX} brackets in each other"
                ));
            }
            Some(text) => File::from_source(name, text),
            None => GoogleFileResolver::new().open_file(name),
        };
        file.map_err(|error| error.to_string())
    }
}

/// Brackets within brackets. The parser goes as deep as they do.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' | b'<' | b'(' => depth += 1,
            b'}' | b']' | b'>' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The compiler keeps whoever opens files for it.
struct Opened(Vec<(String, File)>);

impl FileResolver for Opened {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().find(|(known, _)| known == name);
        match found {
            Some((_, file)) => Ok(file.clone()),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The message of a file, or why there is none.
pub(super) fn message(
    text: &str,
    references: &[ReferencedSchema],
    record: RecordName<'_>,
) -> Result<MessageDescriptor, String> {
    let files = Files {
        main: text,
        references,
    };
    let pool = pool(&files)?;
    let file = pool
        .get_file_by_name(MAIN)
        .ok_or_else(|| "it is no file of Protobuf".to_owned())?;
    match record {
        RecordName::Name(name) => {
            let known = || {
                let names = pool
                    .all_messages()
                    .filter(|message| message.parent_file() == file && !message.is_map_entry());
                let names: Vec<String> = names
                    .map(|message| format!("\"{}\"", message.full_name()))
                    .collect();
                names.join(", ")
            };
            pool.get_message_by_name(name)
                .ok_or_else(|| format!("it has no message \"{name}\", but {}", known()))
        }
        RecordName::Only => {
            let mut messages = file.messages();
            match (messages.next(), messages.next()) {
                (Some(only), None) => Ok(only),
                (Some(_), Some(_)) => {
                    Err("it has several messages; the option \"message\" names one".to_owned())
                }
                (None, _) => Err("it has no message".to_owned()),
            }
        }
        RecordName::Place(places) => {
            let (first, within) = places.split_first().unwrap_or((&0, &[]));
            let mut found = file.messages().nth(*first);
            for place in within {
                found = found.and_then(|message| message.child_messages().nth(*place));
            }
            found.ok_or_else(|| format!("it has no message at {places:?}"))
        }
    }
}

fn pool(files: &Files<'_>) -> Result<DescriptorPool, String> {
    let mut opened: Vec<(String, File)> = Vec::new();
    let mut wanted = vec![MAIN.to_owned()];
    while let Some(name) = wanted.pop() {
        if opened.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let file = files.open(&name)?;
        wanted.extend(file.file_descriptor_proto().dependency.iter().cloned());
        opened.push((name, file));
    }
    let mut compiler = protox::Compiler::with_file_resolver(Opened(opened));
    compiler.include_imports(true);
    compiler
        .open_file(MAIN)
        .map_err(|error| error.to_string())?;
    Ok(compiler.descriptor_pool())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"syntax = "proto3";
        package shop;
        import "shop/money.proto";
        import "google/protobuf/timestamp.proto";
        message Order { Money paid = 1; google.protobuf.Timestamp at = 2; message Line { int32 n = 1; } }
        message Other {}"#;

    fn found(record: RecordName<'_>) -> Result<String, String> {
        let references = [ReferencedSchema {
            name: "shop/money.proto".to_owned(),
            text: r#"syntax = "proto3"; package shop; import "confluent/meta.proto"; message Money { int64 cents = 1 [(confluent.field_meta) = { doc: "in cents" }]; }"#.to_owned(),
        }];
        message(ORDER, &references, record).map(|message| message.full_name().to_owned())
    }

    #[test]
    fn a_message_is_found_by_its_place_or_its_name() {
        let some = |name: &str| Ok(name.to_owned());
        assert_eq!(found(RecordName::Place(&[])), some("shop.Order"));
        assert_eq!(found(RecordName::Place(&[1])), some("shop.Other"));
        assert_eq!(found(RecordName::Place(&[0, 0])), some("shop.Order.Line"));
        assert_eq!(found(RecordName::Name("shop.Other")), some("shop.Other"));
        assert_eq!(
            found(RecordName::Place(&[2])).unwrap_err(),
            "it has no message at [2]"
        );
        assert_eq!(
            found(RecordName::Name("Order")).unwrap_err(),
            "it has no message \"Order\", but \"shop.Order\", \"shop.Order.Line\", \"shop.Other\""
        );
        assert!(found(RecordName::Only).unwrap_err().contains("several"));
    }

    #[test]
    fn a_chain_of_messages_may_be_long() {
        let mut text = "syntax = \"proto3\"; message M0 {}".to_owned();
        for index in 1..2_000 {
            text.push_str(&format!(" message M{index} {{ M{} m = 1; }}", index - 1));
        }
        let first = message(&text, &[], RecordName::Name("M1999")).unwrap();
        let plan = super::super::plan::ProtobufPlan::of(&first);
        assert_eq!(plan.messages.len(), 2_000);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let wrong = |text: &str| message(text, &[], RecordName::Only).unwrap_err();
        assert!(wrong("syntax = \"proto3\"; message {").contains("expected"));
        let missing = wrong("syntax = \"proto3\"; import \"a.proto\"; message A {}");
        assert!(missing.contains("a.proto"), "{missing}");
        let deep = format!("syntax = \"proto3\"; {}", "message A {".repeat(100_000));
        assert_eq!(wrong(&deep), "it has more than 64 brackets in each other");
        let unknown = wrong("syntax = \"proto3\"; message A { B b = 1; }");
        assert!(unknown.contains('B'), "{unknown}");
    }
}
