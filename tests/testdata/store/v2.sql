-- The schema of 0.2.0, as its first node makes it: what an upgrade begins with. It never changes.

-- Every table.
-- Times are seconds since the epoch. Texts with a NUL, which PostgreSQL can't hold, are escaped.

CREATE TABLE version (version integer NOT NULL);

-- What changes of an event is apart from what does not, so that a change copies few bytes.
CREATE TABLE events (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text COLLATE "C" NOT NULL UNIQUE,
    digest bytea NOT NULL,
    stage text COLLATE "C" NOT NULL,
    first_at double precision NOT NULL,
    requests integer NOT NULL,
    replied_at double precision NOT NULL,
    due_at double precision NOT NULL,
    credit_until double precision NOT NULL,
    ends_at double precision NOT NULL,
    spent boolean NOT NULL,
    expires_at double precision,
    size integer NOT NULL,
    settled_by text -- the last settlement, so that one that was lost on its way can be asked again
) WITH (fillfactor = 80);
CREATE INDEX events_by_body ON events (digest, stage);
CREATE INDEX events_by_end ON events (ends_at) WHERE stage = 'open';
CREATE INDEX events_unsettled ON events (first_at) WHERE expires_at IS NULL;
CREATE INDEX events_by_expiry ON events (expires_at) WHERE expires_at IS NOT NULL;

-- What its targets get.
CREATE TABLE letters (
    seq bigint PRIMARY KEY REFERENCES events ON DELETE CASCADE,
    request_id text NOT NULL,
    traceparent text NOT NULL,
    event_source text NOT NULL,
    event_topic text NOT NULL,
    event_type text NOT NULL,
    event_status text NOT NULL,
    event_key text NOT NULL,
    body bytea NOT NULL,
    tracestate text NOT NULL DEFAULT ''
);

CREATE TABLE deliveries (
    seq bigint NOT NULL REFERENCES events ON DELETE CASCADE,
    target text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    due_at double precision NOT NULL,
    retries integer NOT NULL,
    lease text NOT NULL DEFAULT '',
    changed_at double precision NOT NULL,
    acknowledged_later_at double precision,
    action bigint, -- the last one of a person on it; actions are kept for a while only
    size integer NOT NULL, -- its event's
    was_state text, -- how it stood before the last action of a person on it
    was_reason text,
    later_event text, -- the event that has stood in for it
    PRIMARY KEY (seq, target)
) WITH (fillfactor = 80);
CREATE INDEX deliveries_by_due ON deliveries (target, due_at) WHERE state = 'queued';
CREATE INDEX deliveries_dead ON deliveries (target, changed_at) WHERE state = 'dead';

-- Failed attempts: the first of a delivery and its last ones.
CREATE TABLE attempts (
    seq bigint NOT NULL,
    target text COLLATE "C" NOT NULL,
    number integer NOT NULL, -- among all of its delivery's, those that are not kept included
    size integer NOT NULL,
    at double precision NOT NULL,
    seconds double precision NOT NULL,
    request integer NOT NULL,
    retry integer NOT NULL,
    reason text NOT NULL,
    delivered boolean NOT NULL,
    status integer,
    code text NOT NULL,
    msg text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (seq, target, number),
    FOREIGN KEY (seq, target) REFERENCES deliveries ON DELETE CASCADE
);

CREATE TABLE actions (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action_id text NOT NULL UNIQUE,
    verb text NOT NULL,
    who text NOT NULL,
    what text NOT NULL,
    at double precision NOT NULL,
    deliveries integer NOT NULL
);
CREATE INDEX actions_by_time ON actions (at);

-- One row: the events up to that one count as spent.
CREATE TABLE credit (spent_up_to bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO credit VALUES (0);

-- What there is, kept by triggers: the events under '' and '', unsettled deliveries by target and
-- state. Every backend has rows of its own, so that no commit waits for another's; the sum counts.
CREATE TABLE usage (
    target text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    backend integer NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (target, state, backend)
) WITH (fillfactor = 20);

-- Rows come and go all the time: vacuum early, a little at a time, so that tables and indexes stay
-- as small as what they hold.
ALTER TABLE events SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE letters SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE deliveries SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE attempts SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE usage SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE credit SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100
);

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

-- What is kept of failed attempts.

