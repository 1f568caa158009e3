/*
 * fsutil: what BuildKit's FileSync.DiffCopy (and its local exporter) sends: Packets, and the Stat of one entry.
 * Reading copies nothing: spans are borrowed from the message. Writing a packet whose payload comes last writes only
 * its head; the payload follows from where it lies.
 *
 *	sender   STAT stat, STAT stat, ...  STAT without a stat (no more entries)  DATA id bytes, ... DATA id ""  FIN
 *	receiver                 REQ id, REQ id, ... (at any time)                                    FIN
 *
 * An entry's id is its position among the STATs, from 0. A file's end is a DATA packet without data. ERR ends all.
 * Source: fsutil types/wire.proto, types/stat.proto, send.go, validator.go.
 */
#pragma once

#include "proto/message.h"

#define FSUTIL_HEAD_BYTES_MAX 16         /* of any head below, and of a packet that is nothing but its head */
#define FSUTIL_DATA_BYTES_MAX 32768      /* what fsutil puts into a DATA packet; readers here take any size */

enum fsutil_type {
	FSUTIL_STAT = 0,
	FSUTIL_REQ = 1,
	FSUTIL_DATA = 2,
	FSUTIL_FIN = 3,
	FSUTIL_ERR = 4,
};

struct fsutil_packet {
	uint32_t type;                   /* enum fsutil_type; what is not named there is for the other end to judge */
	uint32_t id;                     /* REQ, DATA */
	bool has_stat;                   /* STAT: false ends the entries */
	struct span stat;                /* for fsutil_stat_decode() */
	struct span data;                /* DATA: content. ERR: what went wrong, in words */
};

/*
 * False: malformed. Unknown fields are skipped and a scalar given twice counts as last given, as every reader does it;
 * a second stat is refused, since readers merge the two in ways of their own.
 */
bool fsutil_packet_decode(struct span message, struct fsutil_packet *packet);

/*
 * `part` begins a message of which `left` bytes come after it. True: a DATA packet with content, written as fsutil writes it, and
 * its whole head is here: all that follows is content, of which `data` is what the part brings. False: it may be one all the same.
 */
bool fsutil_data_begins(struct span part, size_t left, uint32_t *id, struct span *data);

/* Packets that are complete. `out` has FSUTIL_HEAD_BYTES_MAX; the size is returned. */
size_t fsutil_write_req(uint8_t *out, uint32_t id);
size_t fsutil_write_fin(uint8_t *out);
/* The end of the file `id`. The end of the entries has no writer: it is the empty message. */
size_t fsutil_write_data_end(uint8_t *out, uint32_t id);

/* The part of a packet before its payload, which follows with just that many bytes. A DATA packet has some. */
size_t fsutil_write_data_head(uint8_t *out, uint32_t id, size_t payload_bytes);
size_t fsutil_write_error_head(uint8_t *out, size_t payload_bytes);
size_t fsutil_write_stat_head(uint8_t *out, size_t payload_bytes);       /* the payload is an encoded Stat */

/* ---- the Stat of an entry ---- */

/* Mode bits are Go's os.FileMode, not st_mode; the low nine are the permissions. */
#define FSUTIL_MODE_DIRECTORY   (1u << 31)
#define FSUTIL_MODE_SYMLINK     (1u << 27)
#define FSUTIL_MODE_DEVICE      (1u << 26)
#define FSUTIL_MODE_FIFO        (1u << 25)
#define FSUTIL_MODE_SOCKET      (1u << 24)
#define FSUTIL_MODE_SETUID      (1u << 23)
#define FSUTIL_MODE_SETGID      (1u << 22)
#define FSUTIL_MODE_CHARACTER   (1u << 21)       /* with DEVICE */
#define FSUTIL_MODE_STICKY      (1u << 20)
#define FSUTIL_MODE_IRREGULAR   (1u << 19)
#define FSUTIL_MODE_PERMISSIONS 0777u
#define FSUTIL_MODE_TYPE                                                                                               \
	(FSUTIL_MODE_DIRECTORY | FSUTIL_MODE_SYMLINK | FSUTIL_MODE_DEVICE | FSUTIL_MODE_FIFO | FSUTIL_MODE_SOCKET |    \
	 FSUTIL_MODE_CHARACTER | FSUTIL_MODE_IRREGULAR)

#define FSUTIL_STAT_FIELD_XATTRS 10      /* stat.xattrs.number */

struct fsutil_stat {
	struct span path;                /* '/' between names, relative to the root; see fsutil_path_is_clean() */
	struct span linkname;            /* a symlink's target; of a regular entry: the earlier path that it links to */
	uint32_t mode, uid, gid;
	int64_t size, mod_time_ns;       /* what the peer says: either may be negative */
	int64_t device_major, device_minor;
	struct message_list xattrs;      /* a map from names to values: message_map_next() */
};

/* False: malformed, an xattr of it included. */
bool fsutil_stat_decode(struct span message, struct fsutil_stat *stat);
/* Appends the encoding, zero fields left out and in the order of their numbers: as fsutil writes it. */
void fsutil_stat_put(struct buffer *out, const struct fsutil_stat *stat);

/* A REQ may ask for it. A second name of a file is such an entry as well, but nobody asks: the receiver links. */
static inline bool fsutil_stat_is_regular(const struct fsutil_stat *stat)
{
	return (stat->mode & FSUTIL_MODE_TYPE) == 0;
}

/* A REQ for it makes sense: regular, and the first of its names. */
static inline bool fsutil_stat_has_data(const struct fsutil_stat *stat)
{
	return fsutil_stat_is_regular(stat) && stat->linkname.size == 0;
}

/* ---- paths ---- */

/* Relative, not empty, no NUL, and no empty, "." or ".." between its slashes: never leads out of the root. */
bool fsutil_path_is_clean(struct span path);
/* The order of STATs: bytewise, but '/' before every other byte, so that a directory is followed by all below it. */
int fsutil_path_compare(struct span a, struct span b);
