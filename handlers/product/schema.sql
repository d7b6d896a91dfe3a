-- The catalog, its stock, and what is set aside for checkouts.

-- step 1: products and reservations

CREATE TABLE product (
    id          INTEGER PRIMARY KEY,
    sku         TEXT NOT NULL,       -- the shop's own number of it
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    price       INTEGER NOT NULL CHECK (price >= 0), -- in minor units
    currency    TEXT NOT NULL,       -- ISO 4217
    category    TEXT,
    attributes  TEXT NOT NULL,       -- a JSON object
    stock       INTEGER CHECK (stock >= 0),          -- on hand; NULL: not counted
    reserved    INTEGER NOT NULL DEFAULT 0           -- of it, in live reservations
                CHECK (reserved >= 0),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    deleted_at  INTEGER,             -- NULL while it is sold
    version     INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE UNIQUE INDEX product_by_sku ON product (sku) WHERE deleted_at IS NULL;
CREATE INDEX product_by_name ON product (name, id) WHERE deleted_at IS NULL;
CREATE INDEX product_by_price ON product (price, id) WHERE deleted_at IS NULL;
CREATE INDEX product_by_category ON product (category, id) WHERE deleted_at IS NULL;
CREATE INDEX product_by_category_name ON product (category, name, id) WHERE deleted_at IS NULL;
CREATE INDEX product_by_category_price ON product (category, price, id) WHERE deleted_at IS NULL;

CREATE TABLE reservation (
    id         INTEGER PRIMARY KEY,
    status     TEXT NOT NULL         -- held, committed, released
               CHECK (status IN ('held', 'committed', 'released')),
    expires_at INTEGER NOT NULL,     -- then a held one is released
    created_at INTEGER NOT NULL,
    shortfall  INTEGER NOT NULL DEFAULT 0 -- pieces of it that were not there any more
) STRICT;

CREATE INDEX reservation_by_expiry ON reservation (expires_at) WHERE status = 'held';

CREATE TABLE reservation_line (
    reservation_id INTEGER NOT NULL REFERENCES reservation (id),
    product_id     INTEGER NOT NULL REFERENCES product (id),
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, product_id)
) STRICT;

CREATE INDEX reservation_line_by_product ON reservation_line (product_id);

-- Full-text search is SQLite's FTS5: with what catalog.c marks, the one place
-- with SQL of SQLite alone. Its rows are the products that are not deleted; no
-- trigger keeps it, because trusted_schema is off.
CREATE VIRTUAL TABLE product_search USING fts5 (name, description, sku, category);

-- step 2: no index finds a product's reservations: it is never deleted, and doctor counts them all

DROP INDEX reservation_line_by_product;

-- step 3: less work for each reservation: a line is one row in the order of its key, not two; and
-- its status is compared one by one, because a list in a CHECK is made into a table at each write

PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'status IN (''held'', ''committed'', ''released'')',
    'status = ''held'' OR status = ''committed'' OR status = ''released''')
    WHERE name = 'reservation';
PRAGMA writable_schema = RESET;

CREATE TABLE new_line (
    reservation_id INTEGER NOT NULL REFERENCES reservation (id),
    product_id     INTEGER NOT NULL REFERENCES product (id),
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, product_id)
) STRICT, WITHOUT ROWID;

INSERT INTO new_line SELECT reservation_id, product_id, quantity
    FROM reservation_line ORDER BY reservation_id, product_id;

DROP TABLE reservation_line;
ALTER TABLE new_line RENAME TO reservation_line;

-- step 4: lists by id pass over no deleted products

CREATE INDEX product_by_id ON product (id) WHERE deleted_at IS NULL;
