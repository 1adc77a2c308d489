-- Failed attempts.

-- Keep one more attempt; keep the first and the `last` latest ones.
CREATE OR REPLACE FUNCTION keep(of bigint, of_target text, tried jsonb)
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
    WHERE a.seq = of AND a.target = of_target
        AND a.number BETWEEN 2 AND added - (tried->>'last')::integer;
END
$$;

-- Keep attempts that failed after the row of their delivery was written. If the statement is sent
-- twice because a connection was lost, the attempt is kept once.
CREATE OR REPLACE FUNCTION missed(asks jsonb, limits jsonb)
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
            jsonb_to_record(a.ask) AS x (
            event_id text, target text, reason text, recover_at double precision, tried jsonb
        ) ORDER BY a.n
    LOOP
        SELECT d.seq INTO of FROM events e JOIN deliveries d USING (seq)
        WHERE e.event_id = ask.event_id AND d.target = ask.target;
        IF FOUND AND NOT EXISTS (
            SELECT FROM attempts a WHERE a.seq = of AND a.target = ask.target
                AND a.at = (ask.tried->>'at')::double precision
        ) THEN
            UPDATE deliveries d SET reason = ask.reason
            WHERE d.seq = of AND d.target = ask.target AND d.reason = '';
            UPDATE deliveries d SET recover_at = 0
            WHERE d.seq = of AND d.target = ask.target AND d.recover_at = ask.recover_at
                AND d.lease = '';
            IF ask.tried IS NOT NULL THEN
                PERFORM keep(of, ask.target, ask.tried);
            END IF;
        END IF;
    END LOOP;
END
$$;
