-- One text for SQLite and PostgreSQL: BIGINT and TEXT are understood alike by both and by the
-- driver. Booleans are 0 and 1, times are microseconds since 1970 in UTC.

CREATE TABLE catalog_state (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    -- Grows by one with every committed change of a definition; its row lock orders the commits.
    version BIGINT NOT NULL,
    -- A known value sealed with the master key, to notice a wrong key.
    key_check TEXT,
    database_comment TEXT
);
INSERT INTO catalog_state (id, version) VALUES (1, 1);

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    next_value BIGINT NOT NULL,
    -- Object ids are shown as OIDs, which have 32 bits.
    CHECK (name <> 'object' OR next_value <= 4294967295)
);
INSERT INTO counters (name, next_value) VALUES ('object', 16384), ('run', 1);

-- Every object of any kind, so that an id is used once and a grant refers to something.
CREATE TABLE objects (
    id BIGINT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN (
        'public', 'database', 'schema', 'table', 'view', 'connection', 'secret', 'pipeline', 'role'
    ))
);

CREATE TABLE roles (
    id BIGINT PRIMARY KEY REFERENCES objects (id),
    name TEXT NOT NULL UNIQUE,
    superuser BIGINT NOT NULL,
    login BIGINT NOT NULL,
    inherit BIGINT NOT NULL,
    create_role BIGINT NOT NULL,
    create_database BIGINT NOT NULL,
    connection_limit BIGINT NOT NULL,
    valid_until BIGINT,
    verifier TEXT,
    settings TEXT NOT NULL,
    description TEXT
);

CREATE TABLE role_members (
    role_id BIGINT NOT NULL REFERENCES roles (id),
    member_id BIGINT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    PRIMARY KEY (member_id, role_id)
);
CREATE INDEX role_members_role ON role_members (role_id);

CREATE TABLE schemas (
    id BIGINT PRIMARY KEY REFERENCES objects (id),
    name TEXT NOT NULL UNIQUE,
    owner_id BIGINT NOT NULL REFERENCES roles (id),
    description TEXT
);

-- Tables and views, which share their names.
CREATE TABLE relations (
    id BIGINT PRIMARY KEY REFERENCES objects (id),
    schema_id BIGINT NOT NULL REFERENCES schemas (id),
    name TEXT NOT NULL,
    owner_id BIGINT NOT NULL REFERENCES roles (id),
    kind TEXT NOT NULL CHECK (kind IN ('table', 'view')),
    definition TEXT NOT NULL,
    UNIQUE (schema_id, name)
);

CREATE TABLE connections (
    id BIGINT PRIMARY KEY REFERENCES objects (id),
    name TEXT NOT NULL UNIQUE,
    owner_id BIGINT NOT NULL REFERENCES roles (id),
    definition TEXT NOT NULL
);

CREATE TABLE secrets (
    id BIGINT PRIMARY KEY REFERENCES objects (id),
    name TEXT NOT NULL UNIQUE,
    owner_id BIGINT NOT NULL REFERENCES roles (id),
    ciphertext TEXT NOT NULL,
    description TEXT
);

CREATE TABLE pipelines (
    id BIGINT PRIMARY KEY REFERENCES objects (id),
    name TEXT NOT NULL UNIQUE,
    owner_id BIGINT NOT NULL REFERENCES roles (id),
    paused BIGINT NOT NULL,
    definition TEXT NOT NULL
);

CREATE TABLE grants (
    object_id BIGINT NOT NULL REFERENCES objects (id) ON DELETE CASCADE,
    -- A role, or object 0, which is everyone.
    grantee_id BIGINT NOT NULL REFERENCES objects (id),
    privilege TEXT NOT NULL,
    grantable BIGINT NOT NULL,
    PRIMARY KEY (object_id, grantee_id, privilege)
);
CREATE INDEX grants_grantee ON grants (grantee_id);

-- What every catalog begins with. Ids are PostgreSQL's where it has the same object.
INSERT INTO objects (id, kind) VALUES
    (0, 'public'), (1, 'database'),
    (10, 'role'), (3373, 'role'), (4569, 'role'), (4570, 'role'), (6181, 'role'), (6182, 'role'),
    (11, 'schema'), (2200, 'schema'), (13000, 'schema'), (13001, 'schema');

INSERT INTO roles (
    id, name, superuser, login, inherit, create_role, create_database, connection_limit, settings
) VALUES
    (10, 'boathouse', 1, 1, 1, 1, 1, -1, '{}'),
    (3373, 'pg_monitor', 0, 0, 1, 0, 0, -1, '{}'),
    (4569, 'pg_read_server_files', 0, 0, 1, 0, 0, -1, '{}'),
    (4570, 'pg_write_server_files', 0, 0, 1, 0, 0, -1, '{}'),
    (6181, 'pg_read_all_data', 0, 0, 1, 0, 0, -1, '{}'),
    (6182, 'pg_write_all_data', 0, 0, 1, 0, 0, -1, '{}');

INSERT INTO schemas (id, name, owner_id, description) VALUES
    (11, 'pg_catalog', 10, 'system catalog schema'),
    (2200, 'public', 10, 'standard public schema'),
    (13000, 'information_schema', 10, NULL),
    (13001, 'system', 10, 'what this server and its pipelines did');

INSERT INTO grants (object_id, grantee_id, privilege, grantable) VALUES
    (1, 0, 'CONNECT', 0), (1, 0, 'TEMPORARY', 0),
    (11, 0, 'USAGE', 0), (2200, 0, 'USAGE', 0), (13000, 0, 'USAGE', 0), (13001, 0, 'USAGE', 0);
