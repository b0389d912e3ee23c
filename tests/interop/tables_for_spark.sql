-- Tables that Boathouse writes for Spark to read, in the form of spark_tables.sql: here the statements are
-- Boathouse's, and both read the same.

== every type
CREATE TABLE $t (id integer, flag boolean, small smallint, large bigint, n numeric(38,10), m numeric(5,2), f real, d double precision,
  x text, v varchar(5), y bytea, day date, clock time, plain timestamp, moment timestamptz, u uuid, j json, b jsonb,
  l integer[], t text[], e date[], k numeric(5,1)[], o timestamptz[])
INSERT INTO $t VALUES
  (1, true, -32768, -9223372036854775808, 1234567890123456789012345678.0123456789, -999.99, -1.5, 1e300, 'naïve', 'abc', '\x00ff',
   '0001-01-01', '01:02:03.000004', '0001-01-01', '0001-01-01 00:00:00Z', '018f3f2e-0000-7000-8000-000000000001', '{"a" : 1}',
   '{"a": 1}', '{1,NULL}', '{a,NULL,"b c","","NULL"}', '{2024-02-29}', '{1.5,NULL}', '{"9999-12-31 23:59:59.999999Z"}'),
  (2, false, 32767, 9223372036854775807, -0.0000000001, 0, 3.25, -0.25, '', '', '',
   '9999-12-31', '23:59:59.999999', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999Z', NULL, '[]', '[]', '{}', '{}', '{}', '{}', '{}')
INSERT INTO $t (id) VALUES (3)
INSERT INTO $t (id, n, day, plain, moment, d) VALUES (4, 1, '1600-02-29', '1600-02-29 12:00:00.000001', '1600-02-29 12:00:00.000001Z', -1)
SELECT count(*), count(flag), min(small), max(small), min(large), max(large), min(n), max(n), min(day), max(day) FROM $t
SELECT min(moment), max(moment), min(plain), max(plain), min(x), max(x), min(d), max(d), min(m), max(m) FROM $t
SELECT id FROM $t WHERE moment = TIMESTAMP '1600-02-29 12:00:00.000001' OR plain < TIMESTAMP '0001-01-02 00:00:00'

== numbers that are none
CREATE TABLE $t (id integer, f real, d double precision)
INSERT INTO $t VALUES (1, 'NaN', 'NaN'), (2, 'Infinity', '-Infinity'), (3, 1, -1)
INSERT INTO $t VALUES (5, 'NaN', 'NaN'), (6, 2, 2)
SELECT id FROM $t WHERE d > 1
SELECT max(f), max(d), min(f), min(d) FROM $t

== bounds cut short
CREATE TABLE $t (id integer, moment timestamptz, plain timestamp, long text)
INSERT INTO $t VALUES (1, '2024-01-01 00:00:00.123456Z', '2024-01-01 00:00:00.123456', repeat('z', 50))
INSERT INTO $t VALUES (2, '1960-01-01 00:00:00.123456Z', '1960-01-01 00:00:00.123456', repeat('b', 40) || 'é')
INSERT INTO $t VALUES (3, NULL, NULL, repeat('𝄞', 40))
SELECT id FROM $t WHERE moment > TIMESTAMP '2024-01-01 00:00:00.1234' AND plain > TIMESTAMP '2024-01-01 00:00:00.1234'
SELECT id FROM $t WHERE moment = TIMESTAMP '1960-01-01 00:00:00.123456' AND plain = TIMESTAMP '1960-01-01 00:00:00.123456'
SELECT id FROM $t WHERE long >= 'zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz'
SELECT id FROM $t WHERE long > 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'

== partitions
CREATE TABLE $t (id integer, x text, flag boolean, small smallint, large bigint, n numeric(20,4), f real, d double precision, day date,
  clock time, plain timestamp, moment timestamptz, u uuid)
  PARTITION BY (x, flag, small, large, n, f, d, day, clock, plain, moment, u)
INSERT INTO $t VALUES
  (1, 'a/b=c%20 d:é', true, -3, -5, 1.5, 1.5, -1e300, '2024-02-29', '01:02:03.000004', '2024-02-29 12:34:56.789012',
   '2024-02-29 12:34:56.789012Z', '018f3f2e-0000-7000-8000-000000000001'),
  (2, '50%/x=y', false, 1, 5, -0.0001, 2, 2, '0001-01-01', '23:59:59.999999', '1900-01-01', '1900-01-01 00:00:00Z', NULL),
  (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (4, '\?*"<>|{}[]^~#+&', true, 1, 1, 0, 'NaN', 'Infinity', '9999-12-31', '00:00:00.000001', '9999-12-31 23:59:59.999999',
   '9999-12-31 23:59:59.999999Z', NULL)
SELECT id FROM $t WHERE x = 'a/b=c%20 d:é' AND small = -3 AND n = 1.5 AND day = DATE '2024-02-29'
SELECT id FROM $t WHERE moment = TIMESTAMP '2024-02-29 12:34:56.789012' AND plain = TIMESTAMP '2024-02-29 12:34:56.789012'
SELECT id FROM $t WHERE x IS NULL

== deletion vectors
CREATE TABLE $t (id integer, a integer)
INSERT INTO $t SELECT g, CASE WHEN g % 10 = 0 THEN g END FROM generate_series(0, 999) AS g
DELETE FROM $t WHERE id % 3 = 0
DELETE FROM $t WHERE id = 17
UPDATE $t SET a = -1 WHERE id = 100
INSERT INTO $t VALUES (2000, NULL), (2001, NULL), (2002, 7)
DELETE FROM $t WHERE id = 2000
SELECT count(*), count(a), min(a), max(a), sum(a), min(id), max(id) FROM $t
SELECT * FROM $t WHERE a = 7
SELECT count(*) FROM $t WHERE a IS NULL

== copy on write
CREATE TABLE $t (id integer, a integer) PARTITION BY (a) WITH ("delta.enableDeletionVectors" = false)
INSERT INTO $t VALUES (1, 1), (2, 2), (3, NULL), (4, 1)
DELETE FROM $t WHERE id = 1
UPDATE $t SET a = 5 WHERE id = 3
SELECT count(*), count(a), sum(a) FROM $t

== columns renamed and dropped
CREATE TABLE $t (whole text, id integer, a integer, b text, c numeric(6,2)) PARTITION BY (whole)
INSERT INTO $t VALUES ('p/1', 1, 10, 'x', 1.5), (NULL, 2, 20, NULL, NULL)
ALTER TABLE $t RENAME COLUMN whole TO part
ALTER TABLE $t RENAME COLUMN a TO "a b,c"
ALTER TABLE $t DROP COLUMN b
ALTER TABLE $t ADD COLUMN b integer
INSERT INTO $t (id, "a b,c", part, c, b) VALUES (3, 30, 'q', 2, 300)
DELETE FROM $t WHERE id = 1
SELECT id FROM $t WHERE b = 300 AND part = 'q' AND c = 2
SELECT count(*), count(b), max(b), min(c) FROM $t

== widened types
CREATE TABLE $t (id integer, a smallint, b integer, c real, d numeric(5,2), e integer, f integer, g smallint, day date, v varchar(3))
INSERT INTO $t VALUES (1, 1, 2, 1.5, 1.25, 5, 6, 7, '2024-02-29', 'abc')
ALTER TABLE $t ALTER COLUMN a TYPE integer
ALTER TABLE $t ALTER COLUMN a TYPE bigint
ALTER TABLE $t ALTER COLUMN b TYPE bigint
ALTER TABLE $t ALTER COLUMN c TYPE double precision
ALTER TABLE $t ALTER COLUMN d TYPE numeric(20,4)
ALTER TABLE $t ALTER COLUMN e TYPE double precision
ALTER TABLE $t ALTER COLUMN f TYPE numeric(12,1)
ALTER TABLE $t ALTER COLUMN g TYPE integer
ALTER TABLE $t ALTER COLUMN day TYPE timestamp
ALTER TABLE $t ALTER COLUMN v TYPE text
INSERT INTO $t VALUES (2, 5000000000, 5000000000, 1e300, 1234567890.1234, 0.5, 0.5, 100000, '2024-01-01 01:02:03', 'abcdef')
SELECT id FROM $t WHERE a = 1 AND b = 2 AND d = 1.25 AND g = 7
SELECT max(a), max(b), max(c), max(d), min(e), min(f), min(g), min(day) FROM $t

== checkpoints
CREATE TABLE $t (p date, id integer, a text, moment timestamptz, n numeric(10,2), l integer[]) PARTITION BY (p)
  WITH ("delta.checkpointInterval" = 2)
INSERT INTO $t VALUES ('2024-01-01', 1, 'x', '2024-01-01 00:00:00.123456Z', 1.5, '{1}'), (NULL, 2, NULL, NULL, NULL, NULL)
DELETE FROM $t WHERE id = 2
INSERT INTO $t VALUES ('2024-01-02', 3, 'z', '2025-01-01 00:00:00Z', -1.5, NULL), ('2024-01-02', 4, 'z', NULL, 0, NULL)
ALTER TABLE $t RENAME COLUMN a TO b
DELETE FROM $t WHERE id = 4
INSERT INTO $t VALUES (NULL, 5, 'q', NULL, NULL, NULL)
SELECT count(*), count(b), min(id), max(id), min(n), max(n) FROM $t
SELECT id FROM $t WHERE moment > TIMESTAMP '2024-01-01 00:00:00.1234'
SELECT id FROM $t WHERE p = DATE '2024-01-02' AND n < 0

== sorted and put together
CREATE TABLE $t (id integer, a integer, note text) WITH (cluster_by = 'a, id')
INSERT INTO $t SELECT g, g % 7, 'n' || g FROM generate_series(1, 100) AS g
INSERT INTO $t SELECT g, g % 5, NULL FROM generate_series(101, 200) AS g
DELETE FROM $t WHERE a = 3
OPTIMIZE $t
SELECT count(*), count(note), sum(id), min(a), max(a) FROM $t
SELECT id FROM $t WHERE a = 6 AND id > 90

== a key, merged into
CREATE TABLE $t (id integer PRIMARY KEY, a integer DEFAULT 7 CHECK (a > 0), note text NOT NULL)
INSERT INTO $t (id, note) VALUES (1, 'x'), (2, 'y')
MERGE INTO $t AS t USING (VALUES (1), (9)) AS s (id) ON t.id = s.id
  WHEN MATCHED THEN UPDATE SET a = 9 WHEN NOT MATCHED THEN INSERT (id, a, note) VALUES (s.id, 5, 'new')
INSERT INTO $t (id, note) VALUES (2, 'z') ON CONFLICT (id) DO UPDATE SET note = excluded.note

== emptied
CREATE TABLE $t (id integer, "Upper Case" text, "Ünï" integer, "select" integer)
INSERT INTO $t VALUES (1, 'a', 2, 3)
TRUNCATE $t
SELECT count(*), max(id) FROM $t
