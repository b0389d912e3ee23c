CREATE SECRET shop_pw AS 'it''s a secret';
CREATE OR REPLACE SECRET s AS $$multi
line$$;
CREATE SECRET IF NOT EXISTS s AS 'x';
ALTER SECRET s AS 'y';
ALTER SECRET s RENAME TO t;
ALTER SECRET s OWNER TO bob;
DROP SECRET IF EXISTS s, t;
CREATE CONNECTION inbox TO LOCAL WITH (path = '/data/inbox');
CREATE OR REPLACE CONNECTION lake TO S3 WITH (bucket = 'b', region = 'eu-central-1', path_style = true, secret_access_key = SECRET k, timeout = INTERVAL '30 s');
CREATE CONNECTION IF NOT EXISTS drop TO SFTP WITH (host = 'h', port = 22, user = 'u', password = SECRET shop_pw);
CREATE CONNECTION shop TO MYSQL WITH (host = 'db', port = 3306, user = 'replica', password = SECRET shop_pw, tls = 'verify-full');
CREATE CONNECTION k TO KAFKA WITH (brokers = ('a:9092', 'b:9092'));
CREATE CONNECTION bare TO REDSHIFT;
ALTER CONNECTION c SET (port = 23, host = 'x');
ALTER CONNECTION c RESET (port, host);
ALTER CONNECTION c RENAME TO d;
ALTER CONNECTION c OWNER TO CURRENT_ROLE;
DROP CONNECTION a, b CASCADE;
CHECK CONNECTION shop;
COMMENT ON CONNECTION c IS 'c';
COMMENT ON PIPELINE p IS 'p';
COMMENT ON SECRET s IS 's';
GRANT USAGE ON CONNECTION c TO bob;
GRANT EXECUTE ON PIPELINE p TO bob;
GRANT USAGE ON SECRET s TO bob;
CREATE PIPELINE stock
  FROM FILES inbox 'merchants/*/stock*.{xls,xlsx}' FORMAT EXCEL (sheet = '/^Stock/', header_rows = 2)
  INTO bronze.stock
  AS SELECT sku, qty::int AS qty, _file, _row FROM source WHERE sku IS NOT NULL
  EXPECT qty_ok CHECK (qty >= 0) ON VIOLATION QUARANTINE
  SCHEDULE EVERY INTERVAL '10 minutes';
CREATE OR REPLACE PIPELINE p FROM FILES inbox 'a.csv', 'b.csv' FORMAT CSV (delimiter = ';', header, decimal_comma = true) COLUMNS (sku text NOT NULL, qty numeric(10, 2), at timestamp with time zone)
  INTO bronze.t
  AS WITH x AS (SELECT * FROM source) SELECT a, "order" FROM x JOIN y ON x.error = y.error WHERE a = 'INTO' AND b IN (SELECT c FROM d)
  EXPECT a CHECK (a > 0 AND (b OR c)) ON VIOLATION WARN
  EXPECT b CHECK (length(b) < 10) ON VIOLATION DROP
  EXPECT "C" CHECK (c IS NOT NULL) ON VIOLATION FAIL
  ON SCHEMA CHANGE RESCUE
  ON CHANGED FILE RELOAD
  ON ERROR STOP
  SCHEDULE CRON '0 2 * * *' TIME ZONE 'asia/jakarta' AFTER stock, "Other"
  WITH (move_to = 'done', batch_rows = 10000);
CREATE PIPELINE IF NOT EXISTS p FROM FILES inbox '*.json' INTO t ON SCHEMA CHANGE ADD COLUMNS ON CHANGED FILE IGNORE ON ERROR CONTINUE SCHEDULE ON DEMAND;
CREATE PIPELINE p FROM FILES inbox '*' FORMAT PARQUET INTO t ON SCHEMA CHANGE FAIL ON CHANGED FILE FAIL SCHEDULE EVERY '1 hour 30 minutes';
CREATE PIPELINE clinic FROM MYSQL shop TABLES ('clinic.%') EXCEPT ('clinic.tmp_%') EXCEPT COLUMNS ('%.notes', '%.secret') INCLUDE (op, commit_ts)
  INTO SCHEMA clinic AS SELECT * FROM source
  FOR ('clinic.patients', 'clinic.staff') AS SELECT id, substring(name FROM 1 FOR 1) AS initial FROM source WHERE id > 0
  FOR ('clinic.visits') AS SELECT id, fee FROM source
  SCHEDULE ON DEMAND WITH (deletes = 'soft');

CREATE PIPELINE sales FROM MYSQL shop TABLES ('store\_%.sales') INTO bronze.sales;

CREATE PIPELINE shop_cdc FROM MYSQL shop TABLES ('shop.%') EXCEPT ('shop.tmp_%') INTO SCHEMA bronze_shop
  WITH (snapshot = 'initial', zero_date = 'null', target_lag = '5 s');
