//! x
use crate::relation::Relation;
pub static RELATIONS: &[Relation] = &[];
