//! Holds output rows to the pipeline's expectations and the target's constraints.
//!
//! A rule whose value is NULL is kept, as in CHECK. An expectation says itself what becomes of a row
//! that breaks it; a row that breaks NOT NULL, a CHECK or a length of the target is quarantined,
//! because the target must never hold it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use boathouse_catalog::definitions::TableDefinition;
use boathouse_catalog::types::ColumnType;
use boathouse_sql::statement::OnViolation;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

use super::row_plan::RowPlan;
use crate::error::{SqlError, SqlState};
use crate::query;

struct Rule {
    name: String,
    /// The column it is about, when it is about one.
    column: Option<String>,
    expression: Arc<dyn PhysicalExpr>,
    on_violation: OnViolation,
    sqlstate: SqlState,
    message: String,
}

/// The rules over one schema.
pub(super) struct Checks {
    rules: Vec<Rule>,
    not_null: Vec<(usize, String)>,
    lengths: Vec<(usize, String, usize)>,
}

/// A row that breaks a rule and is to be quarantined.
pub(super) struct Violation {
    pub row: usize,
    pub rule: Option<String>,
    pub column: Option<String>,
    pub sqlstate: SqlState,
    pub reason: String,
}

/// What the rules say of some rows.
#[derive(Default)]
pub(super) struct Verdict {
    /// Rows to keep; `None` keeps all.
    pub keep: Option<BooleanArray>,
    pub quarantined: Vec<Violation>,
    pub dropped: i64,
    pub warned: i64,
    /// The first warning of each rule, for the run's messages.
    pub warnings: Vec<(String, usize)>,
    /// A row for which the whole file has to fail.
    pub failed: Option<Violation>,
}

impl Checks {
    /// Plans the expectations over the output, or the constraints of a target over its columns.
    pub fn plan(
        plan: &RowPlan,
        fields: &SchemaRef,
        target: Option<&TableDefinition>,
    ) -> Result<Self, SqlError> {
        let schema = DFSchema::try_from(fields.as_ref().clone()).map_err(query::failure)?;
        let state = query::session_state(&plan.context);
        let compile = |expression: &boathouse_sql::ast::Expr, what: &str| {
            let planned = query::plan_expression(&plan.context, expression, &schema, None)?;
            let compiled = state
                .create_physical_expr(planned, &schema)
                .map_err(query::failure)?;
            match compiled.data_type(schema.as_arrow()) {
                Ok(DataType::Boolean | DataType::Null) => {
                    let mut columns = collect_columns(&compiled).into_iter();
                    let column = match (columns.next(), columns.next()) {
                        (Some(only), None) => Some(only.name().to_owned()),
                        _ => None,
                    };
                    Ok((compiled, column))
                }
                _ => Err(SqlError::new(
                    SqlState::DATATYPE_MISMATCH,
                    format!("argument of {what} must be type boolean"),
                )),
            }
        };
        let mut checks = Self {
            rules: Vec::new(),
            not_null: Vec::new(),
            lengths: Vec::new(),
        };
        let Some(target) = target else {
            for expectation in &plan.expectations {
                let (expression, column) = compile(&expectation.check, "EXPECT")?;
                checks.rules.push(Rule {
                    name: expectation.name.clone(),
                    column,
                    expression,
                    on_violation: expectation.on_violation,
                    sqlstate: SqlState::CHECK_VIOLATION,
                    message: format!("row violates expectation \"{}\"", expectation.name),
                });
            }
            return Ok(checks);
        };
        for check in &target.checks {
            let parsed = boathouse_sql::parse_expression(&check.expression)?;
            let (expression, column) = compile(&parsed, "CHECK")?;
            checks.rules.push(Rule {
                name: check.name.clone(),
                column,
                expression,
                on_violation: OnViolation::Quarantine,
                sqlstate: SqlState::CHECK_VIOLATION,
                message: format!(
                    "new row for relation \"{}\" violates check constraint \"{}\"",
                    target.name, check.name
                ),
            });
        }
        for (index, column) in target.columns.iter().enumerate() {
            if !column.nullable {
                checks.not_null.push((index, column.name.clone()));
            }
            if let ColumnType::Varchar(Some(limit)) | ColumnType::Char(limit) = column.column_type {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                checks.lengths.push((index, column.name.clone(), limit));
            }
        }
        Ok(checks)
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.not_null.is_empty() && self.lengths.is_empty()
    }

