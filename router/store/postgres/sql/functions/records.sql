-- Records: found by their bodies, added, settled, superseded, acknowledged, their credit revoked.
-- Each function takes the calls of many requests as a JSON array, and answers in the same order.
--
-- Lock order, so that there is no deadlock: first the rows of all events that will be changed, in
-- the order of seq, then their deliveries. `take_due` skips locked rows.

-- Make a commit durable before it returns, whatever the server's default is.
CREATE OR REPLACE FUNCTION durable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- The time until which an event is kept; NULL while it is not settled.
CREATE OR REPLACE FUNCTION expiry(stage text, states text[], now double precision, limits jsonb)
RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN stage = 'open' OR states && '{awaiting,queued}' THEN NULL
        WHEN 'dead' = ANY (states) THEN now + (limits->>'keep_dead')::double precision
        ELSE now + (limits->>'keep_settled')::double precision
    END
$$;

CREATE OR REPLACE FUNCTION touch(seqs bigint[], now double precision, limits jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events e SET expires_at = expiry(
        e.stage, ARRAY(SELECT d.state FROM deliveries d WHERE d.seq = e.seq), now, limits
    )
    WHERE e.seq = ANY (seqs);
END
$$;

-- The targets that have no room for one more event of that size, as an array; '' is the whole
-- store. NULL if all have room.
CREATE OR REPLACE FUNCTION out_of_room(
    targets text[], size integer, part double precision, limits jsonb
) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT jsonb_agg(t.target)
        FROM unnest(targets) AS t (target), LATERAL (
            SELECT coalesce(sum(u.bytes), 0) AS bytes FROM usage u WHERE u.target = t.target
        ) AS used
        WHERE used.bytes + size > (limits->>'max_bytes')::double precision * part
    );
END
$$;

CREATE OR REPLACE FUNCTION put(of bigint, of_size integer, rows jsonb, now double precision)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO deliveries AS d (seq, size, target, state, reason, due_at, retries, changed_at)
    SELECT of, of_size, r.target, r.state, r.reason, r.due_at, r.retries, now
    FROM jsonb_to_recordset(rows) AS r (
        target text, state text, reason text, due_at double precision, retries integer
    )
    ON CONFLICT (seq, target) DO UPDATE SET
        state = excluded.state, reason = excluded.reason, due_at = excluded.due_at,
        retries = excluded.retries, changed_at = excluded.changed_at, lease = '', action = NULL
    WHERE d.state <> 'acknowledged';
    PERFORM keep(of, r.target, r.tried)
    FROM jsonb_to_recordset(rows) AS r (target text, tried jsonb)
    WHERE r.tried IS NOT NULL;
END
$$;

CREATE OR REPLACE FUNCTION unsettled(rows jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(r->>'target'), '{}') FROM jsonb_array_elements(rows) AS r
    WHERE r->>'state' IN ('awaiting', 'queued', 'dead')
$$;

