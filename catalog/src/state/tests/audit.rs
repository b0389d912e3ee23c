//! The audit log.

use super::*;

#[test]
fn the_audit_log_tells_what_was_done_in_order() {
    on_both(async |database: TestDatabase| {
        let catalog = database.open().await;
        let entry = |statement: &str| AuditEntry {
            at: DateTime::from_timestamp_micros(1_750_000_000_000_001).unwrap(),
            role: "ada".to_owned(),
            statement_kind: "CREATE TABLE".to_owned(),
            statement: statement.to_owned(),
            outcome: "00000".to_owned(),
        };
        for number in 0..20 {
            catalog
                .audit_log()
                .append(entry(&format!("CREATE TABLE t{number} ()")))
                .await
                .unwrap();
        }
        let entries = catalog.audit_log().list(Some(2)).await.unwrap();
        assert_eq!(
            entries,
            [entry("CREATE TABLE t19 ()"), entry("CREATE TABLE t18 ()")]
        );
        assert_eq!(catalog.audit_log().list(None).await.unwrap().len(), 20);
    });
}
