-- The tables of 0.2.0. Times are seconds since the epoch. Texts with a NUL are escaped, for
-- PostgreSQL cannot hold one.

CREATE TABLE version (version integer NOT NULL);

-- The columns of an event that change; the others are in `letters`, so that a change copies few
-- bytes.
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
    settled_by text -- the token of the last settlement, which recognises one that is sent twice
) WITH (fillfactor = 80);
CREATE INDEX events_by_body ON events (digest, stage);
CREATE INDEX events_by_end ON events (ends_at) WHERE stage = 'open';
CREATE INDEX events_unsettled ON events (first_at) WHERE expires_at IS NULL;
CREATE INDEX events_by_expiry ON events (expires_at) WHERE expires_at IS NOT NULL;

-- The parts of an event that its targets get.
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
    action bigint, -- a person's last action on it, which may be deleted earlier
    size integer NOT NULL, -- of its event
    was_state text, -- its state before that action
    was_reason text,
    later_event text, -- the event whose acknowledgement replaced its own
    PRIMARY KEY (seq, target)
) WITH (fillfactor = 80);
CREATE INDEX deliveries_by_due ON deliveries (target, due_at) WHERE state = 'queued';
CREATE INDEX deliveries_dead ON deliveries (target, changed_at) WHERE state = 'dead';

-- Failed attempts: the first of a delivery and its last ones.
CREATE TABLE attempts (
    seq bigint NOT NULL,
    target text COLLATE "C" NOT NULL,
    number integer NOT NULL, -- among all attempts of its delivery, deleted ones included
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

-- One row: events up to that seq have no credit.
CREATE TABLE credit (spent_up_to bigint NOT NULL) WITH (fillfactor = 10);
INSERT INTO credit VALUES (0);

-- Sums that triggers keep: events under '' and '', unsettled deliveries by target and state. Each
-- backend has rows of its own, so that no commit waits for another; the sum over all backends
-- counts.
CREATE TABLE usage (
    target text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    backend integer NOT NULL,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (target, state, backend)
) WITH (fillfactor = 20);

-- Rows come and go all the time: vacuum early and a little at a time, so that tables and indexes
-- stay small.
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

-- The processes that share the store: each writes its row every second. Not logged, so that no beat
-- waits for a disk; after a crash of the server the next beats bring the rows back.

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
