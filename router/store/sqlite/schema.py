"""The file's tables, as the migrations that make them; a file's version is how many it has had.

One goes back to the version before without a thought: a migration leaves alone what that works on.
"""

from __future__ import annotations

from router.store.protocol import UNSETTLED

_UNSETTLED = ", ".join(f"'{state}'" for state in UNSETTLED)

#: Bodies have a table of their own: SQLite writes a row anew, all of it, whenever its length
#: changes. `usage` is kept by triggers: nobody can forget it, and it costs the same at any size.
#: A delivery's `action` is the last one of a person on it; actions are kept for a while only.
#: `was_…`: how the delivery stood before it. `later_event`: the event that stood in for it.
#: Of failed attempts some are kept. Their bytes are counted with the store's and with their
#: target's, under a state of which they are none.
_SECOND = f"""
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
CREATE TRIGGER attempt_added AFTER INSERT ON attempts BEGIN
    INSERT INTO usage VALUES ('', '', 0, NEW.size), (NEW.target, 'dead', 0, NEW.size)
    ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER attempt_deleted AFTER DELETE ON attempts BEGIN
    UPDATE usage SET bytes = bytes - OLD.size
    WHERE (target, state) IN (VALUES ('', ''), (OLD.target, 'dead'));
END;
CREATE TRIGGER attempts_left AFTER DELETE ON deliveries BEGIN
    DELETE FROM attempts WHERE seq = OLD.seq AND target = OLD.target;
END;
"""  # noqa: S608 - our own words

#: Whether a delivery counts as a row of its target's: one that is dead, and was acknowledged later,
#: takes up room and nothing else.
_COUNTS = "({0}.state <> 'dead' OR {0}.acknowledged_later_at IS NULL)"

#: One pause for each target, the last, and what was last told of each thing. An awaited delivery's
#: `ends_at` is its event's, and all others have none: it is kept by triggers, so that a program of
#: the version before keeps it too.
#: Both indexes are for the first of each target, however many there are; no other query fits them.
_THIRD = f"""
ALTER TABLE deliveries ADD COLUMN ends_at REAL;
UPDATE deliveries SET ends_at = (SELECT ends_at FROM events e WHERE e.seq = deliveries.seq)
WHERE state = 'awaiting';
CREATE INDEX deliveries_by_end ON deliveries (target, ends_at) WHERE ends_at IS NOT NULL;
CREATE INDEX deliveries_by_retries ON deliveries (retries, target, due_at) WHERE state = 'queued';
CREATE TRIGGER delivery_awaits AFTER INSERT ON deliveries WHEN NEW.state = 'awaiting' BEGIN
    UPDATE deliveries SET ends_at = (SELECT ends_at FROM events WHERE seq = NEW.seq)
    WHERE seq = NEW.seq AND target = NEW.target;
END;
CREATE TRIGGER delivery_awaits_again AFTER UPDATE OF state ON deliveries
WHEN OLD.state <> NEW.state AND 'awaiting' IN (OLD.state, NEW.state) BEGIN
    UPDATE deliveries SET ends_at = CASE NEW.state
        WHEN 'awaiting' THEN (SELECT ends_at FROM events WHERE seq = NEW.seq) END
    WHERE seq = NEW.seq AND target = NEW.target;
END;
CREATE TRIGGER event_ends_at AFTER UPDATE OF ends_at ON events
WHEN OLD.ends_at <> NEW.ends_at BEGIN
    UPDATE deliveries SET ends_at = NEW.ends_at WHERE seq = NEW.seq AND state = 'awaiting';
END;

CREATE TABLE pauses (
    target TEXT NOT NULL PRIMARY KEY,
    since REAL NOT NULL,
    until REAL NOT NULL,
    because TEXT NOT NULL,
    who TEXT NOT NULL,
    resumed_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
    name TEXT NOT NULL PRIMARY KEY,
    what TEXT NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;

DROP TRIGGER delivery_left;
DROP TRIGGER delivery_came;
DROP TRIGGER delivery_deleted;
UPDATE usage SET rows = rows - (
    SELECT count(*) FROM deliveries d
    WHERE d.target = usage.target AND d.state = 'dead' AND NOT {_COUNTS.format("d")}
) WHERE state = 'dead';
CREATE TRIGGER delivery_left AFTER UPDATE OF state, acknowledged_later_at ON deliveries
WHEN (OLD.state <> NEW.state OR {_COUNTS.format("OLD")} <> {_COUNTS.format("NEW")})
    AND OLD.state IN ({_UNSETTLED}) BEGIN
    UPDATE usage SET rows = rows - {_COUNTS.format("OLD")},
        bytes = bytes - (SELECT size FROM events WHERE seq = OLD.seq)
    WHERE target = OLD.target AND state = OLD.state;
END;
CREATE TRIGGER delivery_came AFTER UPDATE OF state, acknowledged_later_at ON deliveries
WHEN (OLD.state <> NEW.state OR {_COUNTS.format("OLD")} <> {_COUNTS.format("NEW")})
    AND NEW.state IN ({_UNSETTLED}) BEGIN
    INSERT INTO usage
    SELECT NEW.target, NEW.state, {_COUNTS.format("NEW")}, size FROM events WHERE seq = NEW.seq
    ON CONFLICT DO UPDATE SET rows = rows + excluded.rows, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER delivery_deleted AFTER DELETE ON deliveries
WHEN OLD.state IN ({_UNSETTLED}) BEGIN
    UPDATE usage SET rows = rows - {_COUNTS.format("OLD")},
        bytes = bytes - (SELECT size FROM events WHERE seq = OLD.seq)
    WHERE target = OLD.target AND state = OLD.state;
END;
"""  # noqa: S608 - our own words

#: The number of routers that an event came through. A program of the version before writes 0.
_FOURTH = "ALTER TABLE events ADD COLUMN hops INTEGER NOT NULL DEFAULT 0;"

#: By the version that each leads to. Never change one that was released: add another. No release
#: had version 1.
MIGRATIONS = {2: _SECOND, 3: _THIRD, 4: _FOURTH}

FILE_VERSION = max(MIGRATIONS)

#: The oldest program that can work on a file of this version, by its own: that is what the file's
#: header says. A program goes on with a newer file that says so.
OLDEST_PROGRAM = 2

#: Marks the file as this program's own, in SQLite's header: "EBaS".
APPLICATION_ID = 0x45426153
