"""The file's tables, as the migrations that make them; a file's version is how many it has had."""

from __future__ import annotations

from router.store import UNSETTLED

_UNSETTLED = ", ".join(f"'{state}'" for state in UNSETTLED)

#: Bodies have a table of their own: SQLite writes a row anew, all of it, whenever its length
#: changes. `usage` is kept by triggers: nobody can forget it, and it costs the same at any size.
#: A delivery's `action` is the last one of a person on it; actions are kept for a while only.
_FIRST = f"""
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
    event_key TEXT NOT NULL
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
CREATE TRIGGER event_added AFTER INSERT ON events BEGIN
    UPDATE usage SET rows = rows + 1, bytes = bytes + NEW.size WHERE target = '' AND state = '';
END;
CREATE TRIGGER event_deleted AFTER DELETE ON events BEGIN
    UPDATE usage SET rows = rows - 1, bytes = bytes - OLD.size WHERE target = '' AND state = '';
END;
CREATE TRIGGER delivery_added AFTER INSERT ON deliveries
WHEN NEW.state IN ({_UNSETTLED}) BEGIN
    INSERT INTO usage
    SELECT NEW.target, NEW.state, 1, size FROM events WHERE seq = NEW.seq
    ON CONFLICT DO UPDATE SET rows = rows + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER delivery_left AFTER UPDATE OF state ON deliveries
WHEN OLD.state <> NEW.state AND OLD.state IN ({_UNSETTLED}) BEGIN
    UPDATE usage SET rows = rows - 1,
        bytes = bytes - (SELECT size FROM events WHERE seq = OLD.seq)
    WHERE target = OLD.target AND state = OLD.state;
END;
CREATE TRIGGER delivery_came AFTER UPDATE OF state ON deliveries
WHEN OLD.state <> NEW.state AND NEW.state IN ({_UNSETTLED}) BEGIN
    INSERT INTO usage
    SELECT NEW.target, NEW.state, 1, size FROM events WHERE seq = NEW.seq
    ON CONFLICT DO UPDATE SET rows = rows + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER delivery_deleted AFTER DELETE ON deliveries
WHEN OLD.state IN ({_UNSETTLED}) BEGIN
    UPDATE usage SET rows = rows - 1,
        bytes = bytes - (SELECT size FROM events WHERE seq = OLD.seq)
    WHERE target = OLD.target AND state = OLD.state;
END;
"""  # noqa: S608 - our own words

#: Scripts in order. Never change one that was released: add another.
MIGRATIONS = (_FIRST,)

VERSION = len(MIGRATIONS)

#: Marks the file as this program's own, in SQLite's header: "EBaS".
APPLICATION_ID = 0x45426153
