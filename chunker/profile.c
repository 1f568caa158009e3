/* The profiles' parameters, and the choice among them. */
#include "chunker/profile.h"

#include <assert.h>
#include <string.h>

static const struct {
	const char *name;
	uint32_t average;
} profiles[] = {
	[PROFILE_NATIVE] = { "native", 64u << 10 },
	[PROFILE_FINE] = { "fine", 16u << 10 },
	[PROFILE_REAPI] = { "reapi", 512u << 10 },
};

#define PROFILES_END (sizeof(profiles) / sizeof(profiles[0]))

static struct fastcdc profile_cuts[PROFILES_END];

/* What marks a file that is edited in place, or whose members move as they are. */
static const struct {
	size_t offset;
	const char *bytes;
	size_t size;
} fine_marks[] = {
	{ 0, "SQLite format 3", 16 }, /* with its NUL */
	{ 0, "PK\3\4", 4 },           /* zip, jar, wheel */
	{ 0, "QFI\xfb", 4 },          /* qcow2 */
	{ 257, "ustar", 5 },          /* tar */
};

/* Before main(), so that a profile is plain constant data to every thread. */
__attribute__((constructor)) static void profiles_init(void)
{
	for (size_t i = PROFILE_NATIVE; i < PROFILES_END; i++) {
		struct fastcdc_params params = fastcdc_params_reapi(profiles[i].average, 0);
		bool valid = fastcdc_init(&profile_cuts[i], &params);

		assert(valid);
		assert(profile_cuts[i].max <= PROFILE_CHUNK_MAX);
	}
}

enum profile profile_for(const uint8_t *head, size_t size)
{
	for (size_t i = 0; i < sizeof(fine_marks) / sizeof(fine_marks[0]); i++) {
		size_t end = fine_marks[i].offset + fine_marks[i].size;

		assert(end <= PROFILE_HEAD_BYTES);
		if (size >= end && memcmp(head + fine_marks[i].offset, fine_marks[i].bytes, fine_marks[i].size) == 0)
			return PROFILE_FINE;
	}
	return PROFILE_NATIVE;
}

static bool profile_known(uint32_t profile)
{
	return profile >= PROFILE_NATIVE && profile < PROFILES_END;
}

const struct fastcdc *profile_fastcdc(uint32_t profile)
{
	return profile_known(profile) ? &profile_cuts[profile] : NULL;
}

const char *profile_name(uint32_t profile)
{
	return profile_known(profile) ? profiles[profile].name : NULL;
}
