-- A file whose rows a full refresh took out of the table, because it was gone, counts as never met.
-- A quarantined row is superseded when its file was loaded anew: it waits for no replay any more.

DROP INDEX files_path;
ALTER TABLE files RENAME TO files_before;
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
    state TEXT NOT NULL CHECK (state IN ('loaded', 'failed', 'skipped', 'removed')),
    error TEXT,
    PRIMARY KEY (pipeline_id, sequence, path),
    FOREIGN KEY (pipeline_id, sequence) REFERENCES positions (pipeline_id, sequence)
        ON DELETE CASCADE
);
INSERT INTO files (pipeline_id, sequence, path, etag, modified_at, size, sheet_count, row_count,
                   rows_quarantined, run_id, state, error)
SELECT pipeline_id, sequence, path, etag, modified_at, size, sheet_count, row_count,
       rows_quarantined, run_id, state, error
FROM files_before;
DROP TABLE files_before;
CREATE INDEX files_path ON files (pipeline_id, path);

ALTER TABLE quarantine_replays ADD COLUMN superseded BIGINT NOT NULL DEFAULT 0;
