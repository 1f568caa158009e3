/* Addresses of executors, taken apart. */
#include "gateway/buildkitd/executor_address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gateway/tenant/tenant.h"

#define NAME_FORM_MAX 128                /* of name=: an address is put behind it */

static const struct {
	const char *scheme, *as;
	bool dns;
} schemes[] = {
	{ "tcp://", "grpc://", false }, { "tcps://", "grpcs://", false }, { "grpc://", "grpc://", false },
	{ "grpcs://", "grpcs://", false }, { "dns://", "grpc://", true },   { "unix://", "unix://", false },
};

/* A port has no default here: buildkitd has none. */
static bool names_port(const char *rest)
{
	const char *bracket = strrchr(rest, ']');

	return strchr(bracket ? bracket : rest, ':') != NULL;
}

static bool parse_address(struct executor_address *executor, const char *text)
{
	char form[ADDRESS_TEXT_MAX], why[2 * ADDRESS_TEXT_MAX];

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t length = strlen(schemes[i].scheme);

		if (strncmp(text, schemes[i].scheme, length) != 0)
			continue;
		if (strcmp(schemes[i].scheme, "unix://") != 0 && !names_port(text + length))
			return false;
		if ((size_t)snprintf(form, sizeof(form), "%s%s", schemes[i].as, text + length) >= sizeof(form))
			return false;
		executor->dns = schemes[i].dns;
		return address_parse(&executor->address, form, why, sizeof(why));
	}
	return false;
}

/* ---- options ---- */

static bool take_text(char *out, size_t size, const char *value)
{
	size_t length = strlen(value);

	if (length == 0 || length >= size)
		return false;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)value[i] < ' ' || value[i] == 127)
			return false;
	memcpy(out, value, length + 1);
	return true;
}

static bool take_name(struct executor_address *executor, const char *value)
{
	executor->named = strlen(value) <= NAME_FORM_MAX && take_text(executor->name, sizeof(executor->name), value);
	return executor->named;
}

static bool take_tenant(struct executor_address *executor, const char *value)
{
	return tenant_name_valid(span_text(value)) && take_text(executor->tenant, sizeof(executor->tenant), value);
}

static bool take_slots(struct executor_address *executor, const char *value)
{
	uint32_t slots = 0;

	for (const char *at = value; *at; at++) {
		if (*at < '0' || *at > '9' || at - value > 4)
			return false;
		slots = slots * 10 + (uint32_t)(*at - '0');
	}
	executor->slots = slots;
	return slots >= 1 && slots <= EXECUTOR_SLOTS_MAX;
}

static bool take_ca(struct executor_address *executor, const char *value)
{
	return take_text(executor->ca, sizeof(executor->ca), value);
}

static bool take_certificate(struct executor_address *executor, const char *value)
{
	return take_text(executor->certificate, sizeof(executor->certificate), value);
}

static bool take_key(struct executor_address *executor, const char *value)
{
	return take_text(executor->key, sizeof(executor->key), value);
}

static const struct {
	const char *name;
	bool (*take)(struct executor_address *executor, const char *value);
	const char *wanted;
} options[] = {
	{ "tenant", take_tenant, "the name of a tenant" },
	{ "slots", take_slots, "a number of builds, 1 to 1024" },
	{ "name", take_name, "a name of at most 128 characters" },
	{ "ca", take_ca, "a file" },
	{ "cert", take_certificate, "a file" },
	{ "key", take_key, "a file" },
};
#define OPTIONS_COUNT (sizeof(options) / sizeof(options[0]))

/* "name=value". `given` has a bit each option. */
static bool take_option(struct executor_address *executor, char *option, unsigned *given, char *why, size_t why_size)
{
	char *value = strchr(option, '=');

	if (value)
		*value++ = '\0';
	for (size_t i = 0; value && i < OPTIONS_COUNT; i++) {
		if (strcmp(options[i].name, option) != 0)
			continue;
		if (*given & 1u << i) {
			snprintf(why, why_size, "%s= is there twice", option);
			return false;
		}
		*given |= 1u << i;
		if (options[i].take(executor, value))
			return true;
		snprintf(why, why_size, "%s=%.100s is not %s", option, value, options[i].wanted);
		return false;
	}
	snprintf(why, why_size, "\"%.100s\" is none of tenant=, slots=, name=, ca=, cert=, key=", option);
	return false;
}

static bool check_files(struct executor_address *executor, char *why, size_t why_size)
{
	bool files = executor->ca[0] || executor->certificate[0] || executor->key[0];

	if (executor->dns && files)
		executor->address.tls = true;
	if (files && !executor->address.tls) {
		snprintf(why, why_size, "ca=, cert= and key= are for tcps:// and dns://");
		return false;
	}
	if (!executor->certificate[0] != !executor->key[0]) {
		snprintf(why, why_size, "cert= and key= go together");
		return false;
	}
	return true;
}

static bool take_options(struct executor_address *executor, char *rest, char *why, size_t why_size)
{
	unsigned given = 0;

	while (rest) {
		char *option = rest;

		rest = strchr(rest, ',');
		if (rest)
			*rest++ = '\0';
		if (!take_option(executor, option, &given, why, why_size))
			return false;
	}
	return check_files(executor, why, why_size);
}

bool executor_address_parse(struct executor_address *out, const char *text, char *why, size_t why_size)
{
	struct executor_address executor = { 0 };
	char *copy = strdup(text), *rest, problem[300] = "";
	bool good;

	if (!copy) {
		snprintf(why, why_size, "out of memory");
		return false;
	}
	rest = strchr(copy, ',');
	if (rest)
		*rest++ = '\0';
	good = parse_address(&executor, copy);
	if (good)
		snprintf(executor.name, sizeof(executor.name), "%s", copy);
	else
		snprintf(problem, sizeof(problem),
		         "use tcp://host:port, tcps://host:port, unix:///path or dns://name:port, and options behind commas");
	good = good && take_options(&executor, rest, problem, sizeof(problem));
	free(copy);
	if (!good) {
		snprintf(why, why_size, "\"%.200s\" is not the address of a buildkitd: %s", text, problem);
		return false;
	}
	*out = executor;
	return true;
}
