-- A person's action on deliveries: one step of it, with the action's own row. Only what still
-- stands as it was looked at changes; a lease is taken away, and its holder comes too late.

CREATE FUNCTION act(
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
        reason = c.reason, due_at = c.due_at, retries = c.retries, changed_at = now,
        action = action_seq, lease = '', was_state = d.state, was_reason = d.reason
    FROM jsonb_to_recordset(changes) AS c (
        seq bigint, target text, was text, later double precision,
        state text, reason text, due_at double precision, retries integer
    )
    WHERE d.seq = c.seq AND d.target = c.target AND d.state = c.was
        AND d.acknowledged_later_at IS NOT DISTINCT FROM c.later;
    GET DIAGNOSTICS fresh = ROW_COUNT;
    UPDATE actions SET deliveries = deliveries + fresh WHERE seq = action_seq;
    -- With what this step has changed on a connection that was lost.
    SELECT coalesce(array_agg(d.seq), '{}') INTO seqs
    FROM deliveries d JOIN jsonb_to_recordset(changes) AS c (seq bigint, target text)
        ON d.seq = c.seq AND d.target = c.target
    WHERE d.action = action_seq AND d.changed_at = now;
    PERFORM touch(seqs, now, limits);
    RETURN cardinality(seqs);
END
$$;