-- The events of each body, open ones first; `asked` is the digest's place in the array, from 1.
CREATE OR REPLACE FUNCTION find(digests bytea[], most integer) RETURNS TABLE (
    asked bigint, event_id text, stage text, first_at double precision, requests integer,
    replied_at double precision, due_at double precision, credit_until double precision,
    ends_at double precision, spent boolean, deliveries jsonb
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT a.n, e.event_id, e.stage, e.first_at, e.requests, e.replied_at, e.due_at,
        e.credit_until, e.ends_at, e.spent OR e.seq <= (SELECT c.spent_up_to FROM credit c),
        (SELECT jsonb_agg(jsonb_build_array(d.target, d.state, d.reason, d.due_at, d.retries))
            FROM deliveries d WHERE d.seq = e.seq)
    FROM unnest(digests) WITH ORDINALITY AS a (digest, n), LATERAL (
        SELECT * FROM events WHERE events.digest = a.digest ORDER BY events.stage DESC LIMIT most
    ) AS e;
END
$$;

-- One row for each event to add: NULL if it is written, otherwise the targets that have no room,
-- '' for the whole store. An event that is added after its deadline has no credit. An event_id
-- that exists was written by the same request, whose connection was lost, or fenced, and must not
-- be written.
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

-- Revoke the credit of events that may have been added, or may be added yet: wait for a transaction
-- that is adding one; if there is no such event, take its event_id for a while.
CREATE OR REPLACE FUNCTION fence(event_ids text[], now double precision, limits jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO events (
        event_id, digest, stage, first_at, requests, replied_at, due_at, credit_until, ends_at,
        spent, expires_at, size
    )
    SELECT id, '', 'ended', now, 0, now, now, now, now, true, expiry('ended', '{}', now, limits), 0
    FROM unnest(event_ids) AS id ORDER BY id
    ON CONFLICT (event_id) DO UPDATE SET spent = true;
END
$$;

CREATE OR REPLACE FUNCTION mark_later(
    seqs bigint[], reached text[], now double precision, by_event text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE deliveries SET acknowledged_later_at = now, later_event = by_event
    WHERE seq = ANY (seqs) AND target = ANY (reached) AND state IN ('awaiting', 'dead');
END
$$;

-- One row for each settlement: whether the record was still open, and NULL or what has no room. A
-- settlement that is sent twice, because a connection was lost, is recognised by its token.
CREATE OR REPLACE FUNCTION settle(asks jsonb, limits jsonb)
RETURNS TABLE (settled boolean, out_of jsonb) LANGUAGE plpgsql AS $$
DECLARE
    ask record;
    of_event record;
    others bigint[];
BEGIN
    PERFORM durable();
    PERFORM FROM events WHERE seq IN (
        SELECT e.seq FROM jsonb_array_elements(asks) AS a
            JOIN events e ON e.event_id = a->>'event_id'
        UNION
        SELECT e.seq FROM jsonb_array_elements(asks) AS a
            JOIN events e ON e.digest = (a->>'digest')::bytea AND e.stage = 'open'
        WHERE a->>'stage' = 'closed'
    ) ORDER BY seq FOR UPDATE;
    FOR ask IN
        SELECT x.* FROM jsonb_array_elements(asks) WITH ORDINALITY AS a (ask, n),
            jsonb_to_record(a.ask) AS x (
            event_id text, digest bytea, stage text, first_at double precision, requests integer,
            replied_at double precision, due_at double precision, credit_until double precision,
            ends_at double precision, spent boolean, rows jsonb, reached text[],
            at double precision, token text
        ) ORDER BY a.n
    LOOP
        out_of := NULL;
        SELECT e.seq, e.size, e.spent OR e.seq <= (SELECT c.spent_up_to FROM credit c) AS spent
        INTO of_event FROM events e WHERE e.event_id = ask.event_id AND e.stage = 'open';
        IF NOT FOUND THEN
            settled := EXISTS (
                SELECT FROM events e WHERE e.event_id = ask.event_id AND e.settled_by = ask.token
            );
            RETURN NEXT;
            CONTINUE;
        END IF;
        out_of := out_of_room(
            ARRAY(
                SELECT t FROM unnest(unsettled(ask.rows)) AS t
                EXCEPT SELECT d.target FROM deliveries d WHERE d.seq = of_event.seq
            ),
            of_event.size, (limits->>'share')::double precision, limits
        );
        settled := out_of IS NULL;
        IF settled THEN
            PERFORM put(of_event.seq, of_event.size, ask.rows, ask.at);
            UPDATE events e SET
                stage = ask.stage, first_at = ask.first_at, requests = ask.requests,
                replied_at = ask.replied_at, due_at = ask.due_at, credit_until = ask.credit_until,
                ends_at = ask.ends_at, spent = of_event.spent OR ask.spent, settled_by = ask.token,
                expires_at = expiry(
                    ask.stage, ARRAY(SELECT d.state FROM deliveries d WHERE d.seq = e.seq),
                    ask.at, limits
                )
            WHERE e.seq = of_event.seq;
            IF ask.stage = 'closed' THEN
                WITH spent AS (
                    UPDATE events e SET spent = true
                    WHERE e.digest = ask.digest AND e.stage = 'open' AND e.seq <> of_event.seq
                    RETURNING e.seq
                )
                SELECT array_agg(seq) INTO others FROM spent;
                PERFORM mark_later(others, ask.reached, ask.at, ask.event_id);
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION supersede(asks jsonb, limits jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ask record;
    seqs bigint[];
BEGIN
    PERFORM durable();
    PERFORM FROM events WHERE seq IN (
        SELECT e.seq FROM jsonb_array_elements(asks) AS a,
            jsonb_array_elements_text(a->'event_ids') AS id JOIN events e ON e.event_id = id
    ) ORDER BY seq FOR UPDATE;
    FOR ask IN
        SELECT x.* FROM jsonb_array_elements(asks) WITH ORDINALITY AS a (ask, n),
            jsonb_to_record(a.ask) AS x (
            event_ids text[], reached text[], now double precision, by_event text
        ) ORDER BY a.n
    LOOP
        seqs := ARRAY(SELECT e.seq FROM events e WHERE e.event_id = ANY (ask.event_ids));
        UPDATE deliveries d SET state = 'superseded', changed_at = ask.now, lease = '',
            later_event = ask.by_event
        FROM events e
        WHERE e.seq = ANY (seqs) AND e.stage = 'open' AND d.seq = e.seq
            AND d.target = ANY (ask.reached) AND d.state IN ('awaiting', 'queued');
        PERFORM mark_later(seqs, ask.reached, ask.now, ask.by_event);
        UPDATE events e SET spent = true, stage = CASE
            WHEN e.stage = 'open' AND NOT EXISTS (
                SELECT FROM deliveries d WHERE d.seq = e.seq AND d.state = 'awaiting'
            ) THEN 'ended' ELSE e.stage END
        WHERE e.seq = ANY (seqs);
        PERFORM touch(seqs, ask.now, limits);
    END LOOP;
END
$$;

-- One row for each acknowledgement: whether there is such a delivery.
CREATE OR REPLACE FUNCTION acknowledge(asks jsonb, limits jsonb)
RETURNS TABLE (known boolean) LANGUAGE plpgsql AS $$
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
            event_id text, target text, now double precision
        ) ORDER BY a.n
    LOOP
        UPDATE deliveries d SET state = 'acknowledged', reason = 'acknowledged',
            changed_at = ask.now, lease = ''
        FROM events e
        WHERE e.event_id = ask.event_id AND d.seq = e.seq AND d.target = ask.target
        RETURNING d.seq INTO changed;
        known := FOUND;
        IF known THEN
            PERFORM touch(ARRAY[changed], ask.now, limits);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Revoke the credit of all records. The sequence also counts events whose transaction is not over.
CREATE OR REPLACE FUNCTION spend_all()
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    UPDATE credit SET spent_up_to = greatest(
        spent_up_to, (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_seq_seq)
    );
END
$$;
