-- Targets that a person holds back for a while: one row for each, its last pause. Nodes of the
-- version before do not know it, and go on sending.

-- Nobody who works on the tables waits for this; it is tried again. Locked in the order of those who
-- write.
SET LOCAL lock_timeout = '500ms';
LOCK TABLE events, letters, deliveries IN ACCESS EXCLUSIVE MODE;

CREATE TABLE pauses (
    target text COLLATE "C" PRIMARY KEY,
    since double precision NOT NULL,
    until double precision NOT NULL,
    because text NOT NULL,
    who text NOT NULL,
    resumed_by text NOT NULL
);

CREATE FUNCTION pauses() RETURNS SETOF pauses LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT * FROM pauses;
END
$$;

CREATE FUNCTION put_pause(pause jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    INSERT INTO pauses SELECT * FROM jsonb_populate_record(NULL::pauses, pause)
    ON CONFLICT (target) DO UPDATE SET since = excluded.since, until = excluded.until,
        because = excluded.because, who = excluded.who, resumed_by = excluded.resumed_by;
END
$$;

-- Asked twice, on a connection that was lost, it has ended all the same.
CREATE FUNCTION end_pause(of text, by_whom text, now double precision)
RETURNS SETOF pauses LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    RETURN QUERY
    UPDATE pauses p SET until = now, resumed_by = by_whom
    WHERE p.target = of AND (p.until > now OR (p.until = now AND p.resumed_by = by_whom))
    RETURNING p.*;
END
$$;

-- As before, and pauses that are long over, and notices that are.
CREATE OR REPLACE FUNCTION prune(now double precision, most integer, limits jsonb)
RETURNS TABLE (pruned bigint) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH gone AS (
        DELETE FROM events WHERE seq IN (
            SELECT e.seq FROM events e WHERE e.expires_at <= now
            ORDER BY e.expires_at LIMIT most FOR UPDATE SKIP LOCKED
        ) RETURNING seq
    )
    SELECT count(*) FROM gone;
    DELETE FROM actions WHERE at <= now - (limits->>'keep_dead')::double precision;
    DELETE FROM notices WHERE at <= now - (limits->>'keep_dead')::double precision;
    DELETE FROM pauses WHERE until <= now - (limits->>'keep_settled')::double precision;
END
$$;
