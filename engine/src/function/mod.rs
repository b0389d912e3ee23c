//! PostgreSQL's functions, one file per family.
