/* counters: the table, and its text form. */
#include "gateway/admin/counters.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "gateway/base/check.h"
#include "gateway/buildkit/buildkit.h"
#include "gateway/broker/diffcopy.h"
#include "gateway/play/play.h"
#include "gateway/buildkitd/executors.h"
#include "gateway/buildkitd/spawner.h"
#include "gateway/cas/cas.h"
#include "gateway/edge/channel.h"
#include "gateway/edge/giver.h"
#include "gateway/ledger/ledger.h"
#include "gateway/link/link_service.h"
#include "gateway/net/server.h"
#include "gateway/pool/execute.h"
#include "gateway/reapi/reapi.h"
#include "gateway/ring/ring.h"
#include "gateway/store/store.h"

#define MEMBER(source_, type_, member_) .source = (source_), .offset = offsetof(struct type_, member_), \
	.size = sizeof(((struct type_ *)NULL)->member_)
#define SERVER(member)  MEMBER(COUNTERS_SERVER, server_status, member)
#define RING(member)    MEMBER(COUNTERS_RING, ring_counters, member)
#define STORE(member)   MEMBER(COUNTERS_STORE, store_status, member)
#define CAS(member)     MEMBER(COUNTERS_CAS, cas_counters, member)
#define POOL(member)    MEMBER(COUNTERS_POOL, pool_status, member)
#define EXECUTE(member) MEMBER(COUNTERS_EXECUTE, execute_counters, member)
#define REAPI(member) MEMBER(COUNTERS_REAPI, reapi_counters, member)
#define BUILDKIT(member) MEMBER(COUNTERS_BUILDKIT, buildkit_status, member)
#define BROKER(member) MEMBER(COUNTERS_BROKER, diffcopy_counters, member)
#define PLAY(member) MEMBER(COUNTERS_PLAY, play_counters, member)
#define STABLE(member) MEMBER(COUNTERS_STABLE, stable_status, member)
#define STATS(member) MEMBER(COUNTERS_STATS, stat_memory_status, member)
#define LEDGER(member)  MEMBER(COUNTERS_LEDGER, ledger_status, member)
#define EXECUTORS(member) MEMBER(COUNTERS_EXECUTORS, executors_status, member)
#define SPAWNER(member) MEMBER(COUNTERS_SPAWNER, spawner_status, member)
#define CHANNELS(member) MEMBER(COUNTERS_CHANNELS, channels_counters, member)
#define GIVER(member) MEMBER(COUNTERS_GIVER, giver_counters, member)
#define LINKS(member) MEMBER(COUNTERS_LINKS, link_service_status, member)
#define PROCESS(member) MEMBER(COUNTERS_PROCESS, counters_process, member)

