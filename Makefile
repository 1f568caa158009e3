# A thin front to meson and scripts/; `make help` lists what there is.
BUILD = build
# For .ci/run: --no-skips, and logs of what ran before.
TEST_FLAGS =

help:
	@echo 'make demo      install what is missing, build, and show a push, an edit, a run and a cached run'
	@echo 'make test      install what is missing, build, and run every test suite'
	@echo 'make build     compile into build/'
	@echo 'make accept    the acceptance table on a large tree (half an hour, 10 GB below /var/tmp)'
	@echo 'make interop   real buildkitd, buildctl and buildx through the gateway (wants Go 1.26; builds them at first)'
	@echo 'make bench     all of perf/, with tables, perf/results/*.json and the charts of docs/performance.md (hours; a quiet machine)'
	@echo 'make charts    docs/performance.md and its pictures anew, from perf/results/'
	@echo 'make bench-buildkit  what stock builds cost through the gateway, as a table (an hour; wants a quiet machine)'
	@echo 'make bench-edge  what builds through an edge cost over shaped lines (hours; wants a quiet machine)'
	@echo 'make soak      the long loops'
	@echo 'make install   into PREFIX (default /usr/local)'
	@echo 'make clean     remove the build directories'

deps:
	@scripts/deps

build: deps
	@scripts/build $(BUILD)

demo: deps
	@TARGETS=program scripts/build $(BUILD)
	@scripts/demo $(BUILD)/gateway/cmd/sluice

test: deps
	@scripts/test $(TEST_FLAGS)

accept: build
	@scripts/build $(BUILD)-sanitize -Db_sanitize=address,undefined -Db_lundef=false
	@ACCEPT=full python3 tests/e2e/run.py --binary $(BUILD)/gateway/cmd/sluice --table

interop: build
	@scripts/interop $(BUILD)/gateway/cmd/sluice $(BUILD)/interop

bench: build
	@scripts/bench $(BUILD)

charts:
	@cd perf && go run ./charts --results results --into ../docs

bench-buildkit: build
	@perf/buildkit/run $(BUILD)/gateway/cmd/sluice $(BUILD)/interop

bench-edge: build
	@perf/edge/run $(BUILD)/gateway/cmd/sluice $(BUILD)/interop

soak: build
	@ACCEPT=soak python3 tests/e2e/run.py --binary $(BUILD)/gateway/cmd/sluice --table soak kill memory
	@INTEROP=soak scripts/interop $(BUILD)/gateway/cmd/sluice $(BUILD)/interop

install: build
	@meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-sanitize build-clang build-clang-sanitize build-fuzz

.PHONY: help deps build demo test accept interop bench charts bench-buildkit bench-edge soak install clean
