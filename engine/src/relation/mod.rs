//! The relations nobody created: `pg_catalog`, `information_schema`, `system`. One file each.
