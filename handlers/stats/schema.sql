-- The record of what users do.

-- step 1: entries

-- The newest row is never deleted, so that no id is given twice.
CREATE TABLE entry (
    id      INTEGER PRIMARY KEY, -- in the order they arrived
    at      INTEGER NOT NULL,    -- when it happened, as the sender says
    user_id INTEGER,             -- who did it; NULL: nobody known, or forgotten
    action  TEXT NOT NULL,       -- what, such as invoice.paid
    data    TEXT NOT NULL        -- a JSON object with more about it
) STRICT;

CREATE INDEX entry_by_time ON entry (at, id);
CREATE INDEX entry_by_user ON entry (user_id, at, id) WHERE user_id IS NOT NULL;
CREATE INDEX entry_by_action ON entry (action, at, id);

-- step 2: what comes of a person who was forgotten is forgotten, too

CREATE TABLE forgotten (
    user_id INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL     -- when
) STRICT;

CREATE INDEX forgotten_by_time ON forgotten (at);
