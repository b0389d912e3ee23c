-- Tables that Spark writes, each with what one feature of Delta does to a table. `$t` is the table, `$path` its folder.
--
--   == name                 what follows makes the table and changes it, in Spark
--   == name: refused word   Boathouse says 0A000 and the word; without, both read the same from `$t`
--   SELECT ...              is asked of both and must be answered alike; `SELECT * FROM $t` always is
--
-- A statement is a line, or several of which all but the first are indented.

== every type
CREATE TABLE $t (id INT, b BOOLEAN, t TINYINT, s SMALLINT, l BIGINT, f FLOAT, d DOUBLE, n DECIMAL(38,10),
  m DECIMAL(5,2), x STRING, y BINARY, day DATE, moment TIMESTAMP, plain TIMESTAMP_NTZ, v VARCHAR(5)) USING delta
INSERT INTO $t VALUES
  (1, true, -128, -32768, -9223372036854775808, -1.5, 1e300, 1234567890123456789012345678.0123456789, -999.99, 'naïve', X'00ff',
   DATE'0001-01-01', TIMESTAMP'0001-01-01 00:00:00', TIMESTAMP_NTZ'0001-01-01 00:00:00', 'abc'),
  (2, false, 127, 32767, 9223372036854775807, 3.25, -0.25, -0.0000000001, 0, '', X'',
   DATE'9999-12-31', TIMESTAMP'9999-12-31 23:59:59.999999', TIMESTAMP_NTZ'9999-12-31 23:59:59.999999', ''),
  (3, null, null, null, null, null, null, null, null, null, null, null, null, null, null)
INSERT INTO $t VALUES (4, true, 1, 1, 1, 1, 1, 1, 1, 'x', X'01', DATE'1600-02-29', TIMESTAMP'1600-02-29 12:00:00.000001',
  TIMESTAMP_NTZ'1600-02-29 12:00:00.000001', 'v')
SELECT count(*), count(b), min(s), max(s), min(l), max(l), min(n), max(n), min(day), max(day) FROM $t
SELECT min(moment), max(moment), min(plain), max(plain), min(x), max(x), min(d), max(d), min(m), max(m) FROM $t
SELECT id FROM $t WHERE moment = TIMESTAMP '1600-02-29 12:00:00.000001' OR plain < TIMESTAMP '0001-01-02 00:00:00'

== numbers that are none
CREATE TABLE $t (id INT, f FLOAT, d DOUBLE) USING delta
INSERT INTO $t VALUES (1, float('NaN'), double('NaN')), (2, float('Infinity'), double('-Infinity')), (3, 1, -1), (4, -0.0f, -0.0d)
INSERT INTO $t VALUES (5, float('NaN'), double('NaN')), (6, 2, 2)
SELECT id FROM $t WHERE d > 1
SELECT max(f), max(d), min(f), min(d) FROM $t WHERE id <> 4

== bounds cut short
CREATE TABLE $t (id INT, moment TIMESTAMP, plain TIMESTAMP_NTZ, long STRING) USING delta
INSERT INTO $t VALUES (1, TIMESTAMP'2024-01-01 00:00:00.123456', TIMESTAMP_NTZ'2024-01-01 00:00:00.123456', repeat('z', 50))
INSERT INTO $t VALUES (2, TIMESTAMP'1960-01-01 00:00:00.123456', TIMESTAMP_NTZ'1960-01-01 00:00:00.123456', concat(repeat('b', 40), 'é'))
INSERT INTO $t VALUES (3, TIMESTAMP'1960-01-01 00:00:00.123456', TIMESTAMP_NTZ'1960-01-01 00:00:00.123456', repeat('𝄞', 40))
SELECT id FROM $t WHERE moment > TIMESTAMP '2024-01-01 00:00:00.1234'
SELECT id FROM $t WHERE plain > TIMESTAMP '2024-01-01 00:00:00.1234'
SELECT id FROM $t WHERE moment = TIMESTAMP '1960-01-01 00:00:00.123456' AND plain = TIMESTAMP '1960-01-01 00:00:00.123456'
SELECT id FROM $t WHERE moment <= TIMESTAMP '1960-01-01 00:00:00.123456'
SELECT id FROM $t WHERE long >= 'zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz'
SELECT id FROM $t WHERE long > 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'
SELECT min(moment), max(moment), min(plain), max(plain), max(long) FROM $t

