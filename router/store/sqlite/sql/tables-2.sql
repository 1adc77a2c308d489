-- The tables of 0.2.0. Times are seconds since the epoch.
--
-- Bodies have a table of their own: SQLite rewrites a whole row whenever its length changes.
-- `usage` has the events under '' and '', unsettled deliveries by target and state; triggers keep
-- it.

CREATE TABLE version (version INTEGER NOT NULL) STRICT;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    stage TEXT NOT NULL,
    first_at REAL NOT NULL,
    requests INTEGER NOT NULL,
    replied_at REAL NOT NULL,
    due_at REAL NOT NULL,
    credit_until REAL NOT NULL,
    ends_at REAL NOT NULL,
    spent INTEGER NOT NULL,
    expires_at REAL,
    size INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    traceparent TEXT NOT NULL,
    event_source TEXT NOT NULL,
    event_topic TEXT NOT NULL,
    event_type TEXT NOT NULL,
    event_status TEXT NOT NULL,
    event_key TEXT NOT NULL,
    tracestate TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TABLE bodies (seq INTEGER PRIMARY KEY REFERENCES events, body BLOB NOT NULL) STRICT;
CREATE INDEX events_by_body ON events (digest, stage);
CREATE INDEX events_by_end ON events (ends_at) WHERE stage = 'open';
CREATE INDEX events_unsettled ON events (first_at) WHERE expires_at IS NULL;
CREATE INDEX events_by_expiry ON events (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE deliveries (
    seq INTEGER NOT NULL REFERENCES events,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    due_at REAL NOT NULL,
    retries INTEGER NOT NULL,
    lease TEXT NOT NULL DEFAULT '',
    changed_at REAL NOT NULL,
    acknowledged_later_at REAL,
    action INTEGER,
    was_state TEXT,
    was_reason TEXT,
    later_event TEXT,
    PRIMARY KEY (seq, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_by_due ON deliveries (target, due_at) WHERE state = 'queued';
CREATE INDEX deliveries_dead ON deliveries (target, changed_at) WHERE state = 'dead';

CREATE TABLE actions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    action_id TEXT NOT NULL UNIQUE,
    verb TEXT NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    at REAL NOT NULL,
    deliveries INTEGER NOT NULL
) STRICT;
CREATE INDEX actions_by_time ON actions (at);

CREATE TABLE credit (spent_up_to INTEGER NOT NULL) STRICT;
INSERT INTO credit VALUES (0);

CREATE TABLE usage (
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (target, state)
) STRICT, WITHOUT ROWID;
INSERT INTO usage VALUES ('', '', 0, 0);

CREATE TABLE attempts (
    seq INTEGER NOT NULL REFERENCES events,
    target TEXT NOT NULL,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    at REAL NOT NULL,
    seconds REAL NOT NULL,
    request INTEGER NOT NULL,
    retry INTEGER NOT NULL,
    reason TEXT NOT NULL,
    delivered INTEGER NOT NULL,
    status INTEGER,
    code TEXT NOT NULL,
    msg TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (seq, target, number)
) STRICT, WITHOUT ROWID;