-- Keep one more, and of those after the first the `last` ones.
CREATE FUNCTION keep(of bigint, of_target text, tried jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    added integer;
BEGIN
    INSERT INTO attempts
    SELECT of, of_target, 1 + coalesce(
        (SELECT max(a.number) FROM attempts a WHERE a.seq = of AND a.target = of_target), 0
    ), x.*
    FROM jsonb_to_record(tried) AS x (
        size integer, at double precision, seconds double precision, request integer,
        retry integer, reason text, delivered boolean, status integer, code text, msg text,
        detail text
    ) RETURNING number INTO added;
    DELETE FROM attempts a
    WHERE a.seq = of AND a.target = of_target AND a.number BETWEEN 2 AND added - (tried->>'last')::integer;
END
$$;

-- What has failed after its delivery's row was written. Asked twice, on a connection that was lost,
-- it is kept once.
CREATE FUNCTION missed(asks jsonb, limits jsonb)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ask record;
    of bigint;
BEGIN
    PERFORM durable();
    PERFORM FROM events e WHERE e.event_id IN (
        SELECT a->>'event_id' FROM jsonb_array_elements(asks) AS a
    ) ORDER BY e.seq FOR UPDATE;
    FOR ask IN
        SELECT x.* FROM jsonb_array_elements(asks) WITH ORDINALITY AS a (ask, n),
            jsonb_to_record(a.ask) AS x (event_id text, target text, reason text, tried jsonb)
        ORDER BY a.n
    LOOP
        SELECT d.seq INTO of FROM events e JOIN deliveries d USING (seq)
        WHERE e.event_id = ask.event_id AND d.target = ask.target;
        IF FOUND AND NOT EXISTS (
            SELECT FROM attempts a WHERE a.seq = of AND a.target = ask.target
                AND a.at = (ask.tried->>'at')::double precision
        ) THEN
            UPDATE deliveries d SET reason = ask.reason
            WHERE d.seq = of AND d.target = ask.target AND d.reason = '';
            IF ask.tried IS NOT NULL THEN
                PERFORM keep(of, ask.target, ask.tried);
            END IF;
        END IF;
    END LOOP;
END
$$;

-- Records: found by their bodies, added, settled, superseded, acknowledged, spent. Each function
-- takes what many requests ask at the same time, as a JSON array, and answers in the same order.
--
-- How locks are taken, so that nobody waits in a circle: first the rows of all events that will be
-- changed, in the order of seq; their deliveries only under that lock. `take` skips what is locked.

-- A commit is durable when it has returned, whatever the server's default is.
CREATE FUNCTION durable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- Until when an event is shown; NULL while it is not settled.
CREATE FUNCTION expiry(stage text, states text[], now double precision, limits jsonb)
RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN stage = 'open' OR states && '{awaiting,queued}' THEN NULL
        WHEN 'dead' = ANY (states) THEN now + (limits->>'keep_dead')::double precision
        ELSE now + (limits->>'keep_settled')::double precision
    END
$$;

CREATE FUNCTION touch(seqs bigint[], now double precision, limits jsonb)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE events e SET expires_at = expiry(
        e.stage, ARRAY(SELECT d.state FROM deliveries d WHERE d.seq = e.seq), now, limits
    )
    WHERE e.seq = ANY (seqs);
END
$$;

-- Those of the targets that are out of room for one event more of that size, as an array; '' is
-- the whole store. NULL where there is room for all.
CREATE FUNCTION out_of_room(
    targets text[], size integer, part double precision, limits jsonb
) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT jsonb_agg(t.target)
        FROM unnest(targets) AS t (target), LATERAL (
            SELECT coalesce(sum(u.rows), 0) AS rows, coalesce(sum(u.bytes), 0) AS bytes
            FROM usage u WHERE u.target = t.target
        ) AS used
        WHERE used.rows + 1 > (limits->>'max_rows')::double precision * part
            OR used.bytes + size > (limits->>'max_bytes')::double precision * part
    );
END
$$;

CREATE FUNCTION put(of bigint, of_size integer, rows jsonb, now double precision)
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

CREATE FUNCTION unsettled(rows jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(r->>'target'), '{}') FROM jsonb_array_elements(rows) AS r
    WHERE r->>'state' IN ('awaiting', 'queued', 'dead')
$$;

-- The events of each body, open ones first; `asked` is the digest's place in the array, from 1.
CREATE FUNCTION find(digests bytea[], most integer) RETURNS TABLE (
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

-- One row for each event to add: NULL where it is written, or the targets that are out of room, ''
-- for the whole store. What comes after its deadline is spent from the start. What is there
-- already was written by the same request, whose connection was lost, or must not be written.
CREATE FUNCTION add(asks jsonb, bodies bytea[], limits jsonb)
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
            traceparent text, tracestate text, event_source text, event_topic text, event_type text,
            event_status text, event_key text, rows jsonb, deadline double precision
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
                        coalesce(ask.tracestate, '')
                    );
                    PERFORM put(new_seq, ask.size, ask.rows, ask.replied_at);
                END IF;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Where it is not known whether an event was added, or when: it waits for who is adding it, and
-- spends it, or takes its place for a while if it is not there.
CREATE FUNCTION fence(event_ids text[], now double precision, limits jsonb)
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

