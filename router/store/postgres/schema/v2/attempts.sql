-- What is kept of failed attempts, and what undoing needs. What nodes of the version before do not
-- know of has defaults; the rows of attempts go with those of their deliveries.

-- Nobody who works on the tables waits for this; it is tried again.
SET LOCAL lock_timeout = '500ms';

ALTER TABLE letters ADD COLUMN tracestate text NOT NULL DEFAULT '';
ALTER TABLE deliveries
    ADD COLUMN was_state text, -- how it stood before the last action of a person on it
    ADD COLUMN was_reason text,
    ADD COLUMN later_event text; -- the event that has stood in for it

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
ALTER TABLE attempts SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);

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
