-- The carts of the shop's customers, and their checkouts.

-- step 1: checkouts, carts and what is in them

CREATE TABLE checkout (
    id             TEXT NOT NULL PRIMARY KEY, -- random; the Idempotency-Keys of its calls begin with it
    user_id        INTEGER NOT NULL,  -- whose cart it is
    state          TEXT NOT NULL      -- the step it stopped at, or how it ended; see checkout.c
                   CHECK (state IN ('reserve', 'invoice', 'done', 'undone')),
    lines          TEXT NOT NULL,     -- JSON: the items of the frozen cart
    reservation_id INTEGER,           -- product's, if it was made before that
    invoice_id     INTEGER,           -- payment's, once it is made
    invoice        TEXT,              -- JSON: the invoice as payment gave it
    problem        TEXT,              -- type of the problem it was undone for
    attempts       INTEGER NOT NULL DEFAULT 1, -- times it was taken up; an earlier taker has lost it
    holder         TEXT,              -- REQUEST_ID of the request that took it up; NULL: the job, or none
    leased_until   INTEGER,           -- its taker's alone until then; NULL: anybody's
    answered_at    INTEGER,           -- when a client was given the invoice; NULL: none was yet
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL   -- when it began, stopped or ended
) STRICT;

-- A cart is checked out once at a time.
CREATE UNIQUE INDEX checkout_running ON checkout (user_id) WHERE state IN ('reserve', 'invoice');
CREATE INDEX checkout_by_due ON checkout (updated_at) WHERE state IN ('reserve', 'invoice');
CREATE INDEX checkout_by_end ON checkout (updated_at) WHERE state IN ('done', 'undone');
CREATE INDEX checkout_by_user ON checkout (user_id, created_at);

CREATE TABLE cart (
    user_id      INTEGER PRIMARY KEY,        -- whose it is
    version      INTEGER NOT NULL,           -- goes up with all that a reader would see change
    last_item_id INTEGER NOT NULL DEFAULT 0, -- the newest item's, so that no id comes twice
    checkout_id  TEXT REFERENCES checkout (id) -- what has frozen it; NULL: it may be changed
) STRICT;

CREATE INDEX cart_by_checkout ON cart (checkout_id) WHERE checkout_id IS NOT NULL;

CREATE TABLE cart_item (
    user_id    INTEGER NOT NULL REFERENCES cart (user_id),
    id         INTEGER NOT NULL,     -- within the cart
    product_id INTEGER NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 999),
    name       TEXT NOT NULL,        -- this, price and available as last seen from product
    price      INTEGER NOT NULL CHECK (price >= 0), -- of one, in minor units; as the customer saw it
    currency   TEXT NOT NULL,        -- ISO 4217; the same for all of a cart
    available  INTEGER,              -- pieces; NULL: not counted; 0 also for a product that is gone
    seen_at    INTEGER NOT NULL,     -- when product was asked, or an hour before: it is to be asked again
    added_at   INTEGER NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, product_id)
) STRICT;

-- step 2: carts that nobody looks at any more can be found

CREATE INDEX cart_item_by_seen ON cart_item (seen_at);

-- step 3: a checkout touches fewer pages: rows in the order of their keys, and no index that
-- something else does as well. That a cart is frozen by one checkout, which is there, doctor checks.

CREATE TABLE new_checkout (
    nr             INTEGER PRIMARY KEY, -- in the order they began
    id             TEXT NOT NULL UNIQUE, -- random; the Idempotency-Keys of its calls begin with it
    user_id        INTEGER NOT NULL,  -- whose cart it is
    state          TEXT NOT NULL      -- the step it stopped at, or how it ended; see checkout.c
                   CHECK (state IN ('reserve', 'invoice', 'done', 'undone')),
    lines          TEXT NOT NULL,     -- JSON: the items of the frozen cart
    reservation_id INTEGER,           -- product's, if it was made before that
    invoice_id     INTEGER,           -- payment's, once it is made
    invoice        TEXT,              -- JSON: the invoice as payment gave it
    problem        TEXT,              -- type of the problem it was undone for
    attempts       INTEGER NOT NULL DEFAULT 1, -- times it was taken up; an earlier taker has lost it
    holder         TEXT,              -- REQUEST_ID of the request that took it up; NULL: the job, or none
    leased_until   INTEGER,           -- its taker's alone until then; NULL: anybody's
    answered_at    INTEGER,           -- when a client was given the invoice; NULL: none was yet
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL   -- when it began, stopped or ended
) STRICT;

