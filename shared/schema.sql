-- What every service's database has beside its own tables.

-- step 1: replies that a repeated request gets again, and messages to send

CREATE TABLE idempotency (
    scope       TEXT NOT NULL,    -- caller, method and path; 'request' for a REQUEST_ID
    key         TEXT NOT NULL,    -- the Idempotency-Key, or the REQUEST_ID
    fingerprint TEXT,             -- hash of the body the key first came with
    status      INTEGER,          -- of the first reply; NULL while it runs
    head        TEXT,             -- its header fields
    body        BLOB,             -- its body
    expires_at  INTEGER NOT NULL, -- when the row may go
    PRIMARY KEY (scope, key)
) STRICT;

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);

CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY, -- the order of sending within a subject
    subject     TEXT NOT NULL,       -- what it is about; one subject's messages stay in order
    method      TEXT NOT NULL,       -- of the request that delivers it
    path        TEXT NOT NULL,       -- where on the internal listener it goes
    body        TEXT,                -- JSON, or NULL
    key         TEXT NOT NULL,       -- its Idempotency-Key
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_at      INTEGER NOT NULL,    -- not to be tried before
    leased_until INTEGER,            -- an instance is sending it until then
    dead_at     INTEGER,             -- given up; NULL while there is hope
    last_error  TEXT,                -- of the last attempt
    created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX outbox_by_due ON outbox (due_at) WHERE dead_at IS NULL;
CREATE INDEX outbox_by_subject ON outbox (subject, id) WHERE dead_at IS NULL;

-- step 2: a message knows its receiver, and whether another one goes before it

ALTER TABLE outbox ADD COLUMN receiver TEXT NOT NULL DEFAULT ''; -- the first segment of its path
ALTER TABLE outbox ADD COLUMN waits INTEGER NOT NULL DEFAULT 0; -- 1 behind an older one of its subject; due_at counts once that is gone

UPDATE outbox SET receiver = substr(path, 2, instr(replace(substr(path, 2), '?', '/') || '/', '/') - 1),
    waits = dead_at IS NULL AND EXISTS (SELECT 1 FROM outbox AS older
        WHERE older.dead_at IS NULL AND older.subject = outbox.subject AND older.id < outbox.id);

DROP INDEX outbox_by_due;
CREATE INDEX outbox_by_due ON outbox (receiver, due_at) WHERE dead_at IS NULL AND waits = 0;

-- step 3: what was given up can be found, to drop it in the end

CREATE INDEX outbox_by_death ON outbox (dead_at) WHERE dead_at IS NOT NULL;

-- step 4: no index of the requests by expiry: a REQUEST_ID begins with the time

DROP INDEX idempotency_by_expiry;
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at) WHERE scope <> 'request';

-- step 5: what was given up is found by its subject, too

DROP INDEX outbox_by_subject;
CREATE INDEX outbox_by_subject ON outbox (subject, id);
