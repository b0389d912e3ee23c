-- What a pipeline knows of the tables it captures from a database: one row for each, by the name it has there.
-- The next state becomes true with the commit of its sequence, as positions do.

CREATE TABLE captures (
    pipeline_id BIGINT NOT NULL REFERENCES pipelines (id) ON DELETE CASCADE,
    source TEXT NOT NULL,
    state TEXT NOT NULL,
    next_state TEXT,
    next_sequence BIGINT,
    PRIMARY KEY (pipeline_id, source)
);
