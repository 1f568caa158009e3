/* units: exact integer arithmetic, so that "1.1GB" is 1,100,000,000 and an overflow is refused. */
#include "gateway/base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

enum { FRACTION_DIGITS_MAX = 9 };

struct unit {
	const char *name;
	uint64_t scale;
};

static const struct unit byte_units[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "kB", 1000 },
	{ "MB", 1000000 },
	{ "GB", 1000000000 },
	{ "TB", 1000000000000 },
	{ "KiB", UINT64_C(1) << 10 },
	{ "MiB", UINT64_C(1) << 20 },
	{ "GiB", UINT64_C(1) << 30 },
	{ "TiB", UINT64_C(1) << 40 },
};

static const struct unit duration_units[] = {
	{ "", 1000000000 },
	{ "ns", 1 },
	{ "us", 1000 },
	{ "ms", 1000000 },
	{ "s", 1000000000 },
	{ "m", UINT64_C(60) * 1000000000 },
	{ "h", UINT64_C(3600) * 1000000000 },
	{ "d", UINT64_C(86400) * 1000000000 },
};

/* whole + fraction / 10^digits */
struct decimal {
	uint64_t whole, fraction, divisor;
};

/* Returns what follows the number; NULL: no number, or one too large. */
static const char *parse_decimal(const char *text, struct decimal *number)
{
	unsigned digits = 0;

	*number = (struct decimal){ .divisor = 1 };
	if (*text < '0' || *text > '9')
		return NULL;
	for (; *text >= '0' && *text <= '9'; text++)
		if (__builtin_mul_overflow(number->whole, 10, &number->whole) ||
		    __builtin_add_overflow(number->whole, (uint64_t)(*text - '0'), &number->whole))
			return NULL;
	if (*text != '.')
		return text;
	for (text++; *text >= '0' && *text <= '9'; text++, digits++) {
		if (digits == FRACTION_DIGITS_MAX)
			return NULL;
		number->fraction = number->fraction * 10 + (uint64_t)(*text - '0');
		number->divisor *= 10;
	}
	return digits ? text : NULL;
}

/* Rounds down. */
static bool scale_decimal(const struct decimal *number, uint64_t scale, uint64_t *out)
{
	unsigned __int128 scaled = (unsigned __int128)number->whole * scale +
	                           (unsigned __int128)number->fraction * scale / number->divisor;

	if (scaled > UINT64_MAX)
		return false;
	*out = (uint64_t)scaled;
	return true;
}

static const struct unit *find_unit(const struct unit *units, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcasecmp(units[i].name, name) == 0)
			return &units[i];
	return NULL;
}

static bool parse_percent(const struct decimal *number, uint64_t whole, uint64_t *bytes)
{
	unsigned __int128 share;

	if (whole == 0 || number->whole > 100 || (number->whole == 100 && number->fraction))
		return false;
	share = (unsigned __int128)whole * number->whole + (unsigned __int128)whole * number->fraction / number->divisor;
	*bytes = (uint64_t)(share / 100);
	return true;
}

bool units_parse_bytes(const char *text, uint64_t whole, uint64_t *bytes)
{
	const struct unit *unit;
	struct decimal number;
	const char *rest = parse_decimal(text, &number);

	if (!rest)
		return false;
	rest += rest[0] == ' ' && rest[1] != '\0';
	if (strcmp(rest, "%") == 0)
		return parse_percent(&number, whole, bytes);
	unit = find_unit(byte_units, sizeof(byte_units) / sizeof(byte_units[0]), rest);
	return unit && scale_decimal(&number, unit->scale, bytes);
}

bool units_parse_duration(const char *text, uint64_t *ns)
{
	const struct unit *unit;
	struct decimal number;
	const char *rest = parse_decimal(text, &number);

	if (!rest)
		return false;
	unit = find_unit(duration_units, sizeof(duration_units) / sizeof(duration_units[0]), rest);
	return unit && scale_decimal(&number, unit->scale, ns);
}

char *units_format_bytes(uint64_t bytes, char text[static 24])
{
	static const char *const names[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
	uint64_t scale = 1, tenths;
	unsigned unit = 0;

	/* What would round to 1,000 of a unit is shown as 1 of the next. */
	while (unit < 6 && bytes >= scale * 999 + (scale + 1) / 2) {
		scale *= 1000;
		unit++;
	}
	if (unit == 0) {
		snprintf(text, 24, "%" PRIu64 " B", bytes);
		return text;
	}
	tenths = (uint64_t)(((unsigned __int128)bytes * 10 + scale / 2) / scale);
	if (tenths >= 100)
		snprintf(text, 24, "%" PRIu64 " %s", bytes / scale + (bytes % scale * 2 >= scale), names[unit]);
	else if (tenths % 10 == 0)
		snprintf(text, 24, "%" PRIu64 " %s", tenths / 10, names[unit]);
	else
		snprintf(text, 24, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10, names[unit]);
	return text;
}

char *units_format_duration(uint64_t ns, char text[static 24])
{
	uint64_t hundredths = ns / 10000000 + (ns % 10000000 >= 5000000);
	uint64_t tenths = ns / 100000000 + (ns % 100000000 >= 50000000);
	uint64_t seconds = ns / 1000000000 + (ns % 1000000000 >= 500000000);

	if (hundredths < 100)
		snprintf(text, 24, "0.%02" PRIu64 "s", hundredths);
	else if (tenths < 600)
		snprintf(text, 24, "%" PRIu64 ".%" PRIu64 "s", tenths / 10, tenths % 10);
	else if (seconds < 3600)
		snprintf(text, 24, "%" PRIu64 "m %" PRIu64 "s", seconds / 60, seconds % 60);
	else
		snprintf(text, 24, "%" PRIu64 "h %" PRIu64 "m", seconds / 3600, seconds % 3600 / 60);
	return text;
}
