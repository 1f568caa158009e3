package interop

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/tests/interop/fake"
)

// The archives of a tar export have the same files, times included.
func TestTarExport(t *testing.T) {
	t.Parallel()
	checkTarExport(t, shared(t))
}

func checkTarExport(t *testing.T, p *pair) {
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	oddTree(t, directory)
	lists := map[string]string{}
	for _, way := range ways {
		archive, unpacked := filepath.Join(t.TempDir(), "out.tar"), t.TempDir()
		p.home.MustRun(t, "buildx", "build", "--builder", way, "--output", "type=tar,dest="+archive, directory)
		if out, err := exec.Command("tar", "-xpf", archive, "-C", unpacked).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", way, err, out)
		}
		lists[way] = p.listing(t, unpacked)
	}
	if lists["sluice"] != lists["straight"] {
		t.Error(fake.FirstDifference(lists["sluice"], lists["straight"]))
	}
}

type metadata struct {
	Digest     string          `json:"containerimage.digest"`
	Ref        string          `json:"buildx.build.ref"`
	Provenance json.RawMessage `json:"buildx.build.provenance"`
}

func readMetadata(t *testing.T, path string) metadata {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m metadata
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// An image whose times are all set by SOURCE_DATE_EPOCH is the same to the last bit, and the tree below it whole.
func TestReproducibleImage(t *testing.T) {
	t.Parallel()
	checkReproducibleImage(t, shared(t))
}

func checkReproducibleImage(t *testing.T, p *pair) {
	directory := newContext(t, shell+"COPY src /src\nRUN cat /src/nonce > /made\n", nil)
	oddTree(t, directory)
	digests := map[string]string{}
	for _, way := range ways {
		folder := t.TempDir()
		archive, file := filepath.Join(folder, "out.tar"), filepath.Join(folder, "metadata.json")
		p.home.MustRun(t, "buildx", "build", "--builder", way, "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--metadata-file", file,
			"--output", "type=oci,rewrite-timestamp=true,dest="+archive, directory)
		digests[way] = readMetadata(t, file).Digest
		out, err := exec.Command("tar", "-tf", archive).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "index.json") {
			t.Errorf("%s: %v: %s", way, err, out)
		}
	}
	if digests["sluice"] != digests["straight"] || digests["sluice"] == "" {
		t.Errorf("image digests: %v", digests)
	}
}

// What a build exported as its cache one way is a hit in a build the other way, on a daemon that never saw it.
func TestCacheToAndFrom(t *testing.T) {
	t.Parallel()
	checkCacheToAndFrom(t, shared(t))
}

// To buildkitd an imported cache is a hint: what it cannot load it builds anew and says nothing. So each way has three tries, and
// one that failed is told with all that there is to see.
func checkCacheToAndFrom(t *testing.T, p *pair) {
	const tries = 3
	for i, from := range ways {
		to, told := ways[1-i], ""
		for range tries {
			if told = cacheIsMissed(t, p, from, to); told == "" {
				break
			}
			t.Log(told)
		}
		if told != "" {
			t.Errorf("exported by %s, imported by %s: missed %d times", from, to, tries)
		}
	}
}

// cacheIsMissed tells of a build whose steps were not all in the imported cache; empty: they were.
func cacheIsMissed(t *testing.T, p *pair, from, to string) string {
	t.Helper()
	directory := newContext(t, shell+"COPY src /src\nRUN cat /src/nonce > /made\n", nil)
	cache := filepath.Join(t.TempDir(), "cache")
	exported := p.home.MustRun(t, "buildx", "build", "--builder", from, "--progress", "rawjson", "--cache-to", "type=local,mode=max,dest="+cache,
		directory)
	imported := p.home.MustRun(t, "buildx", "build", "--builder", to, "--progress", "rawjson", "--cache-from", "type=local,src="+cache,
		"--output", "type=local,dest="+filepath.Join(t.TempDir(), "out"), directory)
	steps := strings.Join(stepsCached(imported), "\n")
	if !strings.Contains(steps, "cached=false") && strings.Contains(steps, "RUN cat") {
		return ""
	}
	return fmt.Sprintf("exported by %s, imported by %s:\n%s\nthe cache's files: %v\nthe export:\n%s\nthe import:\n%s%s", from, to, steps,
		fileSizes(cache), exported, imported, p.log())
}

func fileSizes(directory string) map[string]int64 {
	sizes := map[string]int64{}
	filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err == nil {
				sizes[path[len(directory):]] = info.Size()
			}
		}
		return nil
	})
	return sizes
}

// The metadata file tells the build's provenance: it is read from the daemon's history and content store after the build.
func TestMetadataWithProvenance(t *testing.T) {
	t.Parallel()
	p := shared(t)
	directory := newContext(t, shell+"COPY src /src\n", nil)
	home := *p.home
	home.Environment = []string{"BUILDX_METADATA_PROVENANCE=max"}
	told := map[string]string{}
	for _, way := range ways {
		file := filepath.Join(t.TempDir(), "metadata.json")
		home.MustRun(t, "buildx", "build", "--builder", way, "--metadata-file", file, "--provenance", "mode=max", directory)
		m := readMetadata(t, file)
		var provenance struct {
			BuildDefinition struct {
				BuildType          string
				ExternalParameters struct{ ConfigSource, Request json.RawMessage }
			} `json:"buildDefinition"`
			BuildType  string `json:"buildType"`
			Invocation json.RawMessage
		}
		if err := json.Unmarshal(m.Provenance, &provenance); err != nil {
			t.Fatalf("%s: %v: %s", way, err, m.Provenance)
		}
		told[way] = provenance.BuildType + provenance.BuildDefinition.BuildType +
			string(provenance.BuildDefinition.ExternalParameters.ConfigSource)
		if !strings.HasPrefix(m.Ref, way+"/") || len(told[way]) < 10 {
			t.Errorf("%s: %q, %s", way, m.Ref, m.Provenance)
		}
		// The same build is found in the daemon's history by that reference.
		reference := m.Ref[strings.LastIndex(m.Ref, "/")+1:]
		out := home.MustRun(t, "buildx", "history", "logs", "--builder", way, "--progress", "plain", reference)
		if !strings.Contains(out, "COPY busybox") {
			t.Errorf("%s: history logs: %s", way, out)
		}
	}
	if told["sluice"] != told["straight"] {
		t.Errorf("%q", told)
	}
}
