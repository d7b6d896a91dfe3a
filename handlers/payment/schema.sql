-- Invoices, the attempts to pay them, and the refunds. No row is ever deleted.

-- step 1: invoices, attempts, refunds, and the sandbox gateway's own record

CREATE TABLE invoice_number (
    last INTEGER NOT NULL              -- the number given last; one row
) STRICT;

INSERT INTO invoice_number (last) VALUES (0);

CREATE TABLE invoice (
    id              INTEGER PRIMARY KEY,
    number          INTEGER NOT NULL UNIQUE, -- 1, 2, 3 … without gaps
    user_id         INTEGER NOT NULL,  -- who owes it
    status          TEXT NOT NULL DEFAULT 'open'
                    CHECK (status IN ('open', 'paid', 'void', 'refunded')),
    currency        TEXT NOT NULL,     -- ISO 4217, of all amounts
    total           INTEGER NOT NULL   -- the sum of the lines, in minor units
                    CHECK (total >= 0),
    amount_paid     INTEGER NOT NULL DEFAULT 0, -- 0, or the total
    amount_refunded INTEGER NOT NULL DEFAULT 0  -- of what was paid
                    CHECK (amount_refunded BETWEEN 0 AND amount_paid),
    reservation_id  INTEGER,           -- product's, of the goods; NULL without
    created_at      INTEGER NOT NULL,
    paid_at         INTEGER,           -- NULL until it is
    expires_at      INTEGER NOT NULL,  -- then an open one becomes void
    version         INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE INDEX invoice_by_user ON invoice (user_id, id);
CREATE INDEX invoice_by_status ON invoice (status, id);
CREATE INDEX invoice_by_expiry ON invoice (expires_at) WHERE status = 'open';

CREATE TABLE invoice_line (
    invoice_id  INTEGER NOT NULL REFERENCES invoice (id),
    position    INTEGER NOT NULL,      -- 0, 1, 2 … on the invoice
    product_id  INTEGER NOT NULL,
    description TEXT NOT NULL,         -- the product's name when it was sold
    quantity    INTEGER NOT NULL CHECK (quantity > 0),
    price       INTEGER NOT NULL CHECK (price >= 0), -- of one
    PRIMARY KEY (invoice_id, position)
) STRICT;

-- What a gateway was told to charge. Committed before it is told.
CREATE TABLE attempt (
    id         INTEGER PRIMARY KEY,
    invoice_id INTEGER NOT NULL REFERENCES invoice (id),
    gateway    TEXT NOT NULL,          -- its name
    key        TEXT NOT NULL UNIQUE,   -- what the gateway knows it by
    amount     INTEGER NOT NULL,
    status     TEXT NOT NULL DEFAULT 'started' -- unknown: the gateway did not answer
               CHECK (status IN ('started', 'unknown', 'succeeded', 'declined')),
    reference  TEXT,                   -- the gateway's words for it
    origin     TEXT,                   -- by which a repeated request finds it; see transfer_again()
    asked      INTEGER NOT NULL DEFAULT 0, -- times the gateway was asked about it
    due_at     INTEGER NOT NULL,       -- when to ask next, while it is not known
    created_at INTEGER NOT NULL,
    ended_at   INTEGER                 -- NULL until it is known
) STRICT;

CREATE UNIQUE INDEX attempt_live ON attempt (invoice_id) WHERE status IN ('started', 'unknown');
CREATE INDEX attempt_by_due ON attempt (due_at) WHERE status IN ('started', 'unknown');
CREATE INDEX attempt_by_invoice ON attempt (invoice_id);

-- What a gateway was told to give back; the same columns.
CREATE TABLE refund (
    id         INTEGER PRIMARY KEY,
    invoice_id INTEGER NOT NULL REFERENCES invoice (id),
    attempt_id INTEGER NOT NULL REFERENCES attempt (id), -- the one that took it
    gateway    TEXT NOT NULL,          -- the attempt's
    key        TEXT NOT NULL UNIQUE,   -- what the gateway knows it by
    amount     INTEGER NOT NULL CHECK (amount > 0),
    status     TEXT NOT NULL DEFAULT 'started'
               CHECK (status IN ('started', 'unknown', 'succeeded', 'declined')),
    reference  TEXT,                   -- the gateway's words for it
    origin     TEXT,                   -- by which a repeated request finds it; see transfer_again()
    asked      INTEGER NOT NULL DEFAULT 0, -- times the gateway was asked about it
    due_at     INTEGER NOT NULL,       -- when to ask next, while it is not known
    created_at INTEGER NOT NULL,
    ended_at   INTEGER                 -- NULL until it is known
) STRICT;

CREATE UNIQUE INDEX refund_live ON refund (invoice_id) WHERE status IN ('started', 'unknown');
CREATE INDEX refund_by_due ON refund (due_at) WHERE status IN ('started', 'unknown');

-- The other side of the sandbox gateway: what it would have done with money.
CREATE TABLE sandbox_charge (
    id        INTEGER PRIMARY KEY,     -- its reference
    key       TEXT NOT NULL UNIQUE,    -- as it was told
    token     TEXT NOT NULL,           -- of the charge, also for its refunds
    refund_of TEXT REFERENCES sandbox_charge (key), -- NULL for a charge
    amount    INTEGER NOT NULL,
    currency  TEXT NOT NULL,
    succeeded INTEGER NOT NULL         -- 1, or 0 when it was declined
) STRICT;

-- step 2: refunds of an invoice, and what expires next, are found at once

CREATE INDEX refund_by_invoice ON refund (invoice_id);
DROP INDEX invoice_by_expiry;
CREATE INDEX invoice_by_expiry ON invoice (status, expires_at);

-- step 3: product hears only of invoices that are not paid at once

CREATE TABLE extension (
    last INTEGER NOT NULL              -- the newest invoice of which it heard, or need not; one row
) STRICT;

INSERT INTO extension (last) SELECT coalesce(max(id), 0) FROM invoice;

-- step 4: less work for each invoice: a line is one row in the order of its key, not two; and a
-- status is compared one by one, because a list in a CHECK is made into a table at each write

PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'status IN (''open'', ''paid'', ''void'', ''refunded'')',
    'status = ''open'' OR status = ''paid'' OR status = ''void'' OR status = ''refunded''')
    WHERE name = 'invoice';
UPDATE sqlite_schema SET sql = replace(sql,
    'status IN (''started'', ''unknown'', ''succeeded'', ''declined'')',
    'status = ''started'' OR status = ''unknown'' OR status = ''succeeded'' OR status = ''declined''')
    WHERE name IN ('attempt', 'refund');
PRAGMA writable_schema = RESET;

CREATE TABLE new_line (
    invoice_id  INTEGER NOT NULL REFERENCES invoice (id),
    position    INTEGER NOT NULL,      -- 0, 1, 2 … on the invoice
    product_id  INTEGER NOT NULL,
    description TEXT NOT NULL,         -- the product's name when it was sold
    quantity    INTEGER NOT NULL CHECK (quantity > 0),
    price       INTEGER NOT NULL CHECK (price >= 0), -- of one
    PRIMARY KEY (invoice_id, position)
) STRICT, WITHOUT ROWID;

INSERT INTO new_line SELECT invoice_id, position, product_id, description, quantity, price
    FROM invoice_line ORDER BY invoice_id, position;

DROP TABLE invoice_line;
ALTER TABLE new_line RENAME TO invoice_line;
