-- Processes that share the store, and notices.

-- Write a process's row; return how many processes are alive, by configuration.
CREATE OR REPLACE FUNCTION beat(node jsonb, gone double precision, forgotten double precision)
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

CREATE OR REPLACE FUNCTION leave(of text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM nodes WHERE node_id = of;
END
$$;

CREATE OR REPLACE FUNCTION present() RETURNS TABLE (node jsonb) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT to_jsonb(n) - '{started_at,seen_at}'::text[] || jsonb_build_object(
        'uptime', n.seen_at - n.started_at,
        'silent', extract(epoch FROM clock_timestamp())::double precision - n.seen_at
    )
    FROM nodes n;
END
$$;

CREATE OR REPLACE FUNCTION notice(of text) RETURNS TABLE (what text, at double precision)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT n.what, n.at FROM notices n WHERE n.name = of;
END
$$;

-- `asked` is a name, the notice, and the notice that it replaces, if any. Sent twice, because a
-- connection was lost, it returns the same.
CREATE OR REPLACE FUNCTION notify_of(asked jsonb)
RETURNS TABLE (is_first boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM durable();
    INSERT INTO notices AS n
    SELECT asked->>0, asked->1->>0, (asked->1->>1)::double precision
    ON CONFLICT (name) DO UPDATE SET what = excluded.what, at = excluded.at
    WHERE (n.what, n.at) = (excluded.what, excluded.at)
        OR (n.what, n.at) = (asked->2->>0, (asked->2->>1)::double precision);
    RETURN QUERY SELECT FOUND;
END
$$;