CREATE PIPELINE order_events FROM KAFKA events TOPICS ('order-.*') FORMAT JSON INCLUDE (key, partition, offset, timestamp, headers)
  INTO bronze.order_events AS SELECT a FROM source ON ERROR DEAD LETTER;
CREATE PIPELINE traced FROM KAFKA events TOPICS ('orders') FORMAT JSON INCLUDE (key, header 'trace-id' AS trace, headers, header 'it''s' AS "Its") INTO bronze.traced;
CREATE PIPELINE by_type FROM KAFKA events TOPICS ('events') FORMAT JSON INTO SCHEMA bronze BY event_type
  AS SELECT * FROM source EXPECT known CHECK (event_type <> 'x') ON VIOLATION QUARANTINE WITH (tables_max = 40);
CREATE PIPELINE by_type FROM KAFKA events TOPICS ('events') FORMAT JSON INTO SCHEMA "Two words" BY "Event type" SCHEDULE ON DEMAND;
CREATE PIPELINE levels FROM KAFKA events TOPICS ('levels')
  FORMAT PROTOBUF (schema = 'syntax = "proto3"; message Level { int64 id = 1; }', message = 'Level', header = 'glue') INTO bronze.levels SCHEDULE ON DEMAND;
CREATE PIPELINE sales FROM KAFKA events TOPICS ('sales') FORMAT CSV (delimiter = ';', column_names = ('id', 'paid'), ragged = 'reject') COLUMNS (id integer, paid numeric(12,2))
  INTO bronze.sales;
CREATE PIPELINE dim_customer FROM TABLE bronze_shop.customer CHANGES
  INTO gold.dim_customer KEY (customer_id) SEQUENCE BY _commit_ts STORED AS SCD TYPE 2;
CREATE PIPELINE daily_sales AS SELECT day, sum(amount) AS amount FROM sales GROUP BY day INTO gold.daily_sales SCHEDULE CRON '0 2 * * *' TIME ZONE 'Asia/Jakarta' AFTER shop_cdc;
CREATE PIPELINE sales_to_redshift FROM MART sales INTO REDSHIFT warehouse SCHEMA marts SCHEDULE AFTER daily_sales;
CREATE PIPELINE p FROM TABLE a.b INTO c KEY (id) STORED AS SCD TYPE 1;
CREATE PIPELINE out FROM TABLE gold.orders CHANGES INTO KAFKA events TOPIC 'orders.changes' KEY (shop, id) FORMAT JSON
  AS SELECT shop, id, total FROM source WHERE total > 0 SCHEDULE EVERY INTERVAL '1 minute' WITH (start = 'latest', deletes = 'message');
CREATE PIPELINE out FROM TABLE orders INTO KAFKA "Events" TOPIC 'o';
CREATE PIPELINE p FROM FILES inbox '*' FORMAT PARQUET INTO kafka KEY (id) SCHEDULE ON DEMAND;
COPY (SELECT id, total FROM orders ORDER BY id) TO KAFKA events TOPIC 'orders' KEY (id, total) FORMAT JSON WITH (compression = 'zstd');
COPY orders (id) TO KAFKA events TOPIC 'orders';
ALTER PIPELINE p PAUSE;
ALTER PIPELINE p RESUME;
ALTER PIPELINE p SET (batch_rows = 5);
ALTER PIPELINE p RESET (batch_rows);
ALTER PIPELINE p SCHEDULE EVERY INTERVAL '00:10:00';
ALTER PIPELINE p SCHEDULE NONE;
ALTER PIPELINE p RENAME TO q;
ALTER PIPELINE p OWNER TO bob;
DROP PIPELINE IF EXISTS p, q;
RUN PIPELINE p;
RUN PIPELINE p FULL REFRESH;
RUN PIPELINE p FULL REFRESH TABLES ('shop.o%', 'shop.it''em');
RUN PIPELINE p FULL REFRESH TABLES ('shop.orders') BETWEEN -10 AND 2000.5;
RUN PIPELINE p FULL REFRESH TABLES ('shop.orders') BETWEEN '2026-01-01' AND '2026-02-01';
VERIFY PIPELINE p;
VERIFY PIPELINE p HEAL;
TEST PIPELINE p;
TEST PIPELINE p LIMIT 10;
SHOW CREATE PIPELINE p;
SHOW CREATE TABLE s.t;
SHOW CREATE VIEW v;
SHOW CREATE SCHEMA s;
SHOW CREATE CONNECTION c;
REPLAY QUARANTINE p;
REPLAY QUARANTINE p SET qty = '0', name = trim(name) WHERE _file LIKE '%x%' AND _row > 3;
