-- People's actions, and pauses.

-- One step of an action on deliveries, with the action's own row. A delivery changes only if its
-- state is still the one that the person saw. Its lease ends, so that an attempt in flight
-- changes nothing; only a delivery that is in flight is not to be sent once more.

CREATE OR REPLACE FUNCTION act(
    action jsonb, changes jsonb, now double precision, limits jsonb
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    action_seq bigint;
    fresh integer;
    seqs bigint[];
BEGIN
    PERFORM durable();
    PERFORM FROM events e WHERE e.seq IN (
        SELECT (c->>'seq')::bigint FROM jsonb_array_elements(changes) AS c
    ) ORDER BY e.seq FOR UPDATE;
    INSERT INTO actions AS a (action_id, verb, who, what, at, deliveries)
    SELECT x.*, 0 FROM jsonb_to_record(action) AS x (
        action_id text, verb text, who text, what text, at double precision
    )
    ON CONFLICT (action_id) DO UPDATE SET deliveries = a.deliveries RETURNING a.seq INTO action_seq;
    UPDATE deliveries d SET state = CASE
            WHEN c.state = 'awaiting'
                AND (SELECT e.stage FROM events e WHERE e.seq = d.seq) <> 'open' THEN 'dead'
            ELSE c.state END,
        reason = c.reason, due_at = c.due_at, retries = c.retries,
        recover_at = coalesce(c.recover_at, 0), changed_at = now,
        action = action_seq, lease = '', was_state = d.state, was_reason = d.reason
    FROM jsonb_to_recordset(changes) AS c (
        seq bigint, target text, was text, later double precision,
        state text, reason text, due_at double precision, retries integer,
        recover_at double precision
    )
    WHERE d.seq = c.seq AND d.target = c.target AND d.state = c.was
        AND d.acknowledged_later_at IS NOT DISTINCT FROM c.later
        AND (d.state <> c.state OR d.lease = '' OR d.recover_at <= now);
    GET DIAGNOSTICS fresh = ROW_COUNT;
    UPDATE actions SET deliveries = deliveries + fresh WHERE seq = action_seq;
    -- Includes deliveries that this step has changed before, on a connection that was lost.
    SELECT coalesce(array_agg(d.seq), '{}') INTO seqs
    FROM deliveries d JOIN jsonb_to_recordset(changes) AS c (seq bigint, target text)
        ON d.seq = c.seq AND d.target = c.target
    WHERE d.action = action_seq AND d.changed_at = now;
    PERFORM touch(seqs, now, limits);
    RETURN cardinality(seqs);
END
$$;

CREATE OR REPLACE FUNCTION pauses() RETURNS SETOF pauses LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT * FROM pauses;
END
$$;

CREATE OR REPLACE FUNCTION put_pause(pause jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    INSERT INTO pauses SELECT * FROM jsonb_populate_record(NULL::pauses, pause)
    ON CONFLICT (target) DO UPDATE SET since = excluded.since, until = excluded.until,
        because = excluded.because, who = excluded.who, resumed_by = excluded.resumed_by;
END
$$;

-- Sent twice, because a connection was lost, it returns the pause both times.
CREATE OR REPLACE FUNCTION end_pause(of text, by_whom text, now double precision)
RETURNS SETOF pauses LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    RETURN QUERY
    UPDATE pauses p SET until = now, resumed_by = by_whom
    WHERE p.target = of AND (p.until > now OR (p.until = now AND p.resumed_by = by_whom))
    RETURNING p.*;
END
$$;
