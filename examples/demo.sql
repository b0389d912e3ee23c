-- What `boathouse demo` runs. {inbox} stands for the folder of the example files.

CREATE SCHEMA bronze;

CREATE CONNECTION inbox TO LOCAL WITH (path = '{inbox}');

-- A till's export: semicolons, decimal comma, cp1252, a field over two lines, a total row.
-- Delimiter and encoding are found; how numbers and dates are written is said.
CREATE PIPELINE stock_sentosa
  FROM FILES inbox 'merchants/sentosa/*.csv'
    FORMAT CSV (decimal = ',', thousands = '.', date_format = 'DD/MM/YYYY', footer = 'TOTAL')
    COLUMNS (sku text, nama_produk text, satuan text, qty bigint, harga numeric(12,2), tanggal date)
  INTO bronze.stock
  AS SELECT 'sentosa' AS merchant, sku, nama_produk AS name, satuan AS unit, qty,
            harga AS price, tanggal AS counted_on, _file, _row
     FROM source
  EXPECT qty_known CHECK (qty IS NOT NULL) ON VIOLATION QUARANTINE
  EXPECT qty_not_negative CHECK (qty >= 0) ON VIOLATION QUARANTINE;

-- A wholesaler's old Excel: a title, two header rows with merged cells, a total row.
CREATE PIPELINE stock_kimia
  FROM FILES inbox 'merchants/kimia-tama/*.xls'
    FORMAT EXCEL (sheet = '/^Stock/', header_row = 3, header_rows = 2, footer = 'Total')
  INTO bronze.stock
  AS SELECT 'kimia-tama' AS merchant, sku, name, unit, stock_good::bigint AS qty,
            price::numeric(12,2) AS price, NULL::date AS counted_on, _file, _row
     FROM source;

-- A pharmacy's Excel: a sheet for each branch, codes with leading zeros, a hidden sheet left alone.
CREATE PIPELINE stock_apotek
  FROM FILES inbox 'merchants/apotek-jaya/*.xlsx' FORMAT EXCEL (sheet = '/^Stock/')
  INTO bronze.stock
  AS SELECT 'apotek-jaya' AS merchant, sku, name, unit, qty::bigint AS qty,
            price::numeric(12,2) AS price, counted::date AS counted_on, _file, _row
     FROM source;

-- An insurer's sheet of claims; a claim without a member is kept and counted.
CREATE PIPELINE claims
  FROM FILES inbox 'claims/*.xlsx' FORMAT EXCEL
  INTO bronze.claims
  AS SELECT claim_no, member_no, visit_date::date AS visit_date, provider, diagnosis,
            billed::numeric(14,2) AS billed, paid::numeric(14,2) AS paid, _file, _row
     FROM source
  EXPECT member_known CHECK (member_no IS NOT NULL) ON VIOLATION WARN;

RUN PIPELINE stock_sentosa;
RUN PIPELINE stock_kimia;
RUN PIPELINE stock_apotek;
RUN PIPELINE claims;

SELECT merchant, count(*) AS items, sum(qty) AS pieces, sum(qty * price) AS worth
FROM bronze.stock GROUP BY merchant ORDER BY merchant;

SELECT name, sum(qty) AS pieces, min(price) AS cheapest, max(price) AS dearest
FROM bronze.stock GROUP BY name ORDER BY pieces DESC, name LIMIT 5;

SELECT provider, count(*) AS claims, sum(billed) AS billed,
       round(100 * sum(paid) / sum(billed), 1) AS paid_percent
FROM bronze.claims GROUP BY provider ORDER BY billed DESC;

SELECT pipeline, rule, reason, row_number, raw FROM system.quarantine ORDER BY row_number;
