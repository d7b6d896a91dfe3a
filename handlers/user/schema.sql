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
    expires_at   INTEGER NOT NULL      -- over from then on; 0 when it was ended
) STRICT;

CREATE INDEX session_by_user ON session (user_id, id);
CREATE INDEX session_by_expiry ON session (expires_at);

-- step 2: verified addresses, disabled accounts, mailed links, throttled guessing

ALTER TABLE account ADD COLUMN verified_at INTEGER; -- when a link mailed to the address came back; NULL until then
ALTER TABLE account ADD COLUMN disabled_at INTEGER; -- NULL while it may be used

-- The links that were mailed, of each kind the newest alone, until it is used.
CREATE TABLE proof (
    user_id    INTEGER NOT NULL REFERENCES account (id),
    kind       TEXT NOT NULL CHECK (kind IN ('verification', 'password_reset')),
    token      TEXT NOT NULL UNIQUE, -- its hash
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, kind)
) STRICT;

CREATE INDEX proof_by_expiry ON proof (expires_at);

-- Addresses that a new password was asked for, of accounts or not. A job answers
-- them: whoever asks is not to learn by the time it takes which it was.
CREATE TABLE reset_request (
    email_key TEXT PRIMARY KEY       -- in lower case
) STRICT;

-- What accounts had before another address, as long as nobody else has it: the
-- mails to them are the person's, too.
CREATE TABLE former_address (
    email_key TEXT PRIMARY KEY,      -- in lower case
    user_id   INTEGER NOT NULL REFERENCES account (id)
) STRICT;

CREATE INDEX former_address_by_user ON former_address (user_id);

-- How often something was tried: see throttle.c.
CREATE TABLE throttle (
    rule       TEXT NOT NULL,        -- which of its limits
    account    TEXT NOT NULL,        -- keyed hash of the e-mail address given; '' when it counts all
    network    TEXT NOT NULL,        -- IPv4 address or IPv6 /64 that asked; '' when it counts all
    count      INTEGER NOT NULL,     -- attempts in this window
    since      INTEGER NOT NULL,     -- when the window began
    last_at    INTEGER NOT NULL,     -- the last attempt that was let through
    good_at    INTEGER,              -- the last one that succeeded; NULL when none did
    expires_at INTEGER NOT NULL,     -- when the row may go
    PRIMARY KEY (rule, account, network)
) STRICT;

CREATE INDEX throttle_by_expiry ON throttle (expires_at);

-- step 3: an address that an account has is nobody's former one; it was, of one that add-admin made

DELETE FROM former_address WHERE email_key IN (SELECT email_key FROM account);

-- step 4: an address stays its former owner's until who has it now has proved it, and of the mails to
-- it those until it was left; whose mails are to be seen is whose address was proved

ALTER TABLE former_address ADD COLUMN verified INTEGER NOT NULL DEFAULT 0; -- 1: it was when it was left
ALTER TABLE former_address ADD COLUMN left_at INTEGER; -- NULL: before there was this column
