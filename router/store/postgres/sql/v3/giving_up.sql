-- When what is pending is given up: the first of each target is found by one step along an index,
-- however many there are.

-- An awaited delivery has its event's end, and all others have none, whichever version writes them.
-- So no query but the one below can be led to that index.
ALTER TABLE deliveries ADD COLUMN ends_at double precision;

CREATE FUNCTION await_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ends_at := CASE NEW.state
        WHEN 'awaiting' THEN (SELECT e.ends_at FROM events e WHERE e.seq = NEW.seq) END;
    RETURN NEW;
END
$$;
CREATE TRIGGER awaits BEFORE INSERT OR UPDATE OF state ON deliveries
FOR EACH ROW EXECUTE FUNCTION await_end();

CREATE FUNCTION move_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE deliveries SET ends_at = NEW.ends_at WHERE seq = NEW.seq AND ends_at IS NOT NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER ends AFTER UPDATE OF ends_at ON events
FOR EACH ROW WHEN (OLD.ends_at <> NEW.ends_at) EXECUTE FUNCTION move_end();

UPDATE deliveries d SET ends_at = e.ends_at FROM events e
WHERE e.seq = d.seq AND d.state = 'awaiting';
CREATE INDEX deliveries_by_end ON deliveries (target, ends_at) WHERE ends_at IS NOT NULL;
CREATE INDEX deliveries_by_retries ON deliveries (retries, target, due_at) WHERE state = 'queued';

-- By target: the end of the first awaited one, its retries NULL; and for each number of retries
-- when the first queued one is due.
CREATE FUNCTION firsts()
RETURNS TABLE (target text, retries integer, at double precision) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE awaited (target, at) AS (
        (SELECT d.target, d.ends_at FROM deliveries d WHERE d.ends_at IS NOT NULL
         ORDER BY d.target, d.ends_at LIMIT 1)
        UNION ALL
        SELECT later.* FROM awaited, LATERAL (
            SELECT d.target, d.ends_at FROM deliveries d
            WHERE d.ends_at IS NOT NULL AND d.target > awaited.target
            ORDER BY d.target, d.ends_at LIMIT 1
        ) AS later
    )
    SELECT awaited.target, NULL::integer, awaited.at FROM awaited;
    RETURN QUERY
    WITH RECURSIVE queued (retries, target, at) AS (
        (SELECT d.retries, d.target, d.due_at FROM deliveries d WHERE d.state = 'queued'
         ORDER BY d.retries, d.target, d.due_at LIMIT 1)
        UNION ALL
        SELECT later.* FROM queued, LATERAL (
            SELECT d.retries, d.target, d.due_at FROM deliveries d
            WHERE d.state = 'queued' AND (d.retries, d.target) > (queued.retries, queued.target)
            ORDER BY d.retries, d.target, d.due_at LIMIT 1
        ) AS later
    )
    SELECT queued.target, queued.retries, queued.at FROM queued;
END
$$;