CREATE FUNCTION mark_later(seqs bigint[], reached text[], now double precision, by_event text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE deliveries SET acknowledged_later_at = now, later_event = by_event
    WHERE seq = ANY (seqs) AND target = ANY (reached) AND state IN ('awaiting', 'dead');
END
$$;

-- One row for each settlement: whether the record was open still, and NULL or what is out of room.
-- One that has come to pass already, on a connection that was lost, is told so.
CREATE FUNCTION settle(asks jsonb, limits jsonb)
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

CREATE FUNCTION supersede(asks jsonb, limits jsonb)
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

-- One row for each: whether there is such a delivery.
CREATE FUNCTION acknowledge(asks jsonb, limits jsonb)
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

-- The sequence also counts what is being added and can't be seen yet.
CREATE FUNCTION spend_all()
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    UPDATE credit SET spent_up_to = greatest(
        spent_up_to, (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_seq_seq)
    );
END
$$;

-- The queue and the upkeep: what is due, leased, given back, ended, deleted, and how much there is.

-- One step from a target to the next along the index, however many rows each has: by its order, and
-- not as a minimum, for which a plan that was made while the table was empty may read all of it.
CREATE FUNCTION queue()
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
CREATE FUNCTION finish(asks jsonb, limits jsonb)
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

-- The dead letters are an object, by target: why the last attempt ended.
CREATE FUNCTION end_over(now double precision, most integer, limits jsonb)
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
        UPDATE deliveries d SET state = 'dead', changed_at = now
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

-- How many events are gone; deliveries and letters go with them.
CREATE FUNCTION prune(now double precision, most integer, limits jsonb)
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
END
$$;

CREATE FUNCTION used() RETURNS TABLE (
    target text, state text, rows bigint, bytes bigint, backends bigint, oldest double precision
) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT u.target, u.state, sum(u.rows)::bigint, sum(u.bytes)::bigint, count(*),
        (SELECT min(e.first_at) FROM events e WHERE e.expires_at IS NULL)
    FROM usage u GROUP BY u.target, u.state;
END
$$;

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

-- Who shares the store: a row for each process, which it writes every second. Not logged, so that
-- no beat waits for a disk: after a crash of the server the rows are back with the next one.

CREATE UNLOGGED TABLE nodes (
    node_id text COLLATE "C" PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    address text NOT NULL,
    version text NOT NULL,
    config text NOT NULL,
    started_at double precision NOT NULL,
    seen_at double precision NOT NULL,
    ready boolean NOT NULL,
    figures jsonb NOT NULL,
    troubles jsonb NOT NULL
) WITH (
    fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
);

-- How many processes have said something since then, by configuration.
CREATE FUNCTION beat(node jsonb, gone double precision, forgotten double precision)
RETURNS TABLE (config text, processes bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now double precision := extract(epoch FROM clock_timestamp());
BEGIN
    INSERT INTO nodes AS n
    SELECT x.node_id, x.host, x.pid, x.address, x.version, x.config, now - x.uptime, now, x.ready,
        x.figures, x.troubles
    FROM jsonb_to_record(node) AS x (
        node_id text, host text, pid integer, address text, version text, config text,
        uptime double precision, ready boolean, figures jsonb, troubles jsonb
    )
    ON CONFLICT (node_id) DO UPDATE SET address = excluded.address, config = excluded.config,
        started_at = excluded.started_at, seen_at = excluded.seen_at, ready = excluded.ready,
        figures = excluded.figures, troubles = excluded.troubles;
    DELETE FROM nodes WHERE node_id IN (
        SELECT node_id FROM nodes WHERE seen_at < now - forgotten FOR UPDATE SKIP LOCKED
    );
    RETURN QUERY
    SELECT n.config, count(*) FROM nodes n WHERE n.seen_at >= now - gone GROUP BY n.config;
END
$$;

CREATE FUNCTION leave(of text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM nodes WHERE node_id = of;
END
$$;

CREATE FUNCTION present() RETURNS TABLE (node jsonb) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT to_jsonb(n) - '{started_at,seen_at}'::text[] || jsonb_build_object(
        'uptime', n.seen_at - n.started_at,
        'silent', extract(epoch FROM clock_timestamp())::double precision - n.seen_at
    )
    FROM nodes n;
END
$$;

-- What holds in every function that is called from outside, whatever the session's settings are:
-- sessions belong to poolers. The plan is the one for a full store, though tables are nearly empty
-- when it is made: by index, and never compiled. Who waits for a lock for longer than anybody waits
-- for him gives up.

DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = current_schema::regnamespace AND proname IN (
            'find', 'add', 'fence', 'settle', 'supersede', 'acknowledge', 'missed', 'spend_all',
            'queue', 'take_letters', 'finish', 'end_over', 'prune', 'used', 'fold_usage',
            'act', 'beat', 'leave', 'present'
        )
    LOOP
        EXECUTE format(
            'ALTER FUNCTION %s SET search_path = %I, pg_temp', called, current_schema
        );
        EXECUTE format('ALTER FUNCTION %s SET enable_seqscan = off', called);
        EXECUTE format('ALTER FUNCTION %s SET jit = off', called);
        EXECUTE format('ALTER FUNCTION %s SET lock_timeout = %L', called, '2s');
    END LOOP;
END
$$;
