/* ivm_ext--1.0.sql */

\echo Use "CREATE EXTENSION ivm_ext" to load this file. \quit

-- The schema of the functions and of the extension's own tables.  It is created here, not by
-- the control file, so that it belongs to the extension and goes with it.
CREATE SCHEMA ivm;

-- Fails, with a hint, unless the library has been loaded at server start.
CREATE FUNCTION ivm.check_preloaded()
RETURNS void
AS 'MODULE_PATHNAME', 'ivm_check_preloaded'
LANGUAGE C STRICT;
SELECT ivm.check_preloaded();

-- State tables live here, members of the extension like everything in this file.
CREATE SCHEMA ivm_state;

-- The relations of the extension's own are materialized views to the server: it lets no
-- statement write them, publishes them to no subscriber, and pg_dump takes no lock on them.

-- A row for each incremental view (kind v) and each shared arrangement (kind a).
CREATE MATERIALIZED VIEW ivm.view USING heap WITH (fillfactor = 70) AS
SELECT
	NULL::oid AS relid,
	NULL::"char" AS kind,
	NULL::"char" AS state,
	NULL::text AS plan_text,
	NULL::text AS fingerprint,
	NULL::text[] AS settings,
	NULL::text AS definition,
	NULL::text AS reason,
	NULL::oid[] AS arrangements
WHERE false;
CREATE UNIQUE INDEX view_pkey ON ivm.view (relid);

-- The applied snapshot of each that has contents.  Every batch updates its
-- rows: room in the pages keeps the updates HOT.
CREATE MATERIALIZED VIEW ivm.applied USING heap
	WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_threshold = 1000000) AS
SELECT
	NULL::oid AS relid,
	NULL::bigint AS xmin_fxid,
	NULL::bigint AS xmax_fxid,
	NULL::pg_lsn AS lsn,
	NULL::timestamptz AS as_of,
	NULL::bigint[] AS xip
WHERE false;
ALTER MATERIALIZED VIEW ivm.applied ALTER COLUMN xip SET STORAGE MAIN;
CREATE UNIQUE INDEX applied_pkey ON ivm.applied (relid);

CREATE ACCESS METHOD incremental TYPE TABLE HANDLER heap_tableam_handler;
COMMENT ON ACCESS METHOD incremental IS 'heap table access method of incremental views';

-- Returns when every transaction committed before the call is in the view (in all views).
CREATE FUNCTION ivm.sync(view regclass DEFAULT NULL, timeout interval DEFAULT '1 min')
RETURNS void
AS 'MODULE_PATHNAME', 'ivm_sync'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- The delta plan, a line a row.
CREATE FUNCTION ivm.explain(view regclass)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'ivm_explain'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE ROWS 20;

-- The same in a format: 'text', or 'json', which is one row.
CREATE FUNCTION ivm.explain(view regclass, format text)
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'ivm_explain'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE ROWS 20;

-- The delta plan that an incremental view of this query would have; nothing is made.
CREATE FUNCTION ivm.explain_query(query text, format text DEFAULT 'text')
RETURNS SETOF text
AS 'MODULE_PATHNAME', 'ivm_explain_query'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE ROWS 20;

-- How many rows the view lacks, and how many it has too much, compared with its query.
CREATE FUNCTION ivm.verify(view regclass, OUT missing bigint, OUT extra bigint)
RETURNS record
AS 'MODULE_PATHNAME', 'ivm_verify'
LANGUAGE C STRICT VOLATILE PARALLEL UNSAFE;

-- Lets all processes give back the memory that they do not need; how many bytes that was.
CREATE FUNCTION ivm.trim()
RETURNS bigint
AS 'MODULE_PATHNAME', 'ivm_trim'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

-- The hash behind the indexes by which rows of views are found.  It is stored in indexes, so it never changes; users' dumps contain indexes that call it.
CREATE FUNCTION ivm.row_hash(record)
RETURNS bigint
AS 'MODULE_PATHNAME', 'ivm_row_hash'
LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION ivm.row_hash(record) IS 'hash of a row''s image, for indexes of incremental views';

-- Monitoring: the functions read shared memory; the views are what people use.
-- Everything here is readable by pg_monitor; others see what is about their own views.

