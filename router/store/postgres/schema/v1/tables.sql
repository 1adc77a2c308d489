-- Every table, in a schema of its own; ebaas-router replaces {schema} by its name.
-- Times are seconds since the epoch. Texts with a NUL, which PostgreSQL can't hold, are escaped.

CREATE TABLE {schema}.version (version integer NOT NULL);

-- What changes of an event is apart from what does not, so that a change copies few bytes.
CREATE TABLE {schema}.events (
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
    size integer NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX events_by_body ON {schema}.events (digest, stage);
CREATE INDEX events_by_end ON {schema}.events (ends_at) WHERE stage = 'open';
CREATE INDEX events_unsettled ON {schema}.events (first_at) WHERE expires_at IS NULL;
CREATE INDEX events_by_expiry ON {schema}.events (expires_at) WHERE expires_at IS NOT NULL;

-- What its targets get.
CREATE TABLE {schema}.letters (
    seq bigint PRIMARY KEY REFERENCES {schema}.events ON DELETE CASCADE,
    request_id text NOT NULL,
    traceparent text NOT NULL,
    event_source text NOT NULL,
    event_topic text NOT NULL,
    event_type text NOT NULL,
    event_status text NOT NULL,
    event_key text NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE {schema}.deliveries (
    seq bigint NOT NULL REFERENCES {schema}.events ON DELETE CASCADE,
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
    PRIMARY KEY (seq, target)
) WITH (fillfactor = 80);
CREATE INDEX deliveries_by_due ON {schema}.deliveries (target, due_at) WHERE state = 'queued';
CREATE INDEX deliveries_dead ON {schema}.deliveries (target, changed_at) WHERE state = 'dead';

CREATE TABLE {schema}.actions (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action_id text NOT NULL UNIQUE,
    verb text NOT NULL,
    who text NOT NULL,
    what text NOT NULL,
    at double precision NOT NULL,
    deliveries integer NOT NULL
);
CREATE INDEX actions_by_time ON {schema}.actions (at);

-- One row: the events up to that one count as spent.
CREATE TABLE {schema}.credit (spent_up_to bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO {schema}.credit VALUES (0);

-- What there is, kept by triggers: the events under '' and '', unsettled deliveries by target and
-- state. Every backend has rows of its own, so that no commit waits for another's; the sum counts.
CREATE TABLE {schema}.usage (
    target text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    backend integer NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (target, state, backend)
) WITH (fillfactor = 20);

-- Rows come and go all the time: vacuum early, a little at a time, so that tables and indexes stay
-- as small as what they hold.
ALTER TABLE {schema}.events SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE {schema}.letters SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE {schema}.deliveries SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
ALTER TABLE {schema}.usage SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE {schema}.credit SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100
);
