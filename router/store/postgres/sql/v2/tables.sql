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
