//! The only place that speaks SQL to the catalog's database.

pub(crate) mod ids;
