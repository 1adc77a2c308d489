-- What holds in every function that is called from outside, whatever the session's settings are:
-- sessions belong to poolers. The plan is the one for a full store, though tables are nearly empty
-- when it is made: by index, and never compiled. Who waits for a lock for longer than anybody waits
-- for him gives up.

DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = current_schema::regnamespace AND proname IN (
            'find', 'add', 'fence', 'settle', 'supersede', 'acknowledge', 'missed', 'spend_all',
            'queue', 'take_letters', 'finish', 'end_over', 'prune', 'used', 'fold_usage',
            'act', 'beat', 'leave', 'present'
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