const struct counter counter_table[] = {
	/* connections */
	{ "sluice_connections", COUNTER_GAUGE, "connections", "open connections",
	  "near --connections new clients wait: raise it, or look for clients that never hang up",
	  SERVER(connections) },
	{ "sluice_connections_total", COUNTER_TOTAL, "connections", "connections accepted", NULL,
	  SERVER(connections_total) },
	{ "sluice_streams", COUNTER_GAUGE, "streams", "calls that are open", NULL, SERVER(streams) },
	{ "sluice_streams_total", COUNTER_TOTAL, "streams", "calls made", NULL, SERVER(streams_total) },
	{ "sluice_gathered_bytes", COUNTER_GAUGE, "bytes", "memory of messages that have not come whole",
	  "near 1 GiB calls are refused: look for clients that send long messages and stop in their middle", SERVER(gathered_bytes) },
	{ "sluice_messages_refused_total", COUNTER_TOTAL, "calls", "calls that ended as there was no room for their messages",
	  "fewer calls at a time, or shorter messages; the log has how much a connection had", SERVER(refused_messages) },
	{ "sluice_connections_refused_total", COUNTER_TOTAL, "connections", "connections turned away at the limit",
	  "raise --connections, or find out who opens so many", SERVER(refused_connections) },
	{ "sluice_handshake_failures_total", COUNTER_TOTAL, "connections", "TLS handshakes that failed",
	  "see the log for the reason: an expired or foreign certificate, or a client without TLS",
	  SERVER(handshake_failures) },
	{ "sluice_handshake_timeouts_total", COUNTER_TOTAL, "connections",
	  "connections that did not shake hands in time",
	  "port scanners and health checks do this; many from one address are an attack", SERVER(handshake_timeouts) },
	{ "sluice_idle_closed_total", COUNTER_TOTAL, "connections", "connections closed for being idle", NULL,
	  SERVER(idle_closed) },
	{ "sluice_stalls_total", COUNTER_TOTAL, "connections", "connections closed because the peer stopped in mid-frame",
	  "peers that take nothing or end nothing: broken links, or an attack", SERVER(stalls) },
	{ "sluice_protocol_faults_total", COUNTER_TOTAL, "faults",
	  "streams or connections reset for breaking HTTP/2 or gRPC",
	  "the log names peer and fault: an old client, a proxy between, or an attack", SERVER(protocol_faults) },
	{ "sluice_received_bytes_total", COUNTER_TOTAL, "bytes", "bytes received on all connections", NULL,
	  SERVER(bytes_received) },
	{ "sluice_sent_bytes_total", COUNTER_TOTAL, "bytes", "bytes sent on all connections", NULL,
	  SERVER(bytes_sent) },
	{ "sluice_copied_bytes_tls_received_total", COUNTER_TOTAL, "bytes", "ciphertext copied to be decrypted", NULL,
	  SERVER(copied_bytes_tls_received) },
	{ "sluice_copied_bytes_tls_sent_total", COUNTER_TOTAL, "bytes", "ciphertext copied to be sent", NULL,
	  SERVER(copied_bytes_tls_sent) },
	{ "sluice_copied_bytes_queued_total", COUNTER_TOTAL, "bytes", "payload copied into out-queues and frames", NULL,
	  SERVER(copied_bytes_queued) },
	{ "sluice_copied_bytes_gathered_total", COUNTER_TOTAL, "bytes", "cleartext gathered into records and sends", NULL,
	  SERVER(copied_bytes_gathered) },

	/* the loop */
	{ "sluice_ring_turns_total", COUNTER_TOTAL, "turns", "turns of the event loop", NULL, RING(turns) },
	{ "sluice_ring_completions_total", COUNTER_TOTAL, "completions", "completions reaped", NULL,
	  RING(completions) },
	{ "sluice_ring_receives_total", COUNTER_TOTAL, "operations", "receives that brought data", NULL,
	  RING(receives) },
	{ "sluice_ring_receives_multishot_total", COUNTER_TOTAL, "operations", "receives by a standing request", NULL,
	  RING(receive_multishot) },
	{ "sluice_ring_receives_bundle_total", COUNTER_TOTAL, "operations", "receives over several buffers at once",
	  NULL,
	  RING(receive_bundle) },
	{ "sluice_ring_receive_no_buffers_total", COUNTER_TOTAL, "operations", "receives that waited for a buffer",
	  "receiving outruns hashing and storing: see the disk and the CPU first", RING(receive_no_buffers) },
	{ "sluice_ring_gathered_total", COUNTER_TOTAL, "turns", "turns that waited a little for more of what came in small pieces", NULL,
	  RING(gathered) },
	{ "sluice_ring_sends_total", COUNTER_TOTAL, "operations", "sends started", NULL, RING(sends) },
	{ "sluice_ring_short_sends_total", COUNTER_TOTAL, "operations", "sends that sent only a part", NULL,
	  RING(short_sends) },
	{ "sluice_ring_writes_total", COUNTER_TOTAL, "operations", "file writes started", NULL, RING(writes) },
	{ "sluice_ring_writes_fixed_total", COUNTER_TOTAL, "operations", "file writes from registered memory",
	  NULL, RING(writes_fixed) },
	{ "sluice_ring_reads_total", COUNTER_TOTAL, "operations", "file reads started", NULL, RING(reads) },
	{ "sluice_ring_syncs_total", COUNTER_TOTAL, "operations", "fdatasyncs started", NULL, RING(syncs) },
	{ "sluice_ring_works_total", COUNTER_TOTAL, "operations", "jobs given to worker threads", NULL, RING(works) },
	{ "sluice_ring_posts_total", COUNTER_TOTAL, "messages", "messages from other threads", NULL, RING(posts) },
	{ "sluice_ring_cq_overflows_total", COUNTER_TOTAL, "turns", "turns that found the completion queue overrun",
	  "never expected: report it", RING(cq_overflows) },
	{ "sluice_ring_direct_accepts_total", COUNTER_TOTAL, "connections",
	  "connections accepted as direct descriptors", NULL,
	  RING(direct_accepts) },

	/* the store */
	{ "sluice_store_ceiling_bytes", COUNTER_GAUGE, "bytes", "most that the store may take", NULL,
	  STORE(ceiling_bytes) },
	{ "sluice_store_segment_bytes", COUNTER_GAUGE, "bytes", "size of one segment", NULL, STORE(segment_bytes) },
	{ "sluice_store_segments", COUNTER_GAUGE, "segments", "segments in use", NULL, STORE(segments_used) },
	{ "sluice_store_segments_max", COUNTER_GAUGE, "segments", "segments that fit under the ceiling", NULL,
	  STORE(segments_max) },
	{ "sluice_store_live_bytes", COUNTER_GAUGE, "bytes", "bytes of blobs that can be read", NULL,
	  STORE(bytes_live) },
	{ "sluice_store_index_bytes", COUNTER_GAUGE, "bytes", "size of the index", NULL, STORE(index_bytes) },
	{ "sluice_store_blobs", COUNTER_GAUGE, "blobs", "blobs that can be read", NULL, STORE(blobs) },
	{ "sluice_store_puts_total", COUNTER_TOTAL, "blobs", "blobs put", NULL, STORE(puts) },
	{ "sluice_store_puts_new_total", COUNTER_TOTAL, "blobs", "blobs put that were not there", NULL,
	  STORE(puts_new) },
	{ "sluice_store_put_bytes_total", COUNTER_TOTAL, "bytes", "bytes put", NULL, STORE(bytes_put) },
	{ "sluice_store_new_bytes_total", COUNTER_TOTAL, "bytes", "bytes put that were not there", NULL,
	  STORE(bytes_new) },
	{ "sluice_copied_bytes_slots_total", COUNTER_TOTAL, "bytes", "copied into write slots", NULL, STORE(copied_bytes_slots) },
	{ "sluice_copied_bytes_slots_read_total", COUNTER_TOTAL, "bytes", "read by copying from write slots", NULL,
	  STORE(copied_bytes_slots_read) },
	{ "sluice_store_reads_total", COUNTER_TOTAL, "blobs", "blobs read", NULL, STORE(reads) },
	{ "sluice_store_disk_reads_total", COUNTER_TOTAL, "reads", "reads of segments for them", NULL, STORE(disk_reads) },
	{ "sluice_store_read_bytes_total", COUNTER_TOTAL, "bytes", "bytes read", NULL, STORE(bytes_read) },
	{ "sluice_store_read_errors_total", COUNTER_TOTAL, "blobs", "blobs that the disk could not read",
	  "the disk is failing: look at the kernel log and SMART; those of bad places count as corrupt, too", STORE(read_errors) },
	{ "sluice_store_corrupt_total", COUNTER_TOTAL, "blobs", "blobs whose bytes on disk were wrong, now quarantined",
	  "the disk or its memory is failing: look at the kernel log and SMART, run `sluice fsck` when stopped",
	  STORE(corrupt) },
	{ "sluice_store_failed", COUNTER_GAUGE, "stores", "1 when the disk failed under the store: nothing is accepted any more",
	  "the log has what failed: mend the disk, run `sluice fsck`, and restart", STORE(failed) },
	{ "sluice_store_commits_total", COUNTER_TOTAL, "commits", "group commits of the index", NULL, STORE(commits) },
	{ "sluice_store_syncs_total", COUNTER_TOTAL, "operations", "waits for durability", NULL, STORE(syncs) },
	{ "sluice_store_evicted_segments_total", COUNTER_TOTAL, "segments",
	  "segments recycled to stay under the ceiling",
	  "when it grows fast, what is pushed does not stay long enough to be of use: raise the ceiling",
	  STORE(evicted_segments) },
	{ "sluice_store_evicted_blobs_total", COUNTER_TOTAL, "blobs", "blobs dropped with them", NULL,
	  STORE(evicted_blobs) },
	{ "sluice_store_moved_blobs_total", COUNTER_TOTAL, "blobs",
	  "pinned blobs copied out of a segment before it was recycled",
	  "much of the store is pinned: raise the ceiling or remove pins", STORE(moved_blobs) },
	{ "sluice_store_slot_waits_total", COUNTER_TOTAL, "waits", "puts that waited for a write slot",
	  "the disk is slower than the network: that is its limit", STORE(slots_waits) },
	{ "sluice_store_pending_blobs", COUNTER_GAUGE, "blobs", "blobs accepted and not yet durable", NULL,
	  STORE(pending_blobs) },
	{ "sluice_store_holds", COUNTER_GAUGE, "holds", "pushes, leases and pins that keep blobs from eviction", NULL,
	  STORE(holds) },
	{ "sluice_store_marks", COUNTER_GAUGE, "marks", "closure marks in the index, stale ones among them", NULL, STORE(marks) },
	{ "sluice_store_stale_marks_total", COUNTER_TOTAL, "marks", "closure marks that eviction made stale", NULL,
	  STORE(marks_stale) },
	{ "sluice_store_commit_seconds_max", COUNTER_GAUGE, "seconds", "longest group commit so far",
	  "over a second: the disk stalls; look at its queue", STORE(commit_ns_max), .nanoseconds = true },

	/* pushes and fetches */
	{ "sluice_pushes_total", COUNTER_TOTAL, "pushes", "pushes begun", NULL, CAS(pushes) },
	{ "sluice_pushes_unchanged_total", COUNTER_TOTAL, "pushes", "pushes of a root that was there whole", NULL,
	  CAS(pushes_unchanged) },
	{ "sluice_pushes_joined_total", COUNTER_TOTAL, "pushes", "pushes that waited for another of the same root", NULL,
	  CAS(pushes_joined) },
	{ "sluice_commits_total", COUNTER_TOTAL, "commits", "roots committed", NULL, CAS(commits) },
	{ "sluice_commits_refused_total", COUNTER_TOTAL, "commits",
	  "roots refused because something they name was missing",
	  "a client is broken, or the ceiling is too small for what is pushed at the same time", CAS(commits_refused) },
	{ "sluice_packs_total", COUNTER_TOTAL, "packs", "packed messages of blobs received", NULL, CAS(packs) },
	{ "sluice_blobs_received_total", COUNTER_TOTAL, "blobs", "blobs received and verified", NULL,
	  CAS(blobs_received) },
	{ "sluice_blobs_received_bytes_total", COUNTER_TOTAL, "bytes", "bytes of them, unpacked", NULL,
	  CAS(bytes_received) },
	{ "sluice_copied_bytes_ingest_total", COUNTER_TOTAL, "bytes", "of pushes, copied until they are whole blobs", NULL,
	  CAS(copied_bytes_ingest) },
	{ "sluice_blobs_rejected_total", COUNTER_TOTAL, "blobs", "blobs whose bytes did not have their digest",
	  "a client or a proxy garbles data: the log names the peer", CAS(blobs_rejected) },
	{ "sluice_deltas_received_total", COUNTER_TOTAL, "blobs", "blobs that came told by a base that the gateway has",
	  NULL, CAS(deltas_received) },
	{ "sluice_deltas_refused_total", COUNTER_TOTAL, "blobs", "of those that had to be sent whole, as a base was gone or not the caller's",
	  "many: the store evicts what clients still build upon; raise --ceiling", CAS(deltas_refused) },
	{ "sluice_blobs_promised_total", COUNTER_TOTAL, "blobs", "blobs that a push did not send as another was sending them",
	  NULL, CAS(blobs_promised) },
	{ "sluice_pushes_expired_total", COUNTER_TOTAL, "pushes", "pushes ended as nothing came for ten minutes",
	  "clients that were stopped, or are cut off", CAS(pushes_expired) },
	{ "sluice_fetches_total", COUNTER_TOTAL, "calls", "fetch calls", NULL, CAS(fetches) },
	{ "sluice_fetches_expired_total", COUNTER_TOTAL, "calls", "fetches ended as nothing was taken for two minutes, or asked for ten",
	  "clients that were stopped, or are cut off", CAS(fetches_expired) },
	{ "sluice_blobs_sent_total", COUNTER_TOTAL, "blobs", "blobs sent", NULL, CAS(blobs_sent) },
	{ "sluice_blobs_sent_bytes_total", COUNTER_TOTAL, "bytes", "bytes of them, unpacked", NULL, CAS(bytes_sent) },
	{ "sluice_copied_bytes_serve_total", COUNTER_TOTAL, "bytes", "of fetches, copied into messages", NULL,
	  CAS(copied_bytes_serve) },
	{ "sluice_blobs_missing_total", COUNTER_TOTAL, "blobs", "blobs asked for that were not there",
	  "roots are evicted before they are fetched: raise the ceiling, or pin them", CAS(blobs_missing) },
	{ "sluice_blobs_corrupt_total", COUNTER_TOTAL, "blobs", "blobs asked for that were found corrupt",
	  "as sluice_store_corrupt_total", CAS(blobs_corrupt) },

	/* actions */
	{ "sluice_slots", COUNTER_GAUGE, "slots",
	  "slots of the executor host; 0 of those that were asked for: the host or its OCI runtime is down", NULL, POOL(slots) },
	{ "sluice_slots_busy", COUNTER_GAUGE, "slots", "slots with an action in them", NULL, POOL(slots_busy) },
	{ "sluice_queue", COUNTER_GAUGE, "jobs", "actions that wait for a slot", "more slots, or another gateway",
	  POOL(queued) },
	{ "sluice_jobs_total", COUNTER_TOTAL, "jobs", "actions given to a slot", NULL, POOL(jobs_total) },
	{ "sluice_jobs_lost_total", COUNTER_TOTAL, "jobs", "actions whose slot died under them",
	  "look for the out-of-memory killer in the kernel log", POOL(jobs_lost) },
	{ "sluice_executions_total", COUNTER_TOTAL, "calls", "actions that were asked for", NULL, EXECUTE(executions) },
	{ "sluice_cache_hits_total", COUNTER_TOTAL, "calls", "actions answered from the cache", NULL, EXECUTE(cache_hits) },
	{ "sluice_cache_misses_total", COUNTER_TOTAL, "calls", "actions that had to run",
	  "fewer hits than expected: inputs, image or the host's packages change between runs", EXECUTE(cache_misses) },
	{ "sluice_executions_failed_total", COUNTER_TOTAL, "calls", "Execute calls that ended without a result",
	  "the callers were told why; many at once point to the executor host", EXECUTE(failures) },
	{ "sluice_executions_cancelled_total", COUNTER_TOTAL, "actions", "cancelled ones, and those whose callers all went away", NULL,
	  EXECUTE(cancelled) },
	{ "sluice_executions_joined_total", COUNTER_TOTAL, "calls", "Execute calls that joined an equal action under way", NULL,
	  EXECUTE(joined) },
	{ "sluice_executions_waited_total", COUNTER_TOTAL, "calls", "WaitExecution calls that found their operation",
	  "each was a broken connection: look for what breaks them", EXECUTE(waited) },

	/* REAPI's cache */
	{ "sluice_reapi_blobs_asked_total", COUNTER_TOTAL, "blobs", "blobs asked for by FindMissingBlobs", NULL, REAPI(blobs_asked) },
	{ "sluice_reapi_blobs_missing_total", COUNTER_TOTAL, "blobs", "of these, not there", NULL, REAPI(blobs_missing) },
	{ "sluice_reapi_uploads_total", COUNTER_TOTAL, "blobs", "blobs that clients began to send", NULL, REAPI(uploads) },
	{ "sluice_reapi_uploads_known_total", COUNTER_TOTAL, "blobs", "writes that ended early: the blob was there", NULL,
	  REAPI(uploads_known) },
	{ "sluice_reapi_uploads_refused_total", COUNTER_TOTAL, "blobs", "blobs that were refused",
	  "the clients were told why: wrong digests, a full store, or too many at a time", REAPI(uploads_refused) },
	{ "sluice_reapi_uploads_expired_total", COUNTER_TOTAL, "blobs", "writes that stopped coming, and broken ones given up",
	  "clients that die or links that break in mid-write", REAPI(uploads_expired) },
	{ "sluice_reapi_uploads_resumed_total", COUNTER_TOTAL, "blobs", "broken writes that were gone on with", NULL,
	  REAPI(uploads_resumed) },
	{ "sluice_reapi_received_bytes_total", COUNTER_TOTAL, "bytes", "bytes of blobs received", NULL, REAPI(bytes_received) },
	{ "sluice_reapi_downloads_total", COUNTER_TOTAL, "blobs", "blobs that clients asked to read", NULL, REAPI(downloads) },
	{ "sluice_reapi_sent_bytes_total", COUNTER_TOTAL, "bytes", "bytes of blobs sent", NULL, REAPI(bytes_sent) },
	{ "sluice_reapi_results_hit_total", COUNTER_TOTAL, "calls", "GetActionResult calls with a result", NULL,
	  REAPI(results_hit) },
	{ "sluice_reapi_results_missed_total", COUNTER_TOTAL, "calls", "GetActionResult calls without one",
	  "fewer hits than expected: inputs or environments differ between machines, or results were evicted",
	  REAPI(results_missed) },
	{ "sluice_reapi_results_stored_total", COUNTER_TOTAL, "calls", "action results that clients brought", NULL,
	  REAPI(results_stored) },
	{ "sluice_reapi_splits_total", COUNTER_TOTAL, "calls", "blobs split into their chunks", NULL, REAPI(splits) },
	{ "sluice_reapi_splices_total", COUNTER_TOTAL, "calls", "blobs put together from chunks", NULL, REAPI(splices) },
	{ "sluice_http_requests_total", COUNTER_TOTAL, "requests", "requests of HTTP cache clients", NULL,
	  REAPI(web_requests) },
	{ "sluice_http_refused_total", COUNTER_TOTAL, "requests", "of these, refused before their body: credential, right, path or length",
	  "the clients were told why", REAPI(web_refused) },

	/* calls of BuildKit's services */
	{ "sluice_bindings", COUNTER_GAUGE, "connections", "client connections that speak BuildKit's services", NULL,
	  BUILDKIT(bindings) },
	{ "sluice_builds", COUNTER_GAUGE, "builds", "builds that wait for an executor or run on one", NULL, BUILDKIT(builds) },
	{ "sluice_builds_total", COUNTER_TOTAL, "builds", "builds that were asked for", NULL, BUILDKIT(builds_total) },
	{ "sluice_builds_replayed_total", COUNTER_TOTAL, "builds", "times that a build went on at another buildkitd as its own was lost",
	  "look into buildkitd's log and the kernel's: did it crash, or was it killed?", BUILDKIT(replays_total) },
	{ "sluice_spooled_bytes", COUNTER_GAUGE, "bytes", "kept of contexts from stdin while their builds run, to replay them",
	  "at 1 GiB further builds with a context on stdin are not replayed", BUILDKIT(spooled_bytes) },
	{ "sluice_buildkit_calls", COUNTER_GAUGE, "calls", "open calls of BuildKit's services", NULL, BUILDKIT(calls) },
	{ "sluice_buildkit_calls_total", COUNTER_TOTAL, "calls", "calls of BuildKit's services", NULL, BUILDKIT(calls_total) },
	{ "sluice_buildkit_calls_lost_total", COUNTER_TOTAL, "calls", "of them, those whose executor was lost under them",
	  "look into buildkitd's log and the kernel's: did it crash, or was it killed?", BUILDKIT(calls_lost) },
	{ "sluice_contexts_total", COUNTER_TOTAL, "calls", "directories that executors asked clients for", NULL, BROKER(calls) },
	{ "sluice_context_files_fetched_total", COUNTER_TOTAL, "files", "files that clients were asked for", NULL,
	  BROKER(files_fetched) },
	{ "sluice_context_files_played_total", COUNTER_TOTAL, "files", "files that executors had from the store", NULL,
	  BROKER(files_played) },
	{ "sluice_context_files_joined_total", COUNTER_TOTAL, "files", "files that waited for another build's fetch", NULL,
	  BROKER(files_joined) },
	{ "sluice_context_files_deferred_total", COUNTER_TOTAL, "files",
	  "files of which a part went by the store as the executor did not keep up",
	  "executors are slow to take contexts: look at their disks", BROKER(files_deferred) },
	{ "sluice_context_bytes_from_clients_total", COUNTER_TOTAL, "bytes", "file content that clients sent", NULL,
	  BROKER(bytes_from_client) },
	{ "sluice_context_bytes_from_store_total", COUNTER_TOTAL, "bytes", "file content that came from the store", NULL,
	  BROKER(bytes_from_store) },
	{ "sluice_context_bytes_to_executors_total", COUNTER_TOTAL, "bytes", "file content that executors were given", NULL,
	  BROKER(bytes_to_executor) },
	{ "sluice_copied_bytes_broker_total", COUNTER_TOTAL, "bytes",
	  "bytes copied in memory between the two calls of a context, and on their way to the store", NULL,
	  BROKER(copied_bytes_broker) },
	{ "sluice_copied_bytes_session_total", COUNTER_TOTAL, "bytes",
	  "bytes copied in memory around the messages that carry a session", NULL, BROKER(copied_bytes_session) },
	{ "sluice_plays_total", COUNTER_TOTAL, "calls", "directories that were asked of edges, by content", NULL, PLAY(plays) },
	{ "sluice_plays_ahead_total", COUNTER_TOTAL, "calls", "of them, those that began while the edge still read and sent", NULL,
	  PLAY(plays_ahead) },
	{ "sluice_plays_same_total", COUNTER_TOTAL, "calls",
	  "of them, those that began with the root of the last time while the client still listed", NULL, PLAY(plays_same) },
	{ "sluice_play_files_ahead_total", COUNTER_TOTAL, "files", "files that executors had whole before the edge was done", NULL,
	  PLAY(files_ahead) },
	{ "sluice_plays_unfit_total", COUNTER_TOTAL, "calls", "of them, those that were carried as if there were no edge",
	  "the log says why: a tree cannot hold the context, or its edge fails", PLAY(unfit) },
	{ "sluice_plays_repaired_total", COUNTER_TOTAL, "times", "times that the store lost a part while it was played",
	  "look for corrupt blobs; a disk that fails loses them", PLAY(repairs) },
	{ "sluice_stable_lineages", COUNTER_GAUGE, "directories", "directories that go by stable keys", NULL, STABLE(lineages) },
	{ "sluice_stable_lineages_loaded", COUNTER_GAUGE, "directories", "of them, those whose claims are in memory", NULL,
	  STABLE(loaded) },
	{ "sluice_stable_claims", COUNTER_GAUGE, "claims", "claims that they hold", NULL, STABLE(claims) },
	{ "sluice_stable_damaged_total", COUNTER_TOTAL, "directories", "directories whose claims were lost or damaged",
	  "executors got their contexts anew; if it goes on, check the disk", STABLE(damaged) },
	{ "sluice_stable_writes_failed_total", COUNTER_TOTAL, "writes", "claims that could not be written",
	  "the log says why; the builds concerned were told to start again", STABLE(writes_failed) },
	{ "sluice_stat_tables", COUNTER_GAUGE, "tables", "directories of clients that are remembered in memory", NULL, STATS(tables) },
	{ "sluice_stat_tables_used", COUNTER_GAUGE, "tables", "of them, those that builds use now", NULL, STATS(tables_used) },
	{ "sluice_stat_entries", COUNTER_GAUGE, "files", "files that they know", NULL, STATS(entries) },
	{ "sluice_stat_memory_bytes", COUNTER_GAUGE, "bytes", "memory that they take", NULL, STATS(memory_bytes) },
	{ "sluice_stat_mapped_bytes", COUNTER_GAUGE, "bytes", "mapped files that they take", NULL, STATS(mapped_bytes) },
	{ "sluice_stat_loads_total", COUNTER_TOTAL, "tables", "tables that were looked for on disk", NULL, STATS(loads) },
	{ "sluice_stat_loads_refused_total", COUNTER_TOTAL, "tables", "of them, those whose file was damaged or of another version",
	  "their contexts are asked of the clients once more; if it goes on, check the disk", STATS(loads_refused) },
	{ "sluice_stat_saves_total", COUNTER_TOTAL, "tables", "tables that were written", NULL, STATS(saves) },
	{ "sluice_stat_saves_failed_total", COUNTER_TOTAL, "tables", "tables that could not be written",
	  "the log says why; after a restart their contexts are asked of the clients once more", STATS(saves_failed) },
	{ "sluice_stat_claims", COUNTER_GAUGE, "files", "files that are being fetched now", NULL, STATS(claims) },
	{ "sluice_stat_claims_waiting", COUNTER_GAUGE, "files", "files that wait for another build's fetch now", NULL,
	  STATS(claims_waiting) },
	{ "sluice_stat_dropped_total", COUNTER_TOTAL, "files", "files that were forgotten as a table was full", NULL, STATS(dropped) },

	/* the account */
	{ "sluice_ledger_lines_written_total", COUNTER_TOTAL, "lines", "builds written to the account", NULL,
	  LEDGER(lines_written) },
	{ "sluice_ledger_lines_dropped_total", COUNTER_TOTAL, "lines", "builds that are missing from the account",
	  "too many waited to be written: the log says what the ledger's disk refused", LEDGER(lines_dropped) },
	{ "sluice_ledger_lines_waiting", COUNTER_GAUGE, "lines", "builds that wait to be written to the account",
	  "when it stays high, the disk refuses or is too slow: see the log", LEDGER(lines_waiting) },
	{ "sluice_ledger_lines_deleted_total", COUNTER_TOTAL, "lines", "builds deleted from the account for their age", NULL,
	  LEDGER(lines_deleted) },
	{ "sluice_ledger_errors_total", COUNTER_TOTAL, "operations", "reads and writes of the ledger that failed",
	  "the log says why: a full or failing disk, a damaged file, or somebody who keeps it locked", LEDGER(errors) },
	/* the pool of buildkitd */
	{ "sluice_executors", COUNTER_GAUGE, "executors", "buildkitd in the pool, in whatever state", NULL,
	  EXECUTORS(executors) },
	{ "sluice_executors_ready", COUNTER_GAUGE, "executors", "buildkitd that may be lent",
	  "fewer than there are: the log says why each of the others is not ready", EXECUTORS(executors_ready) },
	{ "sluice_executors_lost_total", COUNTER_TOTAL, "executors", "times that a ready buildkitd was lost",
	  "look into buildkitd's log and the kernel's: did it crash, was it killed, or is the network broken?",
	  EXECUTORS(executors_lost) },
	{ "sluice_executor_slots", COUNTER_GAUGE, "slots", "builds that the ready ones take at a time", NULL,
	  EXECUTORS(slots) },
	{ "sluice_executor_slots_busy", COUNTER_GAUGE, "slots", "slots that are lent",
	  "as many as there are, and leases wait: more executors, or more slots", EXECUTORS(slots_busy) },
	{ "sluice_leases_waiting", COUNTER_GAUGE, "leases", "connections that wait for a buildkitd",
	  "more executors or slots for the tenants that wait", EXECUTORS(waiting) },
	{ "sluice_leases_total", COUNTER_TOTAL, "leases", "leases granted", NULL, EXECUTORS(leases_total) },
	{ "sluice_leases_refused_total", COUNTER_TOTAL, "leases", "leases refused: no executor, queue full, or waited too long",
	  "clients were told why; more executors or slots, or look why those that are there are not ready",
	  EXECUTORS(leases_refused) },

	/* buildkitd that are started here */
	{ "sluice_spawned", COUNTER_GAUGE, "executors", "buildkitd processes of the executor host", NULL, SPAWNER(daemons) },
	{ "sluice_spawned_starting", COUNTER_GAUGE, "executors", "of them, those that do not listen yet",
	  "when it stays above 0, starting is slow: look at the disk, and at what is logged with --log-level debug",
	  SPAWNER(starting) },
	{ "sluice_spawned_total", COUNTER_TOTAL, "executors", "times that one was started", NULL, SPAWNER(started_total) },
	{ "sluice_spawned_died_total", COUNTER_TOTAL, "executors", "times that one could not be started or ended by itself",
	  "the log says why; `sluice doctor` what is missing", SPAWNER(died_total) },
	{ "sluice_spawned_idle_stopped_total", COUNTER_TOTAL, "executors", "times that one was stopped for being idle",
	  "when it grows as fast as those started, builds come seldomer than --spawn-idle: raise it, or keep some warm",
	  SPAWNER(idle_stopped_total) },

	/* an edge */
	{ "sluice_edge_calls_total", COUNTER_TOTAL, "calls", "calls of buildx that the edge carried to its gateway", NULL,
	  CHANNELS(calls) },
	{ "sluice_edge_sessions_total", COUNTER_TOTAL, "calls", "build sessions among them", NULL, CHANNELS(sessions) },
	{ "sluice_edge_calls_lost_total", COUNTER_TOTAL, "calls", "calls that ended with their connection to the gateway",
	  "the log says why: the gateway was restarted, or the network between breaks connections", CHANNELS(calls_lost) },
	{ "sluice_edge_contexts_total", COUNTER_TOTAL, "contexts", "contexts that the gateway asked the edge for by content", NULL,
	  GIVER(gives) },
	{ "sluice_edge_contexts_unchanged_total", COUNTER_TOTAL, "contexts", "of them, those of which nothing was sent but the root",
	  NULL, GIVER(gives_unchanged) },
	{ "sluice_edge_contexts_unfit_total", COUNTER_TOTAL, "contexts", "of them, those that went file by file as without an edge",
	  "the log says why: foreign xattrs, owners, a full store", GIVER(gives_unfit) },
	{ "sluice_edge_entries_total", COUNTER_TOTAL, "entries", "files and directories that buildx listed", NULL, GIVER(entries) },
	{ "sluice_edge_files_read_total", COUNTER_TOTAL, "files", "files that were read, as their contents were not known", NULL,
	  GIVER(files_read) },
	{ "sluice_edge_read_bytes_total", COUNTER_TOTAL, "bytes", "bytes of them", NULL, GIVER(bytes_read) },
	{ "sluice_edge_sent_bytes_total", COUNTER_TOTAL, "bytes", "bytes of packs that were pushed to the gateway", NULL,
	  GIVER(bytes_sent) },
	{ "sluice_edge_blobs_asked_total", COUNTER_TOTAL, "blobs", "names of contents that the gateway was asked about, 36 bytes each",
	  "beyond what is sent: edges learn by asking what others pushed before them", GIVER(blobs_asked) },
	{ "sluice_edge_files_read_again_total", COUNTER_TOTAL, "files", "files that were read again, as the edge's store had lost them",
	  "the edge's store is too small for what is built: raise --ceiling", GIVER(files_read_again) },
	{ "sluice_edge_files_urged_total", COUNTER_TOTAL, "files", "files that executors waited for, and that were read and sent first",
	  NULL, GIVER(files_urged) },
	{ "sluice_edge_pushes_again_total", COUNTER_TOTAL, "pushes", "pushes that began again",
	  "connections to the gateway break, or its store evicts what was just pushed", GIVER(pushes_again) },
	/* links */
	{ "sluice_links", COUNTER_GAUGE, "links", "links that are kept, with or without a connection", NULL, LINKS(links) },
	{ "sluice_link_paths", COUNTER_GAUGE, "connections", "connections that carry links", NULL, LINKS(paths) },
	{ "sluice_link_channels", COUNTER_GAUGE, "channels", "channels of links that are open; each counts as a connection, too",
	  NULL, LINKS(channels) },
	{ "sluice_links_total", COUNTER_TOTAL, "links", "links made", NULL, LINKS(links_total) },
	{ "sluice_links_refused_total", COUNTER_TOTAL, "links", "calls for a link that were turned away",
	  "links that are not known, after a restart or with another credential; or too many of them", LINKS(links_refused) },
	{ "sluice_links_expired_total", COUNTER_TOTAL, "links", "links that had no connection for --link-timeout",
	  "clients vanish, or networks fail for longer than that: raise it", LINKS(links_expired) },
	{ "sluice_links_broken_total", COUNTER_TOTAL, "links", "links that were ended for breaking the rules",
	  "the log names the peer: an attack, or memory ran out", LINKS(links_broken) },
	{ "sluice_link_resumes_total", COUNTER_TOTAL, "links", "times that a link without a connection came back",
	  "an unsteady network: builds go on, later", LINKS(resumes) },
	{ "sluice_link_paths_total", COUNTER_TOTAL, "connections", "connections that carried links", NULL, LINKS(paths_total) },
	{ "sluice_link_paths_lost_total", COUNTER_TOTAL, "connections", "of these, lost in mid-link",
	  "an unsteady network, or a proxy between that cuts long connections", LINKS(paths_lost) },
	{ "sluice_link_channels_total", COUNTER_TOTAL, "channels", "channels opened", NULL, LINKS(channels_total) },
	{ "sluice_link_sent_bytes_total", COUNTER_TOTAL, "bytes", "bytes of channels sent to clients, each counted once", NULL,
	  LINKS(bytes_sent) },
	{ "sluice_link_received_bytes_total", COUNTER_TOTAL, "bytes", "bytes of channels received, each counted once", NULL,
	  LINKS(bytes_received) },
	{ "sluice_link_resent_bytes_total", COUNTER_TOTAL, "bytes", "bytes of channels sent again after a connection was lost", NULL,
	  LINKS(bytes_resent) },
	{ "sluice_link_duplicate_bytes_total", COUNTER_TOTAL, "bytes", "bytes of channels that came twice and were dropped", NULL,
	  LINKS(bytes_duplicate) },

	/* the process */
	{ "sluice_resident_bytes", COUNTER_GAUGE, "bytes", "resident memory of the gateway process",
	  "bounded by design: when it keeps growing, report it", PROCESS(resident_bytes) },
	{ "sluice_open_files", COUNTER_GAUGE, "files", "open file descriptors", "near LimitNOFILE: raise it",
	  PROCESS(open_files) },
	{ "sluice_cpu_seconds_total", COUNTER_TOTAL, "seconds", "CPU time of the gateway process", NULL,
	  PROCESS(cpu_ns),
	  .nanoseconds = true },
};

