-- Version 3, from the tables of 0.2.0: pauses, notices, when a delivery is given up, the routers
-- that an event came through, and the progress of a replay. Nodes of 0.2.0 still work on these
-- tables.

-- No caller waits in line behind this upgrade: it gives up soon, and the start tries again.
-- Tables are locked in the order in which writers lock them.
SET LOCAL lock_timeout = '500ms';
LOCK TABLE events, letters, deliveries, attempts, actions IN ACCESS EXCLUSIVE MODE;

-- One row per target: its last pause. Nodes of 0.2.0 do not know pauses, and go on sending.
CREATE TABLE pauses (
    target text COLLATE "C" PRIMARY KEY,
    since double precision NOT NULL,
    until double precision NOT NULL,
    because text NOT NULL,
    who text NOT NULL,
    resumed_by text NOT NULL
);

-- The last notification about each subject, so that one of several processes sends it.
CREATE TABLE notices (
    name text COLLATE "C" PRIMARY KEY,
    what text NOT NULL,
    at double precision NOT NULL
);

-- Nodes of 0.2.0 do not write it: it is 0 then.
ALTER TABLE letters ADD COLUMN hops integer NOT NULL DEFAULT 0;

-- The progress of a replay from the archive: its lower bound, and the last event that it has
-- queued.
ALTER TABLE actions
    ADD COLUMN since double precision,
    ADD COLUMN place_at double precision,
    ADD COLUMN place_event text;

-- An awaited delivery has its event's end; all others have NULL. A trigger keeps it, so that
-- nodes of 0.2.0 keep it too. Both indexes serve one step from a target to the next; no other
-- query uses them.
ALTER TABLE deliveries ADD COLUMN ends_at double precision;
UPDATE deliveries d SET ends_at = e.ends_at FROM events e
WHERE e.seq = d.seq AND d.state = 'awaiting';
CREATE INDEX deliveries_by_end ON deliveries (target, ends_at) WHERE ends_at IS NOT NULL;
CREATE INDEX deliveries_by_retries ON deliveries (retries, target, due_at) WHERE state = 'queued';

-- A dead letter that was acknowledged later, as another event's, no longer counts as a row of its
-- target.
INSERT INTO usage AS u (target, state, backend, rows, bytes)
SELECT d.target, d.state, pg_backend_pid(), -count(*), 0 FROM deliveries d
WHERE d.state = 'dead' AND d.acknowledged_later_at IS NOT NULL GROUP BY d.target, d.state
ON CONFLICT (target, state, backend) DO UPDATE SET rows = u.rows + excluded.rows;