== deletion vectors
CREATE TABLE $t (id INT, a INT) USING delta TBLPROPERTIES ('delta.enableDeletionVectors' = true)
INSERT INTO $t SELECT id, if(id % 10 = 0, id, null) FROM range(0, 1000, 1, 1)
DELETE FROM $t WHERE id % 3 = 0
UPDATE $t SET a = -1 WHERE id = 100
INSERT INTO $t VALUES (2000, null), (2001, null), (2002, 7)
DELETE FROM $t WHERE id = 2000
SELECT count(*), count(a), min(a), max(a), sum(a), min(id), max(id) FROM $t
SELECT * FROM $t WHERE a = 7
SELECT count(*) FROM $t WHERE a IS NOT NULL
SELECT count(*) FROM $t WHERE a IS NULL

== deletion vectors of whole files
CREATE TABLE $t (id INT, a INT) USING delta PARTITIONED BY (a) TBLPROPERTIES ('delta.enableDeletionVectors' = true)
INSERT INTO $t VALUES (1, 1), (2, 2), (3, 3), (4, 4)
DELETE FROM $t WHERE id > 2
MERGE INTO $t AS t USING (SELECT 1 AS id UNION ALL SELECT 9) AS s ON t.id = s.id
  WHEN MATCHED THEN UPDATE SET a = 9 WHEN NOT MATCHED THEN INSERT (id, a) VALUES (s.id, 5)

== column mapping by name
CREATE TABLE $t (id INT, `a b` STRING, `x.y` INT, part STRING) USING delta PARTITIONED BY (part)
  TBLPROPERTIES ('delta.columnMapping.mode' = 'name')
INSERT INTO $t VALUES (1, 'x', 10, 'p/1'), (2, 'y', 20, null)
ALTER TABLE $t RENAME COLUMN `a b` TO `c,d`
ALTER TABLE $t DROP COLUMN `x.y`
ALTER TABLE $t ADD COLUMN `x.y` INT
INSERT INTO $t (id, `c,d`, part, `x.y`) VALUES (3, 'z', 'q=2', 30)
DELETE FROM $t WHERE id = 1
ALTER TABLE $t RENAME COLUMN part TO whole

== column mapping begun late
CREATE TABLE $t (id INT, a INT, s STRUCT<x: INT, y: STRING>) USING delta
INSERT INTO $t VALUES (1, 10, named_struct('x', 1, 'y', 'a'))
ALTER TABLE $t SET TBLPROPERTIES ('delta.columnMapping.mode' = 'name', 'delta.minReaderVersion' = '2', 'delta.minWriterVersion' = '5')
ALTER TABLE $t RENAME COLUMN a TO b
INSERT INTO $t VALUES (2, 20, named_struct('x', 2, 'y', 'b'))

== column mapping inside a struct: refused columnMapping
CREATE TABLE $t (id INT, s STRUCT<x: INT, y: STRING>) USING delta TBLPROPERTIES ('delta.columnMapping.mode' = 'name')
INSERT INTO $t VALUES (1, named_struct('x', 1, 'y', 'a'))
ALTER TABLE $t RENAME COLUMN s.x TO z

== column mapping by id: refused columnMapping by id
CREATE TABLE $t (id INT, a STRING) USING delta TBLPROPERTIES ('delta.columnMapping.mode' = 'id')
INSERT INTO $t VALUES (1, 'x')

== type widening
CREATE TABLE $t (id INT, a TINYINT, b SMALLINT, c INT, f FLOAT, d DECIMAL(5,2), e INT, g INT, p INT, day DATE) USING delta
  PARTITIONED BY (p) TBLPROPERTIES ('delta.enableTypeWidening' = true, 'delta.feature.timestampNtz' = 'supported')