INSERT INTO new_checkout (id, user_id, state, lines, reservation_id, invoice_id, invoice, problem,
        attempts, holder, leased_until, answered_at, created_at, updated_at)
    SELECT id, user_id, state, lines, reservation_id, invoice_id, invoice, problem,
        attempts, holder, leased_until, answered_at, created_at, updated_at
    FROM checkout ORDER BY rowid;

CREATE TABLE new_cart (
    user_id      INTEGER PRIMARY KEY,        -- whose it is
    version      INTEGER NOT NULL,           -- goes up with all that a reader would see change
    last_item_id INTEGER NOT NULL DEFAULT 0, -- the newest item's, so that no id comes twice
    checkout_id  TEXT                        -- what has frozen it; NULL: it may be changed
) STRICT;

INSERT INTO new_cart SELECT user_id, version, last_item_id, checkout_id FROM cart;

CREATE TABLE new_item (
    user_id    INTEGER NOT NULL REFERENCES new_cart (user_id),
    id         INTEGER NOT NULL,     -- within the cart
    product_id INTEGER NOT NULL,
    quantity   INTEGER NOT NULL CHECK (quantity BETWEEN 1 AND 999),
    name       TEXT NOT NULL,        -- this, price and available as last seen from product
    price      INTEGER NOT NULL CHECK (price >= 0), -- of one, in minor units; as the customer saw it
    currency   TEXT NOT NULL,        -- ISO 4217; the same for all of a cart
    available  INTEGER,              -- pieces; NULL: not counted; 0 also for a product that is gone
    seen_at    INTEGER NOT NULL,     -- when product was asked, or an hour before: it is to be asked again
    added_at   INTEGER NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (user_id, id),
    UNIQUE (user_id, product_id)
) STRICT, WITHOUT ROWID;

INSERT INTO new_item SELECT user_id, id, product_id, quantity, name, price, currency, available,
        seen_at, added_at, version FROM cart_item;

DROP TABLE cart_item;
DROP TABLE cart;
DROP TABLE checkout;
ALTER TABLE new_checkout RENAME TO checkout;
ALTER TABLE new_cart RENAME TO cart;
ALTER TABLE new_item RENAME TO cart_item;

CREATE INDEX checkout_by_due ON checkout (updated_at) WHERE state IN ('reserve', 'invoice');
CREATE INDEX checkout_by_user ON checkout (user_id, created_at);
CREATE INDEX cart_item_by_seen ON cart_item (seen_at);

-- step 4: less work for each checkout: no index by its id, as it is its user's newest while it runs;
-- and its state is compared one by one, because a list in a CHECK is made into a table at each write

CREATE TABLE new_checkout (
    nr             INTEGER PRIMARY KEY, -- in the order they began
    id             TEXT NOT NULL,     -- random; the Idempotency-Keys of its calls begin with it
    user_id        INTEGER NOT NULL,  -- whose cart it is
    state          TEXT NOT NULL      -- the step it stopped at, or how it ended; see checkout.c
                   CHECK (state = 'reserve' OR state = 'invoice' OR state = 'done' OR state = 'undone'),
    lines          TEXT NOT NULL,     -- JSON: the items of the frozen cart
    reservation_id INTEGER,           -- product's, if it was made before that
    invoice_id     INTEGER,           -- payment's, once it is made
    invoice        TEXT,              -- JSON: the invoice as payment gave it
    problem        TEXT,              -- type of the problem it was undone for
    attempts       INTEGER NOT NULL DEFAULT 1, -- times it was taken up; an earlier taker has lost it
    holder         TEXT,              -- REQUEST_ID of the last request that took it up; NULL: none with one
    leased_until   INTEGER,           -- its taker's alone until then; NULL: anybody's
    answered_at    INTEGER,           -- when a client was given the invoice; NULL: none was yet
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL   -- when it began, stopped or ended
) STRICT;

INSERT INTO new_checkout SELECT * FROM checkout;

DROP TABLE checkout;
ALTER TABLE new_checkout RENAME TO checkout;

CREATE INDEX checkout_by_due ON checkout (updated_at) WHERE state IN ('reserve', 'invoice');
CREATE INDEX checkout_by_user ON checkout (user_id);
