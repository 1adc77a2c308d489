-- Settings of every function that nodes call, whatever those of the session are: a pooler shares
-- sessions. Plans are those for a full store, by index and not compiled, although tables are
-- nearly empty when they are made. A call that waits for a lock longer than its caller waits for
-- it gives up.

DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = current_schema::regnamespace AND proname IN (
            'find', 'add', 'fence', 'settle', 'supersede', 'acknowledge', 'missed', 'spend_all',
            'queue', 'take_letters', 'finish', 'end_over', 'prune', 'used', 'fold_usage',
            'act', 'resend', 'beat', 'leave', 'present', 'take_due', 'firsts', 'lease', 'find_records',
            'pauses', 'put_pause', 'end_pause', 'notice', 'notify_of'
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
