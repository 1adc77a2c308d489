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

-- Queue events for a target again, in order, as far as its share and half of the whole have room,
-- and note the last of them in the action; without events it has no place any more. A delivery
-- that is still retried, that this action has queued before, or that exists and is to be queued
-- only once, stays as it is. Returns the number of events taken, and of those queued.
CREATE OR REPLACE FUNCTION resend(
    action jsonb, of text, asks jsonb, bodies bytea[], now double precision, limits jsonb
) RETURNS TABLE (taken integer, queued integer) LANGUAGE plpgsql AS $$
DECLARE
    most double precision := (limits->>'max_bytes')::double precision;
    room double precision := least(
        most * 0.5 - (SELECT coalesce(sum(u.bytes), 0) FROM usage u WHERE u.target = ''),
        most * (limits->>'share')::double precision
            - (SELECT coalesce(sum(u.bytes), 0) FROM usage u WHERE u.target = of)
    );
    this bigint;
    ask record;
    was record;
    last jsonb;
BEGIN
    PERFORM act(action, '[]', now, limits);
    SELECT a.seq INTO this FROM actions a WHERE a.action_id = action->>'action_id';
    PERFORM FROM events e WHERE e.event_id IN (
        SELECT a->>'event_id' FROM jsonb_array_elements(asks) AS a
    ) ORDER BY e.seq FOR UPDATE;
    taken := 0;
    queued := 0;
    FOR ask IN
        SELECT a.event, a.n FROM jsonb_array_elements(asks) WITH ORDINALITY AS a (event, n)
        ORDER BY a.n
    LOOP
        room := room - (ask.event->>'size')::integer;
        EXIT WHEN room < 0;
        SELECT e.seq, e.size, d.state, d.action INTO was
        FROM events e LEFT JOIN deliveries d ON d.seq = e.seq AND d.target = of
        WHERE e.event_id = ask.event->>'event_id';
        IF was.seq IS NULL THEN
            -- Another process may have filled the store meanwhile.
            EXIT WHEN EXISTS (
                SELECT FROM add(jsonb_build_array(ask.event), bodies[ask.n:ask.n], limits) AS a
                WHERE a.out_of IS NOT NULL
            );
        ELSIF was.state IS NULL THEN
            PERFORM put(was.seq, was.size, ask.event->'rows', now);
        END IF;
        taken := taken + 1;
        last := ask.event;
        CONTINUE WHEN was.state IN ('awaiting', 'queued') OR was.action = this
            OR (was.state IS NOT NULL AND (ask.event->>'once')::boolean);
        UPDATE deliveries d SET state = 'queued', reason = '', due_at = now, retries = 0,
            recover_at = 0, changed_at = now, action = this, lease = ''
        FROM events e
        WHERE e.event_id = ask.event->>'event_id' AND d.seq = e.seq AND d.target = of;
        PERFORM touch(ARRAY(
            SELECT e.seq FROM events e WHERE e.event_id = ask.event->>'event_id'
        ), now, limits);
        queued := queued + 1;
    END LOOP;
    UPDATE actions a SET deliveries = a.deliveries + queued WHERE a.seq = this;
    IF taken > 0 OR jsonb_array_length(asks) = 0 THEN
        UPDATE actions a SET since = (action->>'since')::double precision,
            place_at = (last->>'first_at')::double precision, place_event = last->>'event_id'
        WHERE a.seq = this;
    END IF;
    RETURN NEXT;
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
