-- Version 4: recovery. Nodes of 0.3.0 still work on these tables.

SET LOCAL lock_timeout = '500ms';
LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE;

-- How many attempts at the delivery have begun; and the time before which recovery leaves it
-- alone, which is the end of its lease while an attempt is in flight. A person's retry sets -1.
ALTER TABLE deliveries
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN recover_at double precision NOT NULL DEFAULT 0;
CREATE INDEX deliveries_waiting ON deliveries (target, recover_at, seq)
WHERE state IN ('awaiting', 'queued');
