/*
 * manifest_source: a scanned directory as what an uploader sends. Packs are read and checked on the ring's workers, side by
 * side with what the ring's thread encrypts and sends; small ones at once.
 *
 * On the ring's thread.
 */
#pragma once

#include "gateway/context/manifest.h"
#include "gateway/ring/ring.h"
#include "gateway/upload/uploader.h"

struct manifest_reading {                /* of one pack, by a worker */
	struct op work;
	struct manifest_source *source;
	struct blob_reader *reader;      /* NULL: not needed so far */
	struct uploader_read *read;      /* NULL: free */
};

struct manifest_source {
	struct uploader_source source;
	struct ring *ring;
	struct manifest *manifest;
	struct span gateway_id;
	struct manifest_reading readings[UPLOADER_PACKS_MAX];
};

/* All are borrowed. `assume`: as uploader_source.assume. */
void manifest_source_init(struct manifest_source *source, struct ring *ring, struct manifest *manifest, struct span gateway_id,
                          bool assume);
/* After on_closed of the uploader. */
void manifest_source_fini(struct manifest_source *source);
