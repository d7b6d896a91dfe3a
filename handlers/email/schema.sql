-- The queue of outgoing mail, and how much was asked for in the last hour.

-- step 1: mails and their counts

CREATE TABLE mail (
    id         INTEGER PRIMARY KEY, -- never used again: the newest row is kept
    key        TEXT NOT NULL,       -- random; names the mail in its Message-ID
    user_id    INTEGER,             -- the user it is for, when asked for so
    recipient  TEXT,                -- NULL until user_id is looked up, and once forgotten
    checked    INTEGER NOT NULL     -- 0: user is still to be asked for the recipient
               CHECK (checked IN (0, 1)),
    subject    TEXT,                -- NULL once forgotten
    text       TEXT,                -- the body; NULL once sent, failed or forgotten
    html       TEXT,                -- the same in HTML; NULL also without one
    status     TEXT NOT NULL DEFAULT 'queued'
               CHECK (status IN ('queued', 'sent', 'failed')),
    attempts   INTEGER NOT NULL DEFAULT 0, -- to hand it to the transport
    due_at     INTEGER NOT NULL,    -- not to be tried before; an instance that tries it moves this to the end of its lease
    last_error TEXT,                -- what the server said to the last attempt
    created_at INTEGER NOT NULL,    -- also its Date
    sent_at    INTEGER,             -- when the transport took it
    version    INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE INDEX mail_by_due ON mail (due_at) WHERE status = 'queued';
CREATE INDEX mail_by_status ON mail (status, id);
CREATE INDEX mail_by_recipient ON mail (lower(recipient), id);
CREATE INDEX mail_by_age ON mail (created_at) WHERE status <> 'queued';

-- One row a mail that was accepted, for an hour. Apart from the mails, so that
-- erasing those leaves the caps as they are.
CREATE TABLE mail_count (
    id  INTEGER PRIMARY KEY,
    who TEXT NOT NULL,    -- a hash of the address or user it went to
    at  INTEGER NOT NULL  -- when it was accepted
) STRICT;

CREATE INDEX mail_count_by_who ON mail_count (who, at);
CREATE INDEX mail_count_by_time ON mail_count (at);

-- step 2: what is due is found at once, however many mails wait

DROP INDEX mail_by_due;
CREATE INDEX mail_by_due ON mail (status, due_at);

-- step 3: of the mails of an hour, those that can wait have half

ALTER TABLE mail_count ADD COLUMN can_wait INTEGER NOT NULL DEFAULT 0; -- 1: welcome, verification

CREATE INDEX mail_count_waiting ON mail_count (at) WHERE can_wait = 1;

-- step 4: less work for each mail: its status is compared one by one, because a list in a CHECK is
-- made into a table at each write

PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'status IN (''queued'', ''sent'', ''failed'')',
    'status = ''queued'' OR status = ''sent'' OR status = ''failed''')
    WHERE name = 'mail';
PRAGMA writable_schema = RESET;
