/* err: the sites that the newest error of this thread passed. */
#include "gateway/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/base/check.h"

enum { ERR_SITES_MAX = 8 };

struct site {
	const char *file;
	int line;
};

static _Thread_local struct {
	int r;
	unsigned count;                  /* sites passed; beyond ERR_SITES_MAX only the newest is kept */
	struct site sites[ERR_SITES_MAX];
	char text[128];
	char report[128 + ERR_SITES_MAX * 48];
} record;

static const char *base_name(const char *file)
{
	const char *slash = strrchr(file, '/');

	return slash ? slash + 1 : file;
}

/* Another value, or a site that was passed already, means that an earlier error was dealt with silently. */
static bool starts_anew(int r, const char *file, int line)
{
	if (r != record.r)
		return true;
	for (unsigned i = 0; i < record.count && i < ERR_SITES_MAX; i++)
		if (record.sites[i].line == line && record.sites[i].file == file)
			return true;
	return false;
}

int err_raise(int r, const char *file, int line)
{
	unsigned at;

	CHECK(r < 0);
	if (starts_anew(r, file, line))
		record.count = 0;
	record.r = r;
	at = record.count < ERR_SITES_MAX ? record.count : ERR_SITES_MAX - 1;
	record.sites[at] = (struct site){ .file = file, .line = line };
	record.count++;
	return r;
}

bool err_no_descriptors(int r)
{
	return abs(r) == EMFILE || abs(r) == ENFILE;
}

const char *err_text(int r)
{
	int number = r < 0 ? -r : r;
	const char *name = strerrorname_np(number), *description = strerrordesc_np(number);

	if (!name || !description)
		snprintf(record.text, sizeof(record.text), "error %d", number);
	else
		snprintf(record.text, sizeof(record.text), "%s (%s)", name, description);
	return record.text;
}

/* Appends the sites, the newest last. */
static void report_sites(size_t used)
{
	unsigned count = record.count < ERR_SITES_MAX ? record.count : ERR_SITES_MAX;

	for (unsigned i = 0; i < count && used < sizeof(record.report); i++) {
		const char *between = i == 0 ? " from " : i == ERR_SITES_MAX - 1 && record.count > count ? " < ... < " : " < ";
		int n = snprintf(record.report + used, sizeof(record.report) - used, "%s%s:%d", between,
		                 base_name(record.sites[i].file), record.sites[i].line);

		used += n > 0 ? (size_t)n : 0;
	}
}

const char *err_report(int r)
{
	int n = snprintf(record.report, sizeof(record.report), "%s", err_text(r));

	if (r == record.r && n > 0)
		report_sites((size_t)n);
	record.count = 0;
	record.r = 0;
	return record.report;
}
