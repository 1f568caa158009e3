/* Words and texts of a line. */
#include "gateway/ledger/ledger_build.h"

#include "gateway/base/check.h"

static const char *const result_names[LEDGER_RESULTS] = {
	[LEDGER_RESULT_OK] = "ok", [LEDGER_RESULT_FAILED] = "failed", [LEDGER_RESULT_CANCELLED] = "cancelled",
	[LEDGER_RESULT_LOST] = "lost",
};

static const char *const fault_names[LEDGER_FAULTS] = {
	[LEDGER_FAULT_NONE] = "none", [LEDGER_FAULT_USER] = "user", [LEDGER_FAULT_PLATFORM] = "platform",
	[LEDGER_FAULT_CLIENT_GONE] = "client-gone",
};

static uint32_t find(const char *const *names, uint32_t count, const char *name)
{
	uint32_t i = 0;

	while (i < count && strcmp(names[i], name) != 0)
		i++;
	return i;
}

const char *ledger_result_name(uint32_t result)
{
	return result < LEDGER_RESULTS ? result_names[result] : "unknown";
}

const char *ledger_fault_name(uint32_t fault)
{
	return fault < LEDGER_FAULTS ? fault_names[fault] : "unknown";
}

enum ledger_result ledger_result_find(const char *name)
{
	return (enum ledger_result)find(result_names, LEDGER_RESULTS, name);
}

enum ledger_fault ledger_fault_find(const char *name)
{
	return (enum ledger_fault)find(fault_names, LEDGER_FAULTS, name);
}

void ledger_text(char *out, size_t size, struct span text)
{
	size_t used = text.size;

	CHECK(size > 0);
	if (used >= size) {
		used = size - 1;
		while (used && (text.data[used] & 0xc0) == 0x80)         /* the byte after the cut must begin a character */
			used--;
	}
	for (size_t i = 0; i < used; i++)
		out[i] = text.data[i] ? (char)text.data[i] : '?';
	out[used] = '\0';
}
