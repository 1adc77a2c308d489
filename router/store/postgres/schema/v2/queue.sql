-- As before, but with the trace's state, and keeping the attempt that has come to nothing.

-- One step from a target to the next along the index, however many rows each has: by its order, and
-- not as a minimum, for which a plan that was made while the table was empty may read all of it.
CREATE OR REPLACE FUNCTION queue()
RETURNS TABLE (target text, due_at double precision) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE queued (target) AS (
        (SELECT d.target FROM deliveries d WHERE d.state = 'queued' ORDER BY d.target LIMIT 1)
        UNION ALL
        SELECT (SELECT d.target FROM deliveries d
                WHERE d.state = 'queued' AND d.target > queued.target ORDER BY d.target LIMIT 1)
        FROM queued WHERE queued.target IS NOT NULL
    )
    SELECT queued.target, (SELECT d.due_at FROM deliveries d
                           WHERE d.state = 'queued' AND d.target = queued.target
                           ORDER BY d.due_at LIMIT 1)
    FROM queued WHERE queued.target IS NOT NULL;
END
$$;

CREATE FUNCTION take_letters(
    of text, now double precision, until double precision, most integer, new_lease text
) RETURNS TABLE (
    event_id text, target text, state text, reason text, due_at double precision, retries integer,
    digest bytea, request_id text, traceparent text, tracestate text,
    event_source text, event_topic text,
    event_type text, event_status text, event_key text, body bytea, replayed boolean
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    RETURN QUERY
    WITH due AS (
        SELECT d.seq, d.due_at FROM deliveries d
        WHERE d.state = 'queued' AND d.target = of AND d.due_at <= now
        ORDER BY d.due_at LIMIT most FOR UPDATE SKIP LOCKED
    ), leased AS (
        UPDATE deliveries d SET lease = new_lease, due_at = until FROM due
        WHERE d.seq = due.seq AND d.target = of
        RETURNING d.seq, d.state, d.reason, due.due_at, d.retries, d.action
    )
    SELECT e.event_id, of, l.state, l.reason, l.due_at, l.retries, e.digest, m.request_id,
        m.traceparent, m.tracestate,
        m.event_source, m.event_topic, m.event_type, m.event_status, m.event_key,
        m.body, l.action IS NOT NULL
    FROM leased l JOIN events e USING (seq) JOIN letters m USING (seq) ORDER BY l.due_at;
END
$$;

-- One row for each: whether it was leased still, or this has come to pass already, on a connection
-- that was lost. Whatever takes a delivery out of the queue ends its lease.
CREATE OR REPLACE FUNCTION finish(asks jsonb, limits jsonb)
RETURNS TABLE (finished boolean) LANGUAGE plpgsql AS $$
DECLARE
    ask record;
    changed bigint;
BEGIN
    PERFORM durable();
    PERFORM FROM events e WHERE e.event_id IN (
        SELECT a->>'event_id' FROM jsonb_array_elements(asks) AS a
    ) ORDER BY e.seq FOR UPDATE;
    FOR ask IN
        SELECT x.* FROM jsonb_array_elements(asks) WITH ORDINALITY AS a (ask, n),
            jsonb_to_record(a.ask) AS x (
            event_id text, lease text, target text, state text, reason text,
            due_at double precision, retries integer,
            now double precision, tried jsonb
        ) ORDER BY a.n
    LOOP
        UPDATE deliveries d SET state = ask.state, reason = ask.reason, due_at = ask.due_at,
            retries = ask.retries, changed_at = ask.now, lease = ''
        FROM events e
        WHERE e.event_id = ask.event_id AND d.seq = e.seq AND d.target = ask.target
            AND d.lease = ask.lease
        RETURNING d.seq INTO changed;
        finished := FOUND;
        IF finished AND ask.tried IS NOT NULL THEN
            PERFORM keep(changed, ask.target, ask.tried);
        END IF;
        IF finished AND ask.state <> 'queued' THEN
            PERFORM touch(ARRAY[changed], ask.now, limits);
        END IF;
        finished := finished OR EXISTS (
            SELECT FROM events e JOIN deliveries d USING (seq)
            WHERE e.event_id = ask.event_id AND d.target = ask.target AND d.lease = ''
                AND d.state = ask.state AND d.reason = ask.reason AND d.due_at = ask.due_at
                AND d.retries = ask.retries AND d.changed_at = ask.now
        );
        RETURN NEXT;
    END LOOP;
END
$$;
