//! Holds new rows to a table's NOT NULL and CHECK constraints.
