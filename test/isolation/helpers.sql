-- What the isolation tests share.  A spec holds our processes at debug points:
-- a step arms one by ALTER SYSTEM, another calls one of these procedures, which
-- makes the setting known and waits until a process has come there.
--
-- The first point is reached by giving work until a process is held there, since
-- one that does not know the setting yet goes through.  From then on nothing is
-- left to chance: who is held goes on to the next point that is armed.

CREATE EXTENSION ivm_ext;

-- A REFRESH is work for the builder in all of them.
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET ivm.refresh = rebuild', current_database()); END $$;

CREATE TABLE tick (n bigint NOT NULL);
INSERT INTO tick VALUES (0);

CREATE FUNCTION armed_points() RETURNS text
LANGUAGE sql VOLATILE AS $$
	SELECT coalesce((SELECT setting FROM pg_file_settings
					 WHERE name = 'ivm.debug_points' ORDER BY seqno DESC LIMIT 1), '')
$$;

-- Who waits at a debug point has its name as state.
CREATE FUNCTION held() RETURNS TABLE (pid int, point text)
LANGUAGE sql VOLATILE AS $$
	SELECT pid, state FROM pg_stat_ivm_worker WHERE state ~ '^(apply|build|decoder)-'
$$;

-- Waits until everything committed by now is decoded.
CREATE PROCEDURE wait_for_decoder()
LANGUAGE plpgsql AS $$
DECLARE
	target pg_lsn;
BEGIN
	UPDATE tick SET n = n + 1;
	COMMIT;
	target := pg_current_wal_flush_lsn();
	WHILE (SELECT count(*) = 0 FROM pg_stat_ivm_worker
		   WHERE worker_type = 'decoder' AND position_lsn >= target) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;

-- Repeats a write to a table of a view until the slot is confirmed up to here.
-- The worker needs a moment without changes to find its commit flushed.
CREATE PROCEDURE confirmed(write text)
LANGUAGE plpgsql AS $$
DECLARE
	target pg_lsn := pg_current_wal_flush_lsn();
BEGIN
	WHILE EXISTS (SELECT FROM pg_replication_slots
				  WHERE database = current_database() AND confirmed_flush_lsn < target) LOOP
		EXECUTE write;
		COMMIT;
		PERFORM pg_sleep(0.5);
	END LOOP;
END
$$;

-- Repeats a statement that gives our processes something to do, and changes
-- nothing that a test prints, until one is held at the (first) armed point.
CREATE PROCEDURE hold(statement text)
LANGUAGE plpgsql AS $$
DECLARE
	first text := split_part(armed_points(), '=', 1);
BEGIN
	PERFORM pg_reload_conf();
	LOOP
		EXECUTE statement;
		COMMIT;
		LOOP
			IF EXISTS (SELECT FROM held() WHERE point = first) THEN
				RETURN;
			END IF;
			BEGIN
				PERFORM ivm.sync(timeout => '50ms');
				EXIT;			-- it went through
			EXCEPTION WHEN query_canceled THEN
			END;
		END LOOP;
	END LOOP;
END
$$;

-- Waits until a process has come to the (first) armed point.  A batch that is late
-- lets its locks go and begins anew: it is not to be late when it goes on.
CREATE PROCEDURE come()
LANGUAGE plpgsql AS $$
DECLARE
	first text := split_part(armed_points(), '=', 1);
BEGIN
	PERFORM pg_reload_conf();
	WHILE NOT EXISTS (SELECT FROM held() WHERE point = first) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
	IF first = 'apply-snapshot' THEN
		CALL wait_for_decoder();
	END IF;
END
$$;

-- Lets go on whoever waits at a point that is not armed any more.
CREATE PROCEDURE go()
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_reload_conf();
	WHILE EXISTS (SELECT FROM held() WHERE strpos(armed_points(), point || '=wait') = 0) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;

-- Waits until a view has everything that is committed by now.  For a step that
-- is not to be reported as waiting while somebody is held.
CREATE PROCEDURE synced(view regclass)
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM ivm.sync(view);
END
$$;

-- Waits until a view has been rebuilt since it was made.
CREATE PROCEDURE rebuilt(view regclass)
LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_stat_ivm WHERE relid = view AND rebuilds > 0 AND state = 'active') LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;

-- Waits until a view has the rows of its query, as of now.  For when ivm.sync()
-- would wait: it counts what is committed and not visible yet.
CREATE PROCEDURE exact(view regclass)
LANGUAGE plpgsql AS $$
DECLARE
	same boolean;
BEGIN
	LOOP
		EXECUTE format('WITH q AS MATERIALIZED (%s)'
					   ' SELECT NOT EXISTS (TABLE q EXCEPT ALL TABLE %2$s)'
					   ' AND NOT EXISTS (TABLE %2$s EXCEPT ALL TABLE q)',
					   rtrim(pg_get_viewdef(view), ';'), view) INTO same;
		EXIT WHEN same;
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;

-- Lets transactions that wait for the standby become visible.
CREATE PROCEDURE visible()
LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep';
	WHILE EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep') LOOP
		PERFORM pg_stat_clear_snapshot();
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;

-- Ends a process, and waits until another one is there.
CREATE PROCEDURE restart(type text)
LANGUAGE plpgsql AS $$
DECLARE
	old int := (SELECT pid FROM pg_stat_ivm_worker WHERE worker_type = type);
BEGIN
	PERFORM pg_terminate_backend(old);
	WHILE NOT EXISTS (SELECT FROM pg_stat_ivm_worker
					  WHERE worker_type = type AND pid <> old AND state = 'running') LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;

-- Waits until there is no builder: the next one is born with the setting.  One
-- that sleeps ends when it is woken, here to read the configuration.
CREATE PROCEDURE no_builder()
LANGUAGE plpgsql AS $$
BEGIN
	WHILE EXISTS (SELECT FROM pg_stat_ivm_worker WHERE worker_type = 'builder') LOOP
		PERFORM pg_reload_conf();
		PERFORM pg_sleep(0.05);
	END LOOP;
END
$$;

-- What the tester asks in order to report a step as waiting.  The server's own
-- function knows locks of the sessions under test only.  Here a session waits,
-- too, for a process of ours that is held, for others that wait for that one,
-- and for the standby that does not exist.  While none is held nobody waits for
-- our processes for longer than a moment, and that is not reported; nor are the
-- procedures above and the oracle: a batch may still come to a point after it
-- was taken off the list.
SET allow_system_table_mods = on;
ALTER FUNCTION pg_catalog.pg_isolation_test_session_is_blocked(int, int[])
	RENAME TO session_is_blocked_by_session;
CREATE FUNCTION pg_catalog.pg_isolation_test_session_is_blocked(session int, sessions int[])
RETURNS boolean
LANGUAGE sql VOLATILE STRICT AS $$
	SELECT pg_catalog.session_is_blocked_by_session(session, sessions)
		OR pg_blocking_pids(session) && ARRAY(SELECT pid FROM public.held())
		OR EXISTS (SELECT FROM pg_stat_activity
				   WHERE pid = session AND query !~ '^(CALL|SELECT \* FROM oracle)'
					   AND (wait_event = 'SyncRep' OR
							wait_event = 'Extension' AND
							(EXISTS (SELECT FROM public.held()) OR
							 EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'))))
$$;
RESET allow_system_table_mods;
