-- The triggers as they are now; every upgrade makes them anew. They keep `usage` and the end of
-- each awaited delivery: no writer can forget them, and their cost does not grow with the file.

CREATE TRIGGER event_added AFTER INSERT ON events BEGIN
    UPDATE usage SET rows = rows + 1, bytes = bytes + NEW.size WHERE target = '' AND state = '';
END;
CREATE TRIGGER event_deleted AFTER DELETE ON events BEGIN
    UPDATE usage SET rows = rows - 1, bytes = bytes - OLD.size WHERE target = '' AND state = '';
END;

-- A dead letter that was acknowledged later, as another event's, uses bytes of its target's
-- share, but is not counted as a row.
CREATE TRIGGER delivery_added AFTER INSERT ON deliveries
WHEN NEW.state IN ('awaiting', 'queued', 'dead') BEGIN
    INSERT INTO usage
    SELECT NEW.target, NEW.state, 1, size FROM events WHERE seq = NEW.seq
    ON CONFLICT DO UPDATE SET rows = rows + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER delivery_left AFTER UPDATE OF state, acknowledged_later_at ON deliveries
WHEN (OLD.state <> NEW.state
        OR (OLD.state <> 'dead' OR OLD.acknowledged_later_at IS NULL)
        <> (NEW.state <> 'dead' OR NEW.acknowledged_later_at IS NULL))
    AND OLD.state IN ('awaiting', 'queued', 'dead') BEGIN
    UPDATE usage SET rows = rows - (OLD.state <> 'dead' OR OLD.acknowledged_later_at IS NULL),
        bytes = bytes - (SELECT size FROM events WHERE seq = OLD.seq)
    WHERE target = OLD.target AND state = OLD.state;
END;
CREATE TRIGGER delivery_came AFTER UPDATE OF state, acknowledged_later_at ON deliveries
WHEN (OLD.state <> NEW.state
        OR (OLD.state <> 'dead' OR OLD.acknowledged_later_at IS NULL)
        <> (NEW.state <> 'dead' OR NEW.acknowledged_later_at IS NULL))
    AND NEW.state IN ('awaiting', 'queued', 'dead') BEGIN
    INSERT INTO usage
    SELECT NEW.target, NEW.state, NEW.state <> 'dead' OR NEW.acknowledged_later_at IS NULL, size
    FROM events WHERE seq = NEW.seq
    ON CONFLICT DO UPDATE SET rows = rows + excluded.rows, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER delivery_deleted AFTER DELETE ON deliveries
WHEN OLD.state IN ('awaiting', 'queued', 'dead') BEGIN
    UPDATE usage SET rows = rows - (OLD.state <> 'dead' OR OLD.acknowledged_later_at IS NULL),
        bytes = bytes - (SELECT size FROM events WHERE seq = OLD.seq)
    WHERE target = OLD.target AND state = OLD.state;
END;

-- The bytes of attempts count for the store and for their target, as part of its dead letters.
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
