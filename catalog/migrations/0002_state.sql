-- What is recorded while pipelines run. All but the runs go with their pipeline.

CREATE TABLE runs (
    id BIGINT PRIMARY KEY,
    -- No reference: runs outlive their pipeline.
    pipeline_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    triggered_by TEXT NOT NULL,
    server TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled')),
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    files_total BIGINT NOT NULL DEFAULT 0,
    files_done BIGINT NOT NULL DEFAULT 0,
    rows_in BIGINT NOT NULL DEFAULT 0,
    rows_out BIGINT NOT NULL DEFAULT 0,
    rows_dropped BIGINT NOT NULL DEFAULT 0,
    rows_quarantined BIGINT NOT NULL DEFAULT 0,
    rows_warned BIGINT NOT NULL DEFAULT 0,
    bytes_in BIGINT NOT NULL DEFAULT 0,
    error_count BIGINT NOT NULL DEFAULT 0,
    sqlstate TEXT,
    message TEXT,
    detail TEXT,
    hint TEXT
);
CREATE INDEX runs_pipeline ON runs (pipeline_id, id);
CREATE INDEX runs_server ON runs (server, state);

CREATE TABLE run_errors (
    run_id BIGINT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('warning', 'error')),
    sqlstate TEXT NOT NULL,
    message TEXT NOT NULL,
    file_path TEXT,
    sheet TEXT,
    row_number BIGINT,
    column_name TEXT,
    hint TEXT,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE pipeline_sequences (
    pipeline_id BIGINT PRIMARY KEY REFERENCES pipelines (id) ON DELETE CASCADE,
    last_sequence BIGINT NOT NULL
);

-- 'noted' carries records that belong to no commit of the table.
CREATE TABLE positions (
    pipeline_id BIGINT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    sequence BIGINT NOT NULL,
    attempt TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'committed', 'abandoned', 'noted')),
    source_position TEXT NOT NULL,
    prepared_at BIGINT NOT NULL,
    resolved_at BIGINT,
    PRIMARY KEY (pipeline_id, sequence)
);
CREATE INDEX positions_state ON positions (pipeline_id, state, sequence);

CREATE TABLE files (
    pipeline_id BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    path TEXT NOT NULL,
    etag TEXT,
    modified_at BIGINT,
    size BIGINT NOT NULL,
    sheet_count BIGINT,
    row_count BIGINT NOT NULL,
    rows_quarantined BIGINT NOT NULL,
    run_id BIGINT,
    state TEXT NOT NULL CHECK (state IN ('loaded', 'failed', 'skipped')),
    error TEXT,
    PRIMARY KEY (pipeline_id, sequence, path),
    FOREIGN KEY (pipeline_id, sequence) REFERENCES positions (pipeline_id, sequence)
        ON DELETE CASCADE
);
CREATE INDEX files_path ON files (pipeline_id, path);

CREATE TABLE quarantine_files (
    pipeline_id BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    path TEXT NOT NULL,
    row_count BIGINT NOT NULL,
    PRIMARY KEY (pipeline_id, sequence, path),
    FOREIGN KEY (pipeline_id, sequence) REFERENCES positions (pipeline_id, sequence)
        ON DELETE CASCADE
);

CREATE TABLE quarantine_replays (
    pipeline_id BIGINT NOT NULL,
    -- Where the row was quarantined, and the sequence that loads it after all.
    sequence BIGINT NOT NULL,
    row_id BIGINT NOT NULL,
    replayed_by BIGINT NOT NULL,
    PRIMARY KEY (pipeline_id, replayed_by, sequence, row_id),
    FOREIGN KEY (pipeline_id, replayed_by) REFERENCES positions (pipeline_id, sequence)
        ON DELETE CASCADE
);

CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    fencing BIGINT NOT NULL,
    -- Milliseconds since 1970 by the database's clock.
    expires_at BIGINT NOT NULL
);

CREATE TABLE audit_log (
    -- A version 7 UUID, so that entries sort by time.
    id TEXT PRIMARY KEY,
    recorded_at BIGINT NOT NULL,
    role TEXT NOT NULL,
    statement_kind TEXT NOT NULL,
    statement TEXT NOT NULL,
    outcome TEXT NOT NULL
);
