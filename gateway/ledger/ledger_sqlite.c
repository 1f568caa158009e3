/*
 * The ledger in SQLite: `ledger.db` in the store's directory. One connection, used by one worker at a time; the loop's
 * thread never touches it between open and close.
 *
 * WAL, so that whoever looks at the file with sqlite3 neither waits for us nor makes us wait. synchronous=FULL: a line
 * that was reported as written is there after a power loss, for which NORMAL would promise only that the file is whole;
 * it costs one sync a transaction, which is one a batch, and nobody waits for it.
 *
 * A disk that is full, of bytes, files or a quota, somebody who keeps the file locked, or no descriptor for it does not
 * keep a gateway from starting: the file is then opened by the first task that can.
 */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/base/cleanup.h"
#include "gateway/base/err.h"
#include "gateway/base/log.h"
#include "gateway/ledger/engine.h"
#include "gateway/ledger/ledger_row.h"

#define LEDGER_FILE           "ledger.db"
#define LEDGER_FORMAT         1                  /* user_version; docs/ledger.md */
#define LEDGER_APPLICATION_ID 1936483175         /* "slcg", so that we know whose it is */
#define LEDGER_BUSY_MS        250                /* wait for somebody else's write; then ledger.c tries again later */
#define LEDGER_WAL_PAGES      256                /* of 4 KiB: the log is moved into the file when it is this long */

#define TEXT_OF_(x) #x
#define TEXT_OF(x)  TEXT_OF_(x)

enum statement {
	STATEMENT_BEGIN,
	STATEMENT_COMMIT,
	STATEMENT_ROLLBACK,
	STATEMENT_INSERT,
	STATEMENT_LIST,
	STATEMENT_LIST_FAILED,
	STATEMENT_TRIM,
	STATEMENTS,
};

struct ledger_backend {
	struct ring *ring;
	sqlite3 *db;                     /* NULL: not open yet */
	sqlite3_stmt *statements[STATEMENTS];
	struct ledger_task *task;
	struct op work;
	char *path;
};

