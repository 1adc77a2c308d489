-- The queue and the upkeep: due deliveries, leases, ends, deletion, usage.

-- One step from a target to the next along the index, however many rows each has. It goes by the
-- order of the index: a plan for min() that was made while the table was empty may read all of
-- it.
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

-- Lease deliveries of a target, and return them with their events. With `early`, those that wait for
-- the queue or for the caller's next request: their `recover_at` is `latest` at most, and no request
-- is due from `spared_from` to `spared_to`. Otherwise those that are due at `latest`.
CREATE OR REPLACE FUNCTION lease(
    of text, latest double precision, until double precision, most integer, new_lease text,
    early boolean, spared_from double precision, spared_to double precision
) RETURNS TABLE (
    event_id text, target text, state text, reason text, due_at double precision, retries integer,
    attempts integer, first_at double precision, request_due_at double precision, replayed boolean,
    digest bytea, request_id text, traceparent text, tracestate text, hops integer,
    event_source text, event_topic text, event_type text, event_status text, event_key text,
    body bytea
) LANGUAGE plpgsql AS $$
DECLARE
    seqs bigint[];
BEGIN
    PERFORM durable();
    IF early THEN
        seqs := ARRAY(
            SELECT d.seq FROM deliveries d
            WHERE d.state IN ('awaiting', 'queued') AND d.target = of AND d.recover_at <= latest
                AND (d.state = 'queued' OR (
                    SELECT e.due_at NOT BETWEEN spared_from AND spared_to
                    FROM events e WHERE e.seq = d.seq
                ))
            ORDER BY d.recover_at, d.seq LIMIT most FOR UPDATE OF d SKIP LOCKED
        );
    ELSE
        seqs := ARRAY(
            SELECT d.seq FROM deliveries d
            WHERE d.state = 'queued' AND d.target = of AND d.due_at <= latest
            ORDER BY d.due_at LIMIT most FOR UPDATE SKIP LOCKED
        );
    END IF;
    RETURN QUERY
    WITH before AS (
        SELECT d.* FROM deliveries d WHERE d.seq = ANY (seqs) AND d.target = of
    ), leased AS (
        UPDATE deliveries d SET lease = new_lease, recover_at = until,
            due_at = CASE d.state WHEN 'queued' THEN until ELSE d.due_at END
        WHERE d.seq = ANY (seqs) AND d.target = of
    )
    SELECT e.event_id, of, b.state, b.reason, b.due_at, b.retries, b.attempts,
        e.first_at, CASE e.stage WHEN 'open' THEN e.due_at ELSE 0 END,
        EXISTS (SELECT FROM actions a WHERE a.seq = b.action AND a.verb = 'replay'),
        e.digest, m.request_id,
        m.traceparent, m.tracestate, m.hops,
        m.event_source, m.event_topic, m.event_type, m.event_status, m.event_key, m.body
    FROM before b JOIN events e USING (seq) JOIN letters m USING (seq)
    ORDER BY array_position(seqs, b.seq);
END
$$;

-- Nodes of 0.3.0 take by this one.
CREATE OR REPLACE FUNCTION take_due(
    of text, now double precision, until double precision, most integer, new_lease text
) RETURNS TABLE (
    event_id text, target text, state text, reason text, due_at double precision, retries integer,
    digest bytea, request_id text, traceparent text, tracestate text,
    hops integer, event_source text, event_topic text,
    event_type text, event_status text, event_key text, body bytea, replayed boolean
) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT l.event_id, l.target, l.state, l.reason, l.due_at, l.retries, l.digest, l.request_id,
        l.traceparent, l.tracestate, l.hops, l.event_source, l.event_topic, l.event_type,
        l.event_status, l.event_key, l.body, l.replayed
    FROM lease(of, now, until, most, new_lease, false, 0, 0) AS l;
END
$$;

-- Nodes of 0.2.0 take by this one.
CREATE OR REPLACE FUNCTION take_letters(
    of text, now double precision, until double precision, most integer, new_lease text
) RETURNS TABLE (
    event_id text, target text, state text, reason text, due_at double precision, retries integer,
    digest bytea, request_id text, traceparent text, tracestate text,
    event_source text, event_topic text,
    event_type text, event_status text, event_key text, body bytea, replayed boolean
) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT t.event_id, t.target, t.state, t.reason, t.due_at, t.retries, t.digest, t.request_id,
        t.traceparent, t.tracestate, t.event_source, t.event_topic, t.event_type, t.event_status,
        t.event_key, t.body, t.replayed
    FROM take_due(of, now, until, most, new_lease) AS t;
END
$$;

-- One row for each delivery: whether it was still leased, or this very call was carried out
-- before, on a connection that was lost. Every statement that takes a delivery out of the queue
-- ends its lease.
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
            due_at double precision, retries integer, attempts integer,
            recover_at double precision, now double precision, tried jsonb
        ) ORDER BY a.n
    LOOP
        UPDATE deliveries d SET state = ask.state, reason = ask.reason, due_at = ask.due_at,
            retries = ask.retries, attempts = coalesce(ask.attempts, d.attempts),
            recover_at = coalesce(ask.recover_at, 0), changed_at = ask.now, lease = ''
        FROM events e
        WHERE e.event_id = ask.event_id AND d.seq = e.seq AND d.target = ask.target
            AND d.lease = ask.lease
        RETURNING d.seq INTO changed;
        finished := FOUND;
        IF finished AND ask.tried IS NOT NULL THEN
            PERFORM keep(changed, ask.target, ask.tried);
        END IF;
        IF finished AND ask.state NOT IN ('awaiting', 'queued') THEN
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

-- The dead letters are an object: from the target to the reason of its last attempt.
CREATE OR REPLACE FUNCTION end_over(now double precision, most integer, limits jsonb)
RETURNS TABLE (event_id text, event_key text, requests integer, dead jsonb) LANGUAGE plpgsql AS $$
DECLARE
    seqs bigint[];
BEGIN
    PERFORM durable();
    seqs := ARRAY(
        SELECT e.seq FROM events e WHERE e.stage = 'open' AND e.ends_at <= now
        ORDER BY e.ends_at LIMIT most FOR UPDATE SKIP LOCKED
    );
    RETURN QUERY
    WITH died AS (
        UPDATE deliveries d SET state = 'dead', changed_at = now, lease = ''
        WHERE d.seq = ANY (seqs) AND d.state = 'awaiting' RETURNING d.seq, d.target, d.reason
    ), ended AS (
        UPDATE events e SET stage = 'ended' WHERE e.seq = ANY (seqs)
        RETURNING e.seq, e.event_id, e.requests
    )
    SELECT e.event_id, m.event_key, e.requests, coalesce(
        (SELECT jsonb_object_agg(died.target, died.reason) FROM died WHERE died.seq = e.seq), '{}'
    )
    FROM ended e JOIN letters m USING (seq);
    PERFORM touch(seqs, now, limits);
END
$$;

-- Delete expired events, their deliveries and letters with them, and return their number; also old
-- actions, notices and pauses.
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

CREATE OR REPLACE FUNCTION used() RETURNS TABLE (
    target text, state text, rows bigint, bytes bigint, backends bigint, oldest double precision
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT u.target, u.state, sum(u.rows)::bigint, sum(u.bytes)::bigint, count(*),
        (SELECT min(e.first_at) FROM events e WHERE e.expires_at IS NULL)
    FROM usage u GROUP BY u.target, u.state;
END
$$;

-- For each target when its first awaited delivery is given up, with NULL for the retries; and for
-- each target and number of retries when the first queued delivery is due.
CREATE OR REPLACE FUNCTION firsts()
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
