package interop

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

func digest(content []byte) []byte {
	sum := sha256.Sum256(content)
	return sum[:8]
}

// comparison is one kind of build that is done both ways, each twice, each on a daemon that does not know it.
type comparison struct {
	name       string
	dockerfile string
	contents   files
	prepare    func(t *testing.T, directory string)
	// arguments of `buildx build`, besides the context.
	arguments func(t *testing.T, directory string) []string
	// wanted in the listing of the result, unwanted not.
	wanted, unwanted []string
}

func (c *comparison) run(t *testing.T, p *pair) {
	directory := newContext(t, c.dockerfile, c.contents)
	if c.prepare != nil {
		c.prepare(t, directory)
	}
	arguments := []string{}
	if c.arguments != nil {
		arguments = c.arguments(t, directory)
	}
	lists, steps := map[string]string{}, map[string]string{}
	for _, way := range ways {
		build := func(destination string) string {
			all := append([]string{"build", "--builder", way, "--progress", "rawjson", "--output", "type=local,dest=" + destination},
				arguments...)
			out, err := p.home.Run("buildx", append(all, directory)...)
			if err != nil {
				t.Fatalf("%s: %v\n%s%s", way, err, out, p.log())
			}
			return out
		}
		first, second := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
		cold := stepsCached(build(first))
		warm := stepsCached(build(second))
		lists[way] = p.listing(t, first)
		if again := p.listing(t, second); again != lists[way] {
			t.Errorf("%s: the second build made another tree:\n%s", way, fake.FirstDifference(again, lists[way]))
		}
		steps[way] = strings.Join(append(append([]string{"first:"}, cold...), append([]string{"second:"}, warm...)...), "\n")
	}
	if lists["sluice"] != lists["straight"] {
		t.Errorf("the trees differ:\n%s", fake.FirstDifference(lists["sluice"], lists["straight"]))
	}
	if steps["sluice"] != steps["straight"] {
		t.Errorf("the cache was hit otherwise: through sluice\n%s\nstraight\n%s", steps["sluice"], steps["straight"])
	}
	if !strings.Contains(steps["sluice"], "cached=true") {
		t.Errorf("nothing was cached the second time: %s", steps["sluice"])
	}
	for _, text := range c.wanted {
		if !strings.Contains(lists["sluice"], text) {
			t.Errorf("%s is not there:\n%s", text, lists["sluice"])
		}
	}
	for _, text := range c.unwanted {
		if strings.Contains(lists["sluice"], text) {
			t.Errorf("%s is there:\n%s", text, lists["sluice"])
		}
	}
}

