-- Version 3: pauses, notices, when a delivery is given up, the routers that an event came
-- through, and the progress of a replay. A program of 0.2.0 still works on these tables.

-- The last pause of each target, and the last notification about each subject.
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

-- A program of 0.2.0 does not write it: it is 0 then.
ALTER TABLE events ADD COLUMN hops INTEGER NOT NULL DEFAULT 0;

-- Of a replay from the archive: its lower bound, and the last event that it has queued.
ALTER TABLE actions ADD COLUMN since REAL;
ALTER TABLE actions ADD COLUMN place_at REAL;
ALTER TABLE actions ADD COLUMN place_event TEXT;

-- An awaited delivery has its event's end; all others have NULL. Triggers keep it, so that a
-- program of 0.2.0 keeps it too. Both indexes serve one step from a target to the next; no other
-- query uses them.
ALTER TABLE deliveries ADD COLUMN ends_at REAL;
UPDATE deliveries SET ends_at = (SELECT ends_at FROM events e WHERE e.seq = deliveries.seq)
WHERE state = 'awaiting';
CREATE INDEX deliveries_by_end ON deliveries (target, ends_at) WHERE ends_at IS NOT NULL;
CREATE INDEX deliveries_by_retries ON deliveries (retries, target, due_at) WHERE state = 'queued';

-- A dead letter that was acknowledged later, as another event's, no longer counts as a row.
UPDATE usage SET rows = rows - (
    SELECT count(*) FROM deliveries d
    WHERE d.target = usage.target AND d.state = 'dead' AND d.acknowledged_later_at IS NOT NULL
) WHERE state = 'dead';