const size_t counter_count = sizeof(counter_table) / sizeof(counter_table[0]);

_Static_assert(sizeof(counter_table) / sizeof(counter_table[0]) <= COUNTERS_MAX, "room for all");

static uint64_t member(const struct counter *counter, const void *status)
{
	const unsigned char *at = (const unsigned char *)status + counter->offset;
	uint64_t wide;
	uint32_t narrow;

	if (counter->size == sizeof(narrow)) {
		memcpy(&narrow, at, sizeof(narrow));
		return narrow;
	}
	CHECK(counter->size == sizeof(wide));
	memcpy(&wide, at, sizeof(wide));
	return wide;
}

void counters_read(struct counter_values *values, enum counter_source source, const void *status)
{
	for (size_t i = 0; i < counter_count; i++)
		if (counter_table[i].source == source)
			values->values[i] = member(&counter_table[i], status);
}

uint64_t counters_value(const struct counter_values *values, const char *name)
{
	for (size_t i = 0; i < counter_count; i++)
		if (strcmp(counter_table[i].name, name) == 0)
			return values->values[i];
	return UINT64_MAX;
}

static void read_resident_bytes(uint64_t *bytes)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long long all, resident;

	if (!file)
		return;
	if (fscanf(file, "%llu %llu", &all, &resident) == 2)
		*bytes = resident * (uint64_t)sysconf(_SC_PAGESIZE);
	fclose(file);
}

