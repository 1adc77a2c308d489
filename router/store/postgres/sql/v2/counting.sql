-- How `usage` is kept. Nobody who changes rows has to think of it, and none can forget it.

CREATE FUNCTION counted(of text, in_state text, n integer, size integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage AS u (target, state, backend, rows, bytes)
    VALUES (of, in_state, pg_backend_pid(), n, n * size::bigint)
    ON CONFLICT (target, state, backend)
    DO UPDATE SET rows = u.rows + excluded.rows, bytes = u.bytes + excluded.bytes;
END
$$;

CREATE FUNCTION count_event()
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
CREATE TRIGGER counted AFTER INSERT OR DELETE ON events
FOR EACH ROW EXECUTE FUNCTION count_event();

CREATE FUNCTION count_delivery()
RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.state IN ('awaiting', 'queued', 'dead') THEN
        PERFORM counted(OLD.target, OLD.state, -1, OLD.size);
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.state IN ('awaiting', 'queued', 'dead') THEN
        PERFORM counted(NEW.target, NEW.state, 1, NEW.size);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER counted AFTER INSERT OR DELETE ON deliveries
FOR EACH ROW EXECUTE FUNCTION count_delivery();
CREATE TRIGGER counted_again AFTER UPDATE OF state ON deliveries
FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION count_delivery();

-- Their bytes are counted with the store's, and with their target's under a state of which they are
-- none: nodes of the version before add these up as well.
CREATE FUNCTION count_attempt()
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
CREATE TRIGGER counted AFTER INSERT OR DELETE ON attempts
FOR EACH ROW EXECUTE FUNCTION count_attempt();

-- Add up the rows of backends that are gone; of several who try at once one does it.
CREATE FUNCTION fold_usage()
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
