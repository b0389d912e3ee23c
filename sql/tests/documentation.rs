//! Every example of the reference parses, except those that are there to fail.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use boathouse_sql::parse;

#[test]
fn every_example_of_the_reference_parses() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../docs/reference");
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let page = std::fs::read_to_string(&path).unwrap();
        for example in page.split("```sql\n").skip(1) {
            let sql = example.split("```").next().unwrap();
            if let Err(error) = parse(sql) {
                panic!("{}: {error:?}\n{sql}", path.display());
            }
            examples += 1;
        }
    }
    assert!(examples > 30, "only {examples} examples were found");
}