    pub fn judge(&self, batch: &RecordBatch) -> Verdict {
        let mut verdict = Verdict::default();
        if self.is_empty() || batch.num_rows() == 0 {
            return verdict;
        }
        let mut keep = vec![true; batch.num_rows()];
        for rule in &self.rules {
            evaluate(rule, batch, 0, &mut verdict, &mut keep);
        }
        for (index, name) in &self.not_null {
            let column = batch.column(*index);
            for row in (0..column.len()).filter(|row| column.is_null(*row)) {
                let reason =
                    format!("null value in column \"{name}\" violates not-null constraint");
                verdict.reject(row, name, SqlState::NOT_NULL_VIOLATION, reason, &mut keep);
            }
        }
        for (index, name, limit) in &self.lengths {
            let texts = batch.column(*index).as_string::<i32>();
            for row in 0..texts.len() {
                let too_long = texts.is_valid(row)
                    && texts.value(row).len() > *limit
                    && texts.value(row).chars().count() > *limit;
                if too_long {
                    let reason =
                        format!("value too long for column \"{name}\" of {limit} characters");
                    verdict.reject(row, name, SqlState("22001"), reason, &mut keep);
                }
            }
        }
        if keep.contains(&false) {
            verdict.keep = Some(BooleanArray::from(keep));
        }
        verdict
    }
}

/// Holds rows to a rule. A row for which it cannot be evaluated, found by halving, breaks it and is
/// set aside with the reason: whether it should be kept is not known.
fn evaluate(
    rule: &Rule,
    rows: &RecordBatch,
    first: usize,
    verdict: &mut Verdict,
    keep: &mut [bool],
) {
    let count = rows.num_rows();
    let holds = rule
        .expression
        .evaluate(rows)
        .and_then(|value| value.into_array(count));
    match holds {
        Ok(holds) => verdict.apply(rule, &holds, first, keep),
        Err(error) if count <= 1 => {
            if !keep[first] {
                return;
            }
            let error = query::failure(error);
            let violation = Violation {
                row: first,
                rule: Some(rule.name.clone()),
                column: rule.column.clone(),
                sqlstate: error.state,
                reason: format!("\"{}\" cannot be evaluated: {}", rule.name, error.message),
            };
            if rule.on_violation == OnViolation::Fail {
                verdict.failed.get_or_insert(violation);
            } else {
                keep[first] = false;
                verdict.quarantined.push(violation);
            }
        }
        Err(_) => {
            let half = count / 2;
            evaluate(rule, &rows.slice(0, half), first, verdict, keep);
            evaluate(
                rule,
                &rows.slice(half, count - half),
                first + half,
                verdict,
                keep,
            );
        }
    }
}

impl Verdict {
    fn apply(&mut self, rule: &Rule, holds: &ArrayRef, first: usize, keep: &mut [bool]) {
        let Some(holds) = holds.as_boolean_opt() else {
            return;
        };
        for index in 0..holds.len() {
            let row = first + index;
            if holds.is_null(index) || holds.value(index) || !keep[row] {
                continue;
            }
            let violation = || Violation {
                row,
                rule: Some(rule.name.clone()),
                column: rule.column.clone(),
                sqlstate: rule.sqlstate,
                reason: rule.message.clone(),
            };
            match rule.on_violation {
                OnViolation::Warn => {
                    self.warned += 1;
                    if !self.warnings.iter().any(|(name, _)| name == &rule.name) {
                        self.warnings.push((rule.name.clone(), row));
                    }
                }
                OnViolation::Drop => {
                    self.dropped += 1;
                    keep[row] = false;
                }
                OnViolation::Quarantine => {
                    self.quarantined.push(violation());
                    keep[row] = false;
                }
                OnViolation::Fail => {
                    self.failed.get_or_insert_with(violation);
                }
            }
        }
    }

    fn reject(
        &mut self,
        row: usize,
        column: &str,
        sqlstate: SqlState,
        reason: String,
        keep: &mut [bool],
    ) {
        if keep[row] {
            keep[row] = false;
            self.quarantined.push(Violation {
                row,
                rule: None,
                column: Some(column.to_owned()),
                sqlstate,
                reason,
            });
        }
    }
}
