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
