-- A dead letter that was acknowledged later, as another event's, takes up room and is no row of its
-- target's any more.

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
DROP TRIGGER counted_again ON deliveries;
CREATE TRIGGER counted_again AFTER UPDATE OF state, acknowledged_later_at ON deliveries
FOR EACH ROW WHEN (
    OLD.state <> NEW.state
    OR (OLD.acknowledged_later_at IS NULL) <> (NEW.acknowledged_later_at IS NULL)
) EXECUTE FUNCTION count_delivery();

INSERT INTO usage AS u (target, state, backend, rows, bytes)
SELECT d.target, d.state, pg_backend_pid(), -count(*), 0 FROM deliveries d
WHERE d.state = 'dead' AND d.acknowledged_later_at IS NOT NULL GROUP BY d.target, d.state
ON CONFLICT (target, state, backend) DO UPDATE SET rows = u.rows + excluded.rows;
