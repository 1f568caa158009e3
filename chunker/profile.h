/*
 * profile: which files are cut, and how finely. A profile's number travels in every recipe: numbers are never reused.
 *
 * Which profile a file gets is decided by its first bytes alone, never by its name or history, so that the same bytes
 * have the same recipe, and with it the same name, everywhere.
 */
#pragma once

#include "chunker/fastcdc.h"

enum profile {
	PROFILE_NATIVE = 1, /* 16/64/256 KiB */
	PROFILE_FINE = 2,   /* 4/16/64 KiB: files that are edited in place (databases, archives, disk images) */
	PROFILE_REAPI = 3,  /* 128/512/2048 KiB: what REAPI clients use; only on that face, never from profile_for() */
};

/* No chunk of any profile is longer: what a buffer for one chunk must hold. */
#define PROFILE_CHUNK_MAX (2u << 20)
/* How many of a file's first bytes profile_for() may look at. */
#define PROFILE_HEAD_BYTES 262
/* A file up to this size is one blob, named by its own digest; a larger one is cut and has a recipe. */
#define PROFILE_WHOLE_MAX (64u << 10)
/* The same bound on the REAPI face: its clients cut only what is larger. */
#define PROFILE_REAPI_WHOLE_MAX (2u << 20)

/* The profile of a file that begins with `head`: all of the file, or its first PROFILE_HEAD_BYTES at least. */
enum profile profile_for(const uint8_t *head, size_t size);

/* The cuts of the profile with this number, seed 0; static. NULL when there is no such profile. */
const struct fastcdc *profile_fastcdc(uint32_t profile);

/* For people: "native", "fine", "reapi"; NULL when there is no such profile. */
const char *profile_name(uint32_t profile);
