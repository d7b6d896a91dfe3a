-- Accounts, and the sessions in which they are signed in.

-- step 1: accounts and sessions

-- Not called user, which PostgreSQL reserves. A row outlives its account, so
-- that no id is given twice; all that tells of the person is NULL then.
CREATE TABLE account (
    id         INTEGER PRIMARY KEY,
    email      TEXT,             -- as it was given
    email_key  TEXT UNIQUE,      -- in lower case: how it is found
    name       TEXT,             -- NULL when none was given
    role       TEXT NOT NULL CHECK (role IN ('customer', 'admin')),
    password   TEXT,             -- its hash, with the parameters of the hash
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,          -- NULL while it is in use
    version    INTEGER NOT NULL DEFAULT 1
) STRICT;

-- A session is a family of refresh tokens, of which only the newest is good.
-- Only hashes of them are kept.
CREATE TABLE session (
    id           INTEGER PRIMARY KEY,
    user_id      INTEGER NOT NULL REFERENCES account (id),
    family       TEXT NOT NULL UNIQUE, -- hash of the part that all its tokens share
    token        TEXT NOT NULL,        -- hash of the token that is good
    previous     TEXT,                 -- hash of the one before it; NULL at first
    refreshed_by TEXT,                 -- REQUEST_ID that replaced that one
    address      TEXT,                 -- client's, at last use; NULL once it has ended
    agent        TEXT,                 -- its User-Agent, likewise
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,     -- signed in or refreshed
    expires_at   INTEGER NOT NULL      -- over from then on; ending it sets this to now
) STRICT;

CREATE INDEX session_by_user ON session (user_id, id);
CREATE INDEX session_by_expiry ON session (expires_at);