INSERT INTO $t VALUES (1, 1, 2, 3, 1.5, 1.25, 5, 6, 7, DATE'2024-02-29')
ALTER TABLE $t ALTER COLUMN a TYPE INT
ALTER TABLE $t ALTER COLUMN b TYPE BIGINT
ALTER TABLE $t ALTER COLUMN c TYPE BIGINT
ALTER TABLE $t ALTER COLUMN f TYPE DOUBLE
ALTER TABLE $t ALTER COLUMN d TYPE DECIMAL(20,4)
ALTER TABLE $t ALTER COLUMN e TYPE DOUBLE
ALTER TABLE $t ALTER COLUMN g TYPE DECIMAL(12,1)
ALTER TABLE $t ALTER COLUMN p TYPE BIGINT
ALTER TABLE $t ALTER COLUMN day TYPE TIMESTAMP_NTZ
INSERT INTO $t VALUES (2, 1000000, 5000000000, 5000000000, 1e300, 1234567890.1234, 0.5, 0.5, 5000000000, TIMESTAMP_NTZ'2024-01-01 01:02:03')
SELECT id FROM $t WHERE a = 1 AND b = 2 AND c = 3 AND d = 1.25 AND p = 7
SELECT max(a), max(b), max(c), max(d), min(e), min(g), min(p), min(day) FROM $t

== type widening inside
CREATE TABLE $t (id INT, l ARRAY<INT>) USING delta TBLPROPERTIES ('delta.enableTypeWidening' = true)
INSERT INTO $t VALUES (1, array(1, null))
ALTER TABLE $t ALTER COLUMN l.element TYPE BIGINT
INSERT INTO $t VALUES (2, array(5000000000))

== change data feed
CREATE TABLE $t (id INT, a INT) USING delta TBLPROPERTIES ('delta.enableChangeDataFeed' = true)
INSERT INTO $t VALUES (1, 1), (2, 2), (3, 3)
UPDATE $t SET a = 20 WHERE id = 2

== generated columns
CREATE TABLE $t (id INT, twice BIGINT GENERATED ALWAYS AS (id * 2L), moment TIMESTAMP, day DATE GENERATED ALWAYS AS (CAST(moment AS DATE)))
  USING delta PARTITIONED BY (day)
INSERT INTO $t (id, moment) VALUES (1, TIMESTAMP'2024-02-29 23:00:00'), (2, null)

== what only writers need
CREATE TABLE $t (id INT NOT NULL, a INT DEFAULT 7) USING delta TBLPROPERTIES ('delta.appendOnly' = true,
  'delta.feature.allowColumnDefaults' = 'supported', 'delta.feature.domainMetadata' = 'supported',
  'delta.feature.vacuumProtocolCheck' = 'supported', 'delta.columnMapping.mode' = 'name', 'delta.enableIcebergCompatV2' = true)
ALTER TABLE $t ADD CONSTRAINT small CHECK (a < 10)
INSERT INTO $t VALUES (1, DEFAULT), (2, 2)

== identity columns
CREATE TABLE $t (id BIGINT GENERATED ALWAYS AS IDENTITY (START WITH 5 INCREMENT BY 1), n BIGINT GENERATED BY DEFAULT AS IDENTITY, a INT) USING delta
INSERT INTO $t (a) VALUES (1)
INSERT INTO $t (a) VALUES (2)

== row tracking
CREATE TABLE $t (id INT, a INT) USING delta TBLPROPERTIES ('delta.enableRowTracking' = true)
INSERT INTO $t VALUES (1, 1), (2, 2)
UPDATE $t SET a = 20 WHERE id = 2
OPTIMIZE $t

== in-commit timestamps
CREATE TABLE $t (id INT) USING delta TBLPROPERTIES ('delta.enableInCommitTimestamps' = true)
INSERT INTO $t VALUES (1)
INSERT INTO $t VALUES (2)

== clustering
CREATE TABLE $t (id INT, a STRING) USING delta CLUSTER BY (a, id)
INSERT INTO $t VALUES (1, 'x'), (2, 'y')
INSERT INTO $t VALUES (3, 'x')
OPTIMIZE $t

== checkpoints of one file
CREATE TABLE $t (id INT, a STRING, p INT, moment TIMESTAMP) USING delta PARTITIONED BY (p)
  TBLPROPERTIES ('delta.checkpointInterval' = 3, 'delta.enableDeletionVectors' = true)