static void read_open_files(uint64_t *files)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	struct rlimit limit;
	uint64_t count = 0;

	/* That there is none left to count with is itself a count: all that may be are open. */
	if (!dir && errno == EMFILE && getrlimit(RLIMIT_NOFILE, &limit) == 0)
		*files = limit.rlim_cur;
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	*files = count ? count - 1 : 0;  /* the directory's own */
}

void counters_process(struct counters_process *process)
{
	struct timespec cpu = { 0 };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	read_resident_bytes(&process->resident_bytes);
	read_open_files(&process->open_files);
	process->cpu_ns = (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec;
}

static void write_number(FILE *file, uint64_t value, bool nanoseconds)
{
	if (nanoseconds)
		fprintf(file, "%" PRIu64 ".%09" PRIu64 "\n", value / 1000000000, value % 1000000000);
	else
		fprintf(file, "%" PRIu64 "\n", value);
}

void counters_write(const struct counter_values *values, FILE *file)
{
	for (size_t i = 0; i < counter_count; i++) {
		const struct counter *counter = &counter_table[i];

		fprintf(file, "# HELP %s %s (%s)%s%s\n", counter->name, counter->meaning, counter->unit,
		        counter->advice ? ". When it grows: " : "", counter->advice ? counter->advice : "");
		fprintf(file, "# TYPE %s %s\n%s ", counter->name, counter->type == COUNTER_GAUGE ? "gauge" : "counter",
		        counter->name);
		write_number(file, values->values[i], counter->nanoseconds);
	}
}
