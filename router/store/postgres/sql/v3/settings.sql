-- What holds in every function that is called from outside and was made anew, see v2.

DO $$
DECLARE
    called regprocedure;
BEGIN
    FOR called IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = current_schema::regnamespace AND proname IN (
            'pauses', 'put_pause', 'end_pause', 'notice', 'notify_of', 'prune', 'firsts',
            'add', 'take_due'
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
