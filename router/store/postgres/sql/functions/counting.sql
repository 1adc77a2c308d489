-- The triggers that keep `usage`, and the end of each awaited delivery: no writer can forget them.

CREATE OR REPLACE FUNCTION counted(of text, in_state text, n integer, size integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage AS u (target, state, backend, rows, bytes)
    VALUES (of, in_state, pg_backend_pid(), n, n * size::bigint)
    ON CONFLICT (target, state, backend)
    DO UPDATE SET rows = u.rows + excluded.rows, bytes = u.bytes + excluded.bytes;
END
$$;

CREATE OR REPLACE FUNCTION count_event()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM counted('', '', 1, NEW.size);
    ELSE
        PERFORM counted('', '', -1, OLD.size);
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER counted AFTER INSERT OR DELETE ON events
FOR EACH ROW EXECUTE FUNCTION count_event();

-- A dead letter that was acknowledged later, as another event's, uses bytes of its target's
-- share, but is not counted as a row.
CREATE OR REPLACE FUNCTION count_delivery()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.state IN ('awaiting', 'queued', 'dead') THEN
        PERFORM counted(OLD.target, OLD.state, -1, OLD.size);
        IF OLD.state = 'dead' AND OLD.acknowledged_later_at IS NOT NULL THEN
            PERFORM counted(OLD.target, OLD.state, 1, 0);
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.state IN ('awaiting', 'queued', 'dead') THEN
        PERFORM counted(NEW.target, NEW.state, 1, NEW.size);
        IF NEW.state = 'dead' AND NEW.acknowledged_later_at IS NOT NULL THEN
            PERFORM counted(NEW.target, NEW.state, -1, 0);
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER counted AFTER INSERT OR DELETE ON deliveries
FOR EACH ROW EXECUTE FUNCTION count_delivery();
CREATE OR REPLACE TRIGGER counted_again AFTER UPDATE OF state, acknowledged_later_at ON deliveries
FOR EACH ROW WHEN (
    OLD.state <> NEW.state
    OR (OLD.acknowledged_later_at IS NULL) <> (NEW.acknowledged_later_at IS NULL)
) EXECUTE FUNCTION count_delivery();

-- The bytes of attempts count for the store and for their target, as part of its dead letters: no
-- row is added. Nodes of 0.2.0 sum these up as well.
CREATE OR REPLACE FUNCTION count_attempt()
RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of text := CASE TG_OP WHEN 'INSERT' THEN NEW.target ELSE OLD.target END;
    more bigint := CASE TG_OP WHEN 'INSERT' THEN NEW.size ELSE -OLD.size END;
BEGIN
    INSERT INTO usage AS u (target, state, backend, rows, bytes)
    VALUES ('', '', pg_backend_pid(), 0, more), (of, 'dead', pg_backend_pid(), 0, more)
    ON CONFLICT (target, state, backend) DO UPDATE SET bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER counted AFTER INSERT OR DELETE ON attempts
FOR EACH ROW EXECUTE FUNCTION count_attempt();

CREATE OR REPLACE FUNCTION await_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ends_at := CASE NEW.state
        WHEN 'awaiting' THEN (SELECT e.ends_at FROM events e WHERE e.seq = NEW.seq) END;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER awaits BEFORE INSERT OR UPDATE OF state ON deliveries
FOR EACH ROW EXECUTE FUNCTION await_end();

CREATE OR REPLACE FUNCTION move_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE deliveries SET ends_at = NEW.ends_at WHERE seq = NEW.seq AND ends_at IS NOT NULL;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER ends AFTER UPDATE OF ends_at ON events
FOR EACH ROW WHEN (OLD.ends_at <> NEW.ends_at) EXECUTE FUNCTION move_end();

-- Sum up the rows of backends that have ended. If several try at once, one does it.
CREATE OR REPLACE FUNCTION fold_usage()
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF pg_try_advisory_xact_lock('usage'::regclass::oid::bigint) THEN
        WITH gone AS (
            DELETE FROM usage WHERE backend <> 0
                AND backend NOT IN (SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL)
            RETURNING target, state, rows, bytes
        )
        INSERT INTO usage AS u (target, state, backend, rows, bytes)
        SELECT target, state, 0, sum(rows), sum(bytes) FROM gone GROUP BY target, state
        ON CONFLICT (target, state, backend)
        DO UPDATE SET rows = u.rows + excluded.rows, bytes = u.bytes + excluded.bytes;
    END IF;
END
$$;