var comparisons = []comparison{
	{name: "COPY", dockerfile: "FROM scratch\nCOPY src /src\n", prepare: oddTree,
		wanted: []string{`"/src/hard"`, `"/src/with space/ä"`, `"/src/sparse" -rw------- 30000000`, `xattr "kept"`, `"/src/dangling"`}},
	{name: "COPY of all", dockerfile: "FROM scratch\nCOPY . /src/\n", contents: files{"a/b/c": "x", "a.b": "y", "a/": ""},
		wanted: []string{`"/src/Dockerfile"`, `"/src/a/b/c"`}},
	{name: "RUN", dockerfile: shell + "COPY src /src\nRUN cat /src/nonce > /made && ls /src | wc -l >> /made\n",
		wanted: []string{`"/made"`}},
	{name: "several stages", dockerfile: shell + `FROM base AS builder
COPY src /src
RUN cat /src/nonce /src/nonce > /product
FROM scratch
COPY --from=builder /product /
COPY src /src
`, wanted: []string{`"/product"`}, unwanted: []string{`"/bin/busybox"`}},
	{name: ".dockerignore", dockerfile: "FROM scratch\nCOPY src /src\n",
		contents: files{".dockerignore": "src/secret*\n**/*.o\n!src/keep.o\n", "src/secret.txt": "no", "src/a.o": "no", "src/keep.o": "yes"},
		wanted:   []string{`"/src/keep.o"`}, unwanted: []string{"secret", "a.o"}},
	{name: "Dockerfile.dockerignore", dockerfile: "FROM scratch\nCOPY src /src\n",
		contents: files{".dockerignore": "src/b\n", "Dockerfile.dockerignore": "src/a\n", "src/a": "no", "src/b": "yes"},
		wanted:   []string{`"/src/b"`}, unwanted: []string{`"/src/a"`}},
	{name: "named context", dockerfile: "FROM scratch\nCOPY src /src\nCOPY --from=other /x /src/x\n",
		arguments: func(t *testing.T, directory string) []string {
			other := filepath.Join(rig.Directory(t), "other")
			putFiles(t, other, files{"x": "from the other", "y": "not asked for"})
			return []string{"--build-context", "other=" + other}
		}, wanted: []string{`"/src/x"`}},
	{name: "secret", dockerfile: shell + "RUN --mount=type=secret,id=token,required cat /run/secrets/token > /told && cat /told\nCOPY src /src\n",
		arguments: func(t *testing.T, directory string) []string {
			secret := filepath.Join(rig.Directory(t), "secret")
			putFiles(t, filepath.Dir(secret), files{"secret": "hush"})
			return []string{"--secret", "id=token,src=" + secret}
		}, wanted: []string{fmt.Sprintf(`"/told" -rw-r--r-- 4 %x`, digest([]byte("hush")))}},
	{name: "build argument and target", dockerfile: shell + "ARG WHO\nRUN echo $WHO > /who\nFROM base AS unused\nRUN exit 1\n",
		arguments: func(*testing.T, string) []string { return []string{"--build-arg", "WHO=me", "--target", "base"} },
		wanted:    []string{`"/who"`}},
	{name: "another Dockerfile", dockerfile: "FROM nothing-like-it\n", contents: files{"sub/Other": "FROM scratch\nCOPY src /src\n"},
		arguments: func(t *testing.T, directory string) []string {
			return []string{"-f", filepath.Join(directory, "sub/Other")}
		},
		wanted: []string{`"/src/nonce"`}},
}

// Each kind of build makes the same files, with the same times, through the gateway as straight, and hits the cache the
// same way the second time.
func TestBuildsAreTheSame(t *testing.T) {
	t.Parallel()
	p := shared(t)
	for _, c := range comparisons {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, p)
		})
	}
}

// A failing step: the same message, the same exit code.
func TestFailingStep(t *testing.T) {
	t.Parallel()
	checkFailingStep(t, shared(t))
}

func checkFailingStep(t *testing.T, p *pair) {
	directory := newContext(t, shell+"RUN echo going wrong >&2; exit 7\n", nil)
	messages, codes := map[string]string{}, map[string]int{}
	for _, way := range ways {
		out, err := p.home.Run("buildx", "build", "--builder", way, "--progress", "plain", directory)
		codes[way] = rig.ExitCode(err)
		if at := strings.Index(out, "ERROR: failed to build"); at >= 0 {
			messages[way] = out[at:]
		}
	}
	if messages["sluice"] != messages["straight"] || !strings.Contains(messages["sluice"], "exit code: 7") {
		t.Errorf("%q", messages)
	}
	if codes["sluice"] != codes["straight"] || codes["sluice"] != 1 {
		t.Errorf("exit codes %v", codes)
	}
}

// A Dockerfile that cannot be: the daemon's own message, with its source lines.
func TestBrokenDockerfile(t *testing.T) {
	t.Parallel()
	p := shared(t)
	directory := newContext(t, "FROM scratch\nCOPY nowhere /\n", nil)
	messages := map[string]string{}
	for _, way := range ways {
		out, err := p.home.Run("buildx", "build", "--builder", way, "--progress", "quiet", directory)
		if rig.ExitCode(err) != 1 {
			t.Errorf("%s: %v", way, err)
		}
		// A reference in it is random.
		messages[way] = out[max(0, strings.LastIndex(out, `"/nowhere"`)):]
	}
	if messages["sluice"] != messages["straight"] || !strings.Contains(messages["sluice"], "nowhere") {
		t.Errorf("%q", messages)
	}
}