CREATE FUNCTION ivm.stat_views(
	OUT relid oid, OUT last_apply_time timestamptz, OUT batches bigint,
	OUT changes_received bigint, OUT n_tup_ins bigint, OUT n_tup_upd bigint, OUT n_tup_del bigint,
	OUT apply_time double precision, OUT max_apply_time double precision, OUT recomputes bigint,
	OUT rebuilds bigint, OUT last_rebuild_reason text, OUT error_count bigint,
	OUT last_error text, OUT last_error_time timestamptz, OUT stats_reset timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ivm_stat_views'
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 100;

-- How a view is, worked out from what is stored with it and from what its processes have left in shared memory.
CREATE FUNCTION ivm.view_status(
	relid oid, stored_state "char", stored_lsn pg_lsn, stored_as_of timestamptz,
	OUT state text, OUT state_since timestamptz, OUT applied_lsn pg_lsn, OUT lag_time interval, OUT state_detail text)
RETURNS record
AS 'MODULE_PATHNAME', 'ivm_view_status'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

CREATE FUNCTION ivm.stat_workers(
	OUT pid integer, OUT worker_type text, OUT datid oid, OUT state text, OUT slot_name text,
	OUT position_lsn pg_lsn, OUT confirmed_lsn pg_lsn, OUT restart_lsn pg_lsn,
	OUT log_memory_bytes bigint, OUT log_disk_bytes bigint, OUT guaranteed_bytes bigint,
	OUT granted_bytes bigint, OUT allocated_bytes bigint, OUT active_bytes bigint,
	OUT resident_bytes bigint, OUT retained_bytes bigint, OUT peak_bytes bigint,
	OUT process_bytes bigint, OUT stalls bigint, OUT stall_time double precision,
	OUT spills bigint, OUT spill_bytes bigint, OUT trims bigint, OUT trim_bytes bigint,
	OUT cache_bytes bigint, OUT cache_hits bigint, OUT cache_misses bigint, OUT cache_evictions bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ivm_stat_workers'
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 10;

CREATE FUNCTION ivm.stat_operators(
	OUT relid oid, OUT node_id integer, OUT parent_id integer, OUT operator text,
	OUT rows_in bigint, OUT rows_out bigint, OUT state_bytes bigint,
	OUT total_time double precision)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ivm_stat_operators'
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1000;

CREATE FUNCTION ivm.stat_memory(
	OUT processes integer, OUT budget_bytes bigint, OUT guaranteed_bytes bigint,
	OUT granted_bytes bigint, OUT free_bytes bigint, OUT allocated_bytes bigint,
	OUT active_bytes bigint, OUT resident_bytes bigint, OUT retained_bytes bigint,
	OUT peak_bytes bigint, OUT log_memory_bytes bigint, OUT log_disk_bytes bigint,
	OUT waiters integer, OUT overdraft_pid integer, OUT stalls bigint,
	OUT stall_time double precision, OUT spills bigint, OUT spill_bytes bigint,
	OUT trims bigint, OUT trim_bytes bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ivm_stat_memory'
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 1;

CREATE FUNCTION ivm.stat_builds(
	OUT pid integer, OUT datid oid, OUT relid oid, OUT command text, OUT phase text,
	OUT tuples_done bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'ivm_stat_builds'
LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 2;

-- Sets the counters of one view, or of all views in the database, to zero.
CREATE FUNCTION ivm.stat_reset(view regclass DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'ivm_stat_reset'
LANGUAGE C VOLATILE PARALLEL RESTRICTED;

-- Every incremental view has a row, whether it has counters yet or not.
CREATE VIEW ivm.pg_stat_ivm AS
SELECT
	c.oid AS relid,
	n.nspname AS schemaname,
	c.relname,
	x.state,
	x.state_detail,
	x.state_since,
	x.applied_lsn,
	CASE WHEN x.applied_lsn IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery() THEN
		greatest(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), x.applied_lsn), 0)::bigint
	END AS lag_bytes,
	x.lag_time,
	s.last_apply_time,
	coalesce(s.batches, 0) AS batches,
	coalesce(s.changes_received, 0) AS changes_received,
	coalesce(s.n_tup_ins, 0) AS n_tup_ins,
	coalesce(s.n_tup_upd, 0) AS n_tup_upd,
	coalesce(s.n_tup_del, 0) AS n_tup_del,
	coalesce(s.apply_time, 0) AS apply_time,
	coalesce(s.max_apply_time, 0) AS max_apply_time,
	coalesce(s.recomputes, 0) AS recomputes,
	coalesce(s.rebuilds, 0) AS rebuilds,
	coalesce(s.last_rebuild_reason, CASE v.state WHEN 'r' THEN v.reason END) AS last_rebuild_reason,
	coalesce(s.error_count, 0) AS error_count,
	coalesce(s.last_error, CASE v.state WHEN 'e' THEN v.reason END) AS last_error,
	s.last_error_time,
	s.stats_reset
FROM pg_catalog.pg_class c
	JOIN pg_catalog.pg_am am ON am.oid = c.relam AND am.amname = 'incremental'
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN ivm.view v ON v.relid = c.oid
	LEFT JOIN ivm.applied a ON a.relid = c.oid
	LEFT JOIN ivm.stat_views() s ON s.relid = c.oid
	CROSS JOIN LATERAL ivm.view_status(c.oid, v.state, a.lsn, a.as_of) x
WHERE c.relkind = 'm' AND (pg_has_role(c.relowner, 'USAGE') OR pg_has_role('pg_monitor', 'USAGE'));

CREATE VIEW ivm.pg_stat_ivm_worker AS
SELECT s.pid, s.worker_type, d.datname, s.state, s.slot_name, s.position_lsn, s.confirmed_lsn,
	s.restart_lsn, s.log_memory_bytes, s.log_disk_bytes, s.guaranteed_bytes, s.granted_bytes,
	s.allocated_bytes, s.active_bytes, s.resident_bytes, s.retained_bytes, s.peak_bytes,
	s.process_bytes, s.stalls, s.stall_time, s.spills, s.spill_bytes, s.trims, s.trim_bytes,
	s.cache_bytes, s.cache_hits, s.cache_misses, s.cache_evictions
FROM ivm.stat_workers() s
	LEFT JOIN pg_catalog.pg_database d ON d.oid = s.datid;

CREATE VIEW ivm.pg_stat_ivm_operator AS
SELECT s.relid, s.node_id, s.parent_id, s.operator, s.rows_in, s.rows_out, s.state_bytes,
	s.total_time
FROM ivm.stat_operators() s;

CREATE VIEW ivm.pg_stat_ivm_memory AS
SELECT s.processes, s.budget_bytes, s.guaranteed_bytes, s.granted_bytes, s.free_bytes,
	s.allocated_bytes, s.active_bytes, s.resident_bytes, s.retained_bytes, s.peak_bytes,
	s.log_memory_bytes, s.log_disk_bytes, s.waiters, s.overdraft_pid, s.stalls, s.stall_time,
	s.spills, s.spill_bytes, s.trims, s.trim_bytes
FROM ivm.stat_memory() s;

CREATE VIEW ivm.pg_stat_progress_ivm_build AS
SELECT s.pid, s.datid, d.datname, s.relid, s.command, s.phase, s.tuples_done
FROM ivm.stat_builds() s
	LEFT JOIN pg_catalog.pg_database d ON d.oid = s.datid;

-- The server lets nobody create a view in pg_catalog, but move one there.
ALTER VIEW ivm.pg_stat_ivm SET SCHEMA pg_catalog;
ALTER VIEW ivm.pg_stat_ivm_worker SET SCHEMA pg_catalog;
ALTER VIEW ivm.pg_stat_ivm_operator SET SCHEMA pg_catalog;
ALTER VIEW ivm.pg_stat_ivm_memory SET SCHEMA pg_catalog;
ALTER VIEW ivm.pg_stat_progress_ivm_build SET SCHEMA pg_catalog;

-- A server that was started without the library would let views be made that nobody maintains.
CREATE FUNCTION ivm.guard_command()
RETURNS event_trigger
AS 'MODULE_PATHNAME', 'ivm_guard_command'
LANGUAGE C;
CREATE EVENT TRIGGER ivm_ext_guard_command ON ddl_command_end
	WHEN TAG IN ('CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW',
				 'REFRESH MATERIALIZED VIEW', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO',
				 'ALTER TABLE')
	EXECUTE FUNCTION ivm.guard_command();

-- Privileges.  What default privileges, or the lack of them, have given and taken until here
-- is of no effect: nobody has anything but what stands below.
CREATE FUNCTION ivm.revoke_all()
RETURNS void
AS 'MODULE_PATHNAME', 'ivm_revoke_all'
LANGUAGE C;
SELECT ivm.revoke_all();
DROP FUNCTION ivm.revoke_all();

GRANT USAGE ON SCHEMA ivm TO PUBLIC;
GRANT EXECUTE ON FUNCTION ivm.sync(regclass, interval), ivm.explain(regclass), ivm.explain(regclass, text),
	ivm.explain_query(text, text), ivm.verify(regclass),
	ivm.row_hash(record), ivm.stat_views(), ivm.view_status(oid, "char", pg_lsn, timestamptz), ivm.stat_operators(), ivm.stat_builds() TO PUBLIC;
GRANT EXECUTE ON FUNCTION ivm.stat_workers(), ivm.stat_memory() TO pg_monitor;
GRANT SELECT ON pg_catalog.pg_stat_ivm, pg_catalog.pg_stat_ivm_operator, pg_catalog.pg_stat_progress_ivm_build TO PUBLIC;
GRANT SELECT ON ivm.view, ivm.applied, pg_catalog.pg_stat_ivm_worker, pg_catalog.pg_stat_ivm_memory TO pg_monitor;
