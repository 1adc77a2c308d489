-- The number of routers that an event came through is kept with it. Nodes of the version before do
-- not write it: it is 0 then.

ALTER TABLE letters ADD COLUMN hops integer NOT NULL DEFAULT 0;

-- One row for each event to add: NULL where it is written, or the targets that are out of room, ''
-- for the whole store. What comes after its deadline is spent from the start. What is there
-- already was written by the same request, whose connection was lost, or must not be written.
CREATE OR REPLACE FUNCTION add(asks jsonb, bodies bytea[], limits jsonb)
RETURNS TABLE (out_of jsonb) LANGUAGE plpgsql AS $$
DECLARE
    ask record;
    new_seq bigint;
BEGIN
    PERFORM durable();
    FOR ask IN
        SELECT x.*, bodies[a.n] AS body
        FROM jsonb_array_elements(asks) WITH ORDINALITY AS a (ask, n), jsonb_to_record(a.ask) AS x (
            event_id text, digest bytea, stage text, first_at double precision, requests integer,
            replied_at double precision, due_at double precision, credit_until double precision,
            ends_at double precision, spent boolean, size integer, request_id text,
            traceparent text, tracestate text, hops integer,
            event_source text, event_topic text, event_type text, event_status text,
            event_key text, rows jsonb, deadline double precision
        ) ORDER BY a.n
    LOOP
        out_of := NULL;
        IF NOT EXISTS (SELECT FROM events e WHERE e.event_id = ask.event_id) THEN
            out_of := coalesce(
                out_of_room('{""}', ask.size, 1.0, limits),
                out_of_room(
                    unsettled(ask.rows), ask.size, (limits->>'share')::double precision, limits
                )
            );
            IF out_of IS NULL THEN
                INSERT INTO events (
                    event_id, digest, stage, first_at, requests, replied_at, due_at, credit_until,
                    ends_at, spent, expires_at, size
                ) VALUES (
                    ask.event_id, ask.digest, ask.stage, ask.first_at, ask.requests,
                    ask.replied_at, ask.due_at, ask.credit_until, ask.ends_at,
                    ask.spent OR extract(epoch FROM clock_timestamp()) > ask.deadline,
                    expiry(
                        ask.stage,
                        ARRAY(SELECT r->>'state' FROM jsonb_array_elements(ask.rows) AS r),
                        ask.replied_at, limits
                    ),
                    ask.size
                )
                ON CONFLICT (event_id) DO NOTHING RETURNING seq INTO new_seq;
                IF FOUND THEN
                    INSERT INTO letters VALUES (
                        new_seq, ask.request_id, ask.traceparent, ask.event_source,
                        ask.event_topic, ask.event_type, ask.event_status, ask.event_key, ask.body,
                        coalesce(ask.tracestate, ''), coalesce(ask.hops, 0)
                    );
                    PERFORM put(new_seq, ask.size, ask.rows, ask.replied_at);
                END IF;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION take_due(
    of text, now double precision, until double precision, most integer, new_lease text
) RETURNS TABLE (
    event_id text, target text, state text, reason text, due_at double precision, retries integer,
    digest bytea, request_id text, traceparent text, tracestate text,
    hops integer, event_source text, event_topic text,
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
        m.traceparent, m.tracestate, m.hops,
        m.event_source, m.event_topic, m.event_type, m.event_status, m.event_key,
        m.body, l.action IS NOT NULL
    FROM leased l JOIN events e USING (seq) JOIN letters m USING (seq) ORDER BY l.due_at;
END
$$;
