-- The database of a till, for MySQL or MariaDB: what README.md follows.

CREATE DATABASE till;
USE till;

CREATE TABLE sales (
  id      INT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
  sku     CHAR(6) NOT NULL,
  qty     INT NOT NULL,
  paid    DECIMAL(12,2) NOT NULL,
  sold_at TIMESTAMP NULL
);

INSERT INTO sales (sku, qty, paid, sold_at) VALUES
  ('000417', 3, 15601.50, '2026-11-03 09:12:00'),
  ('001204', 1, 48750.50, '2026-11-03 09:40:00'),
  ('000417', 2, 10401.00, '2026-11-03 10:05:00');