/* As docs/ledger.md describes it. */
static const char schema[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE builds ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" tenant TEXT NOT NULL, subject TEXT NOT NULL, ref TEXT NOT NULL, directory TEXT NOT NULL, executor TEXT NOT NULL,"
	" queued_ns INTEGER NOT NULL, started_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, queue_ns INTEGER NOT NULL,"
	" files INTEGER NOT NULL, files_changed INTEGER NOT NULL, bytes_from_client INTEGER NOT NULL,"
	" bytes_from_store INTEGER NOT NULL, bytes_to_executor INTEGER NOT NULL,"
	" steps_cached INTEGER NOT NULL, steps_executed INTEGER NOT NULL, replays INTEGER NOT NULL,"
	" result TEXT NOT NULL, fault TEXT NOT NULL, status INTEGER NOT NULL, error TEXT NOT NULL"
	") STRICT;"
	"CREATE INDEX builds_of_tenant ON builds (tenant, ended_ns, id);"
	"CREATE INDEX builds_failed ON builds (tenant, ended_ns, id) WHERE result IN ('failed', 'lost');"
	"CREATE INDEX builds_by_end ON builds (ended_ns);"
	"PRAGMA application_id = " TEXT_OF(LEDGER_APPLICATION_ID) ";"
	"PRAGMA user_version = " TEXT_OF(LEDGER_FORMAT) ";"
	"COMMIT;";

static const char *const statement_texts[STATEMENTS] = {
	[STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
	[STATEMENT_COMMIT] = "COMMIT",
	[STATEMENT_ROLLBACK] = "ROLLBACK",
	[STATEMENT_INSERT] = "INSERT INTO builds (" LEDGER_ROW_COLUMNS ") VALUES (" LEDGER_ROW_PLACES ")",
	[STATEMENT_LIST] = "SELECT " LEDGER_ROW_COLUMNS " FROM builds WHERE tenant = ?1 AND ended_ns >= ?2 "
	                   "ORDER BY ended_ns DESC, id DESC LIMIT ?3",
	/* Its own words, or the index of failures does not apply. */
	[STATEMENT_LIST_FAILED] = "SELECT " LEDGER_ROW_COLUMNS " FROM builds WHERE tenant = ?1 AND ended_ns >= ?2 "
	                          "AND result IN ('failed', 'lost') ORDER BY ended_ns DESC, id DESC LIMIT ?3",
	/* Ids grow by one a line, so the oldest beyond a number are told by their ids, without counting. */
	[STATEMENT_TRIM] = "DELETE FROM builds WHERE id IN ("
	                   "SELECT id FROM (SELECT id FROM builds WHERE ended_ns < ?1 ORDER BY ended_ns LIMIT ?3) UNION "
	                   "SELECT id FROM (SELECT id FROM builds WHERE id <= (SELECT max(id) FROM builds) - ?2 "
	                   "ORDER BY id LIMIT ?3) LIMIT ?3)",
};

/* What no room of any kind does: of some of it SQLite says only that something failed, and the system why. */
static int sqlite_system_error(sqlite3 *db, int r)
{
	int error = db ? sqlite3_system_errno(db) : 0;

	if (error == ENOSPC || error == EDQUOT || err_no_descriptors(error))
		return -error;
	/* The file is there: it could not make what belongs beside it, and then tried whether that is there already. */
	return r == SQLITE_CANTOPEN && error == ENOENT ? -ENOSPC : 0;
}

static int sqlite_error(sqlite3 *db, int r)
{
	int system;

	switch (r & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_FULL:
	case SQLITE_IOERR:
		/* Its shared memory, which is beside the file, is the one thing for which a full disk has no code of its own. */
		if (r == SQLITE_FULL || r == SQLITE_IOERR_SHMSIZE)
			return -ENOSPC;
		system = sqlite_system_error(db, r & 0xff);
		return system ? system : -EIO;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -EUCLEAN;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CANTOPEN:
		system = sqlite_system_error(db, r & 0xff);
		return system ? system : -EACCES;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	default:
		return -EIO;
	}
}

/* What is wrong with the file, and what to do about it. */
static void sqlite_explain(const struct ledger_backend *backend, int r, char *why, size_t why_size)
{
	const char *text = backend->db ? sqlite3_errmsg(backend->db) : "out of memory";

	if (r == -EUCLEAN)
		snprintf(why, why_size, "the ledger %s is damaged (%s): move it away and a new one is made, or mend it with "
		         "`sqlite3 %s .recover`; builds and blobs do not depend on it", backend->path, text, backend->path);
	else if (r == -EBUSY)
		snprintf(why, why_size, "somebody else is writing to the ledger %s: end what has it open", backend->path);
	else
		snprintf(why, why_size, "the ledger %s: %s", backend->path, text);
}

/* ---- opening ---- */

static void sqlite_release(struct ledger_backend *backend)
{
	for (int i = 0; i < STATEMENTS; i++) {
		sqlite3_finalize(backend->statements[i]);
		backend->statements[i] = NULL;
	}
	sqlite3_close(backend->db);              /* moves the log into the file, and removes it */
	backend->db = NULL;
}

static void sqlite_free(struct ledger_backend *backend)
{
	if (!backend)
		return;
	free(backend->path);
	free(backend);
}

/* SQLite gives its log and shared memory the mode of the file: so that is made first, and closed to others. */
static int sqlite_make_file(const char *path, char *why, size_t why_size)
{
	CLEANUP(fd_closep) int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : 0;

	if (r < 0)
		snprintf(why, why_size, "the ledger %s cannot be opened: %s", path, err_text(r));
	return r;
}

static int pragma_number(struct ledger_backend *backend, const char *text, int64_t *number)
{
	sqlite3_stmt *statement = NULL;
	int r = sqlite3_prepare_v2(backend->db, text, -1, &statement, NULL);

	if (r == SQLITE_OK && (r = sqlite3_step(statement)) == SQLITE_ROW)
		*number = sqlite3_column_int64(statement, 0);
	r = sqlite_error(backend->db, r);
	sqlite3_finalize(statement);
	return r;
}

static int sqlite_check_format(struct ledger_backend *backend, char *why, size_t why_size)
{
	int64_t format = 0, application = 0, tables = 0;
	int r = pragma_number(backend, "PRAGMA user_version", &format);

	if (r == 0)
		r = pragma_number(backend, "PRAGMA application_id", &application);
	if (r == 0)
		r = pragma_number(backend, "SELECT count(*) FROM sqlite_schema", &tables);
	if (r < 0) {
		sqlite_explain(backend, r, why, why_size);
		return r;
	}
	if (tables == 0) {
		r = sqlite_error(backend->db, sqlite3_exec(backend->db, schema, NULL, NULL, NULL));
		if (r < 0)
			sqlite_explain(backend, r, why, why_size);
		return r;
	}
	if (application == LEDGER_APPLICATION_ID && format == LEDGER_FORMAT)
		return 0;
	if (application == LEDGER_APPLICATION_ID)
		snprintf(why, why_size, "the ledger %s has format %lld, this sluice knows %d: take a newer sluice, or move the file "
		         "away and a new one is made", backend->path, (long long)format, LEDGER_FORMAT);
	else
		snprintf(why, why_size, "%s is a database of another program: move it away", backend->path);
	return -EPROTONOSUPPORT;
}

static int sqlite_set_up(struct ledger_backend *backend)
{
	char text[128];
	int r;

	sqlite3_extended_result_codes(backend->db, 1);
	sqlite3_busy_timeout(backend->db, LEDGER_BUSY_MS);
	/* A file that somebody else wrote is data: it cannot make us call functions. */
	sqlite3_db_config(backend->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(backend->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	snprintf(text, sizeof(text), "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = %d; "
	         "PRAGMA journal_size_limit = %d;", LEDGER_WAL_PAGES, LEDGER_WAL_PAGES * 4096);
	r = sqlite3_exec(backend->db, text, NULL, NULL, NULL);
	return sqlite_error(backend->db, r);
}

static int sqlite_prepare(struct ledger_backend *backend)
{
	for (int i = 0; i < STATEMENTS; i++) {
		int r = sqlite3_prepare_v3(backend->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &backend->statements[i],
		                           NULL);

		if (r != SQLITE_OK)
			return sqlite_error(backend->db, r);
	}
	return 0;
}

static int sqlite_start(struct ledger_backend *backend, char *why, size_t why_size)
{
	int r = sqlite_make_file(backend->path, why, why_size);

	if (r < 0)
		return r;
	r = sqlite3_open_v2(backend->path, &backend->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	r = sqlite_error(backend->db, r);
	if (r == 0)
		r = sqlite_set_up(backend);
	if (r < 0)
		sqlite_explain(backend, r, why, why_size);
	else
		r = sqlite_check_format(backend, why, why_size);
	if (r == 0) {
		r = sqlite_prepare(backend);
		if (r < 0)
			sqlite_explain(backend, r, why, why_size);
	}
	if (r < 0)
		sqlite_release(backend);
	return r;
}

/* What may pass by itself. */
static bool sqlite_may_wait(int r)
{
	return r == -ENOSPC || r == -EDQUOT || err_no_descriptors(r) || r == -EBUSY;
}

static int sqlite_open(struct ledger_backend **out, const struct ledger_config *config, char *why, size_t why_size)
{
	struct ledger_backend *backend = calloc(1, sizeof(*backend));
	int r = -ENOMEM;

	if (backend && asprintf(&backend->path, "%s/" LEDGER_FILE, config->directory) < 0)
		backend->path = NULL;
	if (backend && backend->path)
		r = sqlite_start(backend, why, why_size);
	else
		snprintf(why, why_size, "out of memory");
	if (sqlite_may_wait(r)) {
		log_event(LOG_ERROR, "ledger not open yet", LOG_TEXT("error", err_report(r)), LOG_TEXT("why", why));
		r = 0;
	}
	if (r < 0) {
		sqlite_free(backend);
		return ERR_RAISE(r);
	}
	backend->ring = config->ring;
	*out = backend;
	return 0;
}

/* ---- tasks, on a worker ---- */

static void bind_number(sqlite3_stmt *statement, int at, uint64_t number)
{
	sqlite3_bind_int64(statement, at, number > INT64_MAX ? INT64_MAX : (int64_t)number);
}

/* Runs one that gives no rows, and leaves it ready for the next time. */
static int run_statement(sqlite3_stmt *statement)
{
	int r = sqlite3_step(statement);

	sqlite3_reset(statement);
	return sqlite_error(sqlite3_db_handle(statement), r);
}

static int insert_lines(struct ledger_backend *backend, const struct ledger_task *task)
{
	sqlite3_stmt *insert = backend->statements[STATEMENT_INSERT];
	int r = 0;

	for (size_t i = 0; r == 0 && i < task->count; i++) {
		ledger_row_bind(insert, task->lines[i]);
		r = run_statement(insert);
	}
	sqlite3_clear_bindings(insert);          /* they point into what is the owners' again */
	return r;
}

static int sqlite_write(struct ledger_backend *backend, struct ledger_task *task)
{
	int r = run_statement(backend->statements[STATEMENT_BEGIN]);

	if (r < 0)
		return r;
	r = insert_lines(backend, task);
	if (r == 0)
		r = run_statement(backend->statements[STATEMENT_COMMIT]);
	if (r < 0) {
		sqlite_explain(backend, r, task->why, sizeof(task->why));
		/* Some failures have rolled it back already; and one that cannot be is rolled back when the file is opened next. */
		if (!sqlite3_get_autocommit(backend->db))
			run_statement(backend->statements[STATEMENT_ROLLBACK]);
	}
	return r;
}

static int sqlite_list(struct ledger_backend *backend, struct ledger_list *list)
{
	sqlite3_stmt *statement = backend->statements[list->only_failed ? STATEMENT_LIST_FAILED : STATEMENT_LIST];
	int r;

	sqlite3_bind_text(statement, 1, list->tenant, -1, SQLITE_STATIC);
	bind_number(statement, 2, list->since_wall_ns);
	bind_number(statement, 3, list->limit);
	list->count = 0;
	while ((r = sqlite3_step(statement)) == SQLITE_ROW && list->count < list->limit)
		ledger_row_read(statement, &list->builds[list->count++]);
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	r = sqlite_error(backend->db, r);
	if (r < 0)
		list->count = 0;
	return r;
}

static int sqlite_trim(struct ledger_backend *backend, struct ledger_task *task)
{
	sqlite3_stmt *statement = backend->statements[STATEMENT_TRIM];
	int r;

	bind_number(statement, 1, task->before_wall_ns);
	bind_number(statement, 2, task->lines_max);
	bind_number(statement, 3, LEDGER_TRIM_MAX);
	r = run_statement(statement);
	if (r == 0)
		task->deleted = (uint64_t)sqlite3_changes(backend->db);
	return r;
}

static int32_t sqlite_work(struct op *op)
{
	struct ledger_backend *backend = container_of(op, struct ledger_backend, work);
	struct ledger_task *task = backend->task;
	int r = 0;

	if (!backend->db && task->kind != LEDGER_TASK_CLOSE)
		r = sqlite_start(backend, task->why, sizeof(task->why));
	if (r < 0)
		return r;
	switch (task->kind) {
	case LEDGER_TASK_WRITE:
		r = sqlite_write(backend, task);
		break;
	case LEDGER_TASK_LIST:
		r = sqlite_list(backend, task->list);
		break;
	case LEDGER_TASK_TRIM:
		r = sqlite_trim(backend, task);
		break;
	case LEDGER_TASK_CLOSE:
		sqlite_release(backend);
		break;
	}
	if (r < 0 && !task->why[0])
		sqlite_explain(backend, r, task->why, sizeof(task->why));
	return r;
}

static void sqlite_on_work(struct op *op, int32_t res)
{
	struct ledger_backend *backend = container_of(op, struct ledger_backend, work);
	struct ledger_task *task = backend->task;

	backend->task = NULL;
	if (task->kind == LEDGER_TASK_CLOSE)
		sqlite_free(backend);
	task->result = res;
	task->fn(task);
}

static void sqlite_run(struct ledger_backend *backend, struct ledger_task *task)
{
	CHECK(!backend->task);
	backend->task = task;
	backend->work.fn = sqlite_on_work;
	ring_work(backend->ring, &backend->work, sqlite_work);
}

const struct ledger_engine ledger_sqlite = { .name = "sqlite", .open = sqlite_open, .run = sqlite_run };
