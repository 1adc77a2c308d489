-- What was last told of each thing, so that several processes tell it once.

CREATE TABLE notices (
    name text COLLATE "C" PRIMARY KEY,
    what text NOT NULL,
    at double precision NOT NULL
);

CREATE FUNCTION notice(of text) RETURNS TABLE (what text, at double precision)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT n.what, n.at FROM notices n WHERE n.name = of;
END
$$;

-- `asked` is a name, the notice, and the one whose place it takes, if there is one. Asked twice, on
-- a connection that was lost, it is the first all the same.
CREATE FUNCTION notify_of(asked jsonb) RETURNS TABLE (is_first boolean) LANGUAGE plpgsql AS $$
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
