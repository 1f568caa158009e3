/*
 * download: a source (source.h) of blobs from a gateway, over sluice.v1.Store/Fetch. Digests are checked here.
 */
#pragma once

#include "gateway/client/client.h"
#include "gateway/context/source.h"

struct download;

/* 0 or -errno with `why`. A call stays open for the download's life; another one, when the gateway ended it as it was silent. */
int download_create(struct download **download, struct client *client, char *why, size_t why_size);
void download_destroy(struct download *download);
struct source *download_source(struct download *download);
/* Blob bytes received so far, uncompressed. */
uint64_t download_bytes(const struct download *download);
/* The status with which the gateway ended the call, when a fetch failed for that reason; GRPC_OK otherwise. */
enum grpc_status download_status(const struct download *download);