INSERT INTO $t VALUES (1, 'x', 1, TIMESTAMP'2024-01-01 00:00:00.5'), (2, 'y', 2, null), (3, 'z', 2, TIMESTAMP'2025-01-01 00:00:00.123456')
DELETE FROM $t WHERE id = 2
INSERT INTO $t VALUES (4, 'z', 2, null)
INSERT INTO $t VALUES (5, null, null, null)
SELECT id FROM $t WHERE moment > TIMESTAMP '2025-01-01 00:00:00.1234'
SELECT count(*), count(a), min(id), max(id), max(moment) FROM $t

== checkpoints with statistics as columns only
CREATE TABLE $t (id INT, a STRING, p DATE, moment TIMESTAMP, plain TIMESTAMP_NTZ, n DECIMAL(10,2)) USING delta PARTITIONED BY (p)
  TBLPROPERTIES ('delta.checkpointInterval' = 2, 'delta.checkpoint.writeStatsAsStruct' = true, 'delta.checkpoint.writeStatsAsJson' = false)
INSERT INTO $t VALUES (1, 'x', DATE'2024-01-01', TIMESTAMP'2024-01-01 00:00:00.123456', TIMESTAMP_NTZ'2024-01-01 00:00:00.123456', 1.5), (2, null, null, null, null, null)
INSERT INTO $t VALUES (3, 'z', DATE'2024-01-02', TIMESTAMP'2025-01-01 00:00:00', null, -1.5)
INSERT INTO $t VALUES (4, 'z', DATE'2024-01-02', TIMESTAMP'2026-01-01 00:00:00', null, 99)
SELECT count(*), count(a), min(id), max(id), min(n), max(n) FROM $t
SELECT id FROM $t WHERE plain > TIMESTAMP '2024-01-01 00:00:00.1234'
SELECT id FROM $t WHERE p = DATE '2024-01-02' AND n < 0

== v2 checkpoints
CREATE TABLE $t (id INT, a STRING) USING delta
  TBLPROPERTIES ('delta.checkpointPolicy' = 'v2', 'delta.checkpointInterval' = 2, 'delta.enableDeletionVectors' = true)
INSERT INTO $t VALUES (1, 'x'), (2, 'y')
DELETE FROM $t WHERE id = 1
INSERT INTO $t VALUES (3, 'z')
INSERT INTO $t VALUES (4, 'q')
SELECT count(*), count(a), min(id), max(id) FROM $t

== variant: refused variantType
CREATE TABLE $t (id INT, v VARIANT) USING delta
INSERT INTO $t VALUES (1, parse_json('{"a": 1}'))

== void column
CREATE TABLE $t (id INT, v VOID) USING delta
INSERT INTO $t (id) VALUES (1)

== partitions of every type
CREATE TABLE $t (id INT, b BOOLEAN, t TINYINT, s SMALLINT, i INT, l BIGINT, f FLOAT, d DOUBLE, n DECIMAL(20,4), x STRING,
  day DATE, moment TIMESTAMP, plain TIMESTAMP_NTZ) USING delta PARTITIONED BY (b, t, s, i, l, f, d, n, x, day, moment, plain)
INSERT INTO $t VALUES
  (1, true, -128, -3, 4, -5, 1.5, -1e300, 1.5, 'a/b=c%20 d:é', DATE'2024-02-29', TIMESTAMP'2024-02-29 12:34:56.789012', TIMESTAMP_NTZ'2024-02-29 12:34:56.789012'),
  (2, false, 1, 3, 4, 5, 2, 2, -0.0001, '', DATE'0001-01-01', TIMESTAMP'1900-01-01 00:00:00', TIMESTAMP_NTZ'1900-01-01 00:00:00'),
  (3, null, null, null, null, null, null, null, null, null, null, null, null),
  (4, true, 1, 1, 1, 1, double('NaN'), double('Infinity'), 0, '__HIVE_DEFAULT_PARTITION__x', DATE'9999-12-31', TIMESTAMP'9999-12-31 23:59:59.999999', TIMESTAMP_NTZ'9999-12-31 23:59:59')
