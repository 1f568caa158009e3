/*
 * sync: what the store makes durable outside its ring: the entries of its directories and two small files. Segments are
 * synced by ring_fdatasync(), the index by LMDB. Each place has a name, so that tests/sim can put an implementation of its
 * own here and let one place lie. Blocks; any thread.
 */
#pragma once

enum sync_site {
	SYNC_FORMAT,                     /* the file `format`, before it gets its name */
	SYNC_SCOPES,                     /* a line of `scopes`, before its number is used */
	SYNC_STORE_DIRECTORY,            /* the names of both, and of the index, at creation */
	SYNC_SEGMENT_FILE,               /* a new segment's size, before its name */
	SYNC_SEGMENT_DIRECTORY,          /* the name of a new segment, before it is written to */
	SYNC_SITES
};

/* Data and size of a file. 0 or -errno. */
int sync_file(enum sync_site site, int fd);
/* The entries of a directory. 0 or -errno. */
int sync_directory(enum sync_site site, int fd);
