-- Version 4: recovery. A program of 0.3.0 still works on these tables.

-- How many attempts at the delivery have begun; and the time before which recovery leaves it
-- alone, which is the end of its lease while an attempt is in flight. A person's retry sets -1.
ALTER TABLE deliveries ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN recover_at REAL NOT NULL DEFAULT 0;
CREATE INDEX deliveries_waiting ON deliveries (target, recover_at, seq)
WHERE state IN ('awaiting', 'queued');