SELECT id FROM $t WHERE b AND t = -128 AND s = -3 AND l = -5 AND n = 1.5 AND day = DATE '2024-02-29'
SELECT id FROM $t WHERE moment = TIMESTAMP '2024-02-29 12:34:56.789012' AND plain = TIMESTAMP '2024-02-29 12:34:56.789012'
SELECT id FROM $t WHERE x = 'a/b=c%20 d:é' AND f = 1.5
SELECT id FROM $t WHERE x IS NULL
SELECT count(b), count(x), min(day), max(day), min(moment), max(moment), min(n), max(n) FROM $t

== lists
CREATE TABLE $t (id INT, l ARRAY<STRING>, m ARRAY<ARRAY<INT>>, d ARRAY<DATE>, t ARRAY<TIMESTAMP>, n ARRAY<DECIMAL(5,1)>, b ARRAY<BOOLEAN>) USING delta
INSERT INTO $t VALUES
  (1, array('a', null, 'b c', '', 'NULL', '{"x'), array(array(1, 2), array(3, null)), array(DATE'2024-02-29'),
   array(TIMESTAMP'9999-01-01 00:00:00.5'), array(1.5, null), array(true, false)),
  (2, null, null, null, null, null, null), (3, array(), array(), array(), array(), array(), array())

== structs and maps
CREATE TABLE $t (id INT, s STRUCT<a: INT, b: STRING, l: ARRAY<INT>, i: STRUCT<c: DOUBLE>>, m MAP<STRING, INT>, l ARRAY<STRUCT<x: INT>>, a INT) USING delta
INSERT INTO $t VALUES
  (1, named_struct('a', 1, 'b', 'x"y', 'l', array(1, null), 'i', named_struct('c', 1.5d)), map('k', 1, 'n', null), array(named_struct('x', 1), null), 5),
  (2, null, null, null, null), (3, named_struct('a', null, 'b', null, 'l', null, 'i', null), map(), array(), 6)
SELECT id, a FROM $t WHERE a > 5

== words of several cases
CREATE TABLE $t (Id INT, `Ünï` STRING, `select` INT, `a-b` INT, Part STRING) USING delta PARTITIONED BY (part)
INSERT INTO $t VALUES (1, 'x', 2, 3, 'p')

== columns added
CREATE TABLE $t (id INT, a INT) USING delta
INSERT INTO $t VALUES (1, 1)
ALTER TABLE $t ADD COLUMNS (b STRING FIRST, c ARRAY<INT>)
INSERT INTO $t VALUES ('b', 2, 2, array(1))
SELECT count(b), max(b), count(*) FROM $t
SELECT id FROM $t WHERE b IS NULL

== replaced
CREATE TABLE replaced (id INT, a INT) USING delta LOCATION '$path'
INSERT INTO $t VALUES (1, 1)
CREATE OR REPLACE TABLE replaced (id STRING, b DATE) USING delta PARTITIONED BY (b) LOCATION '$path'
INSERT INTO $t VALUES ('x', DATE'2024-01-01')

== overwritten
CREATE TABLE $t (id INT, p INT) USING delta PARTITIONED BY (p)
INSERT INTO $t VALUES (1, 1), (2, 2)
INSERT OVERWRITE $t VALUES (3, 3)
INSERT INTO $t REPLACE WHERE p = 3 VALUES (4, 3)
SELECT count(*) FROM $t

== shallow clone: refused shallow clone
CREATE TABLE $t.of (id INT, p STRING) USING delta PARTITIONED BY (p) TBLPROPERTIES ('delta.enableDeletionVectors' = true)
INSERT INTO $t.of VALUES (1, 'a b'), (2, 'c%d'), (3, 'c%d')
DELETE FROM $t.of WHERE id = 3
CREATE TABLE $t SHALLOW CLONE $t.of

== without statistics
CREATE TABLE $t (id INT, a INT) USING delta TBLPROPERTIES ('delta.dataSkippingNumIndexedCols' = 0, 'delta.enableDeletionVectors' = true)
INSERT INTO $t VALUES (1, 1), (2, null), (3, 3)
DELETE FROM $t WHERE id = 1
SELECT count(*), count(a), min(a), max(a) FROM $t
SELECT id FROM $t WHERE a > 2

