package interop

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// What a build without new content may send: entries, names, the calls themselves.
const callsBytesMax = 64 << 10

// Parts of one directory, as daemons ask for them: what .dockerignore names is excluded, what COPY names is followed.
var parts = map[string]fake.Sync{
	"all but d1":       {Exclude: []string{"d1"}},
	"some directories": {Include: []string{"d2*", "d30/f30"}},
	"all but several":  {Exclude: []string{"d1", "d3*", "**/f7"}},
	"one of them":      {Exclude: []string{"*", "!d5"}},
	"what COPY names":  {Follow: []string{"d40", "d41/f41", "d42"}},
	"of both kinds":    {Include: []string{"d4*", "d1*"}, Exclude: []string{"d1"}},
	"all":              {},
}

const partFileBytes = 50_000

func partsTree() *fake.Tree { return bulk(300, partFileBytes) }

// wantedOf a part: what the daemon must have then, and the content of that.
func wantedOf(t *testing.T, part string) (list string, bytes int64) {
	t.Helper()
	of, tree := parts[part], partsTree()
	filtered, err := fsutil.NewFilterFS(tree, &fsutil.FilterOpt{IncludePatterns: of.Include, ExcludePatterns: of.Exclude, FollowPaths: of.Follow})
	if err != nil {
		t.Fatal(err)
	}
	if list, err = fake.Listing(filtered, true); err != nil {
		t.Fatal(err)
	}
	_, bytes = tree.Asked()
	return list, bytes
}

// partsSite is an edge whose daemon asks for a part of a directory, each time into an empty one.
type partsSite struct {
	directory string
	gateway   *rig.Gateway
	wire      *rig.Proxy
	edge      *rig.Edge
}

func newPartsSite(t *testing.T) *partsSite {
	t.Helper()
	s := &partsSite{directory: rig.Directory(t)}
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		part := parts[b.Request.FrontendAttrs["part"]]
		part.Name = b.Request.FrontendAttrs["name"]
		return b.Receive(ctx, filepath.Join(s.directory, b.Request.FrontendAttrs["into"]), part)
	})
	s.gateway = rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	s.wire = rig.NewProxy(t, nil, s.gateway.Address, 0)
	s.edge = rig.NewEdge(t, rig.EdgeOptions{Upstream: s.wire.Address})
	return s
}

// build has the daemon ask for a part of a tree that its client has by that name, and looks at what came.
func (s *partsSite) build(t *testing.T, tree *fake.Tree, name, part string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	into := fmt.Sprint(rand.Uint64())
	_, err := connect(t, s.edge.Address()).Build(ctx, map[string]fsutil.FS{name: tree},
		map[string]string{"name": name, "part": part, "into": into})
	if err != nil {
		t.Errorf("%s of %s: %v: %s", part, name, err, s.edge.Process().Log().Tail())
		return
	}
	wanted, _ := wantedOf(t, part)
	if got := mustList(t, filepath.Join(s.directory, into), true); got != wanted {
		t.Errorf("%s of %s: %s", part, name, fake.FirstDifference(got, wanted))
	}
}

// costs is what a build reads of its client and sends: files, their bytes, bytes on the wire.
func (s *partsSite) costs(t *testing.T, tree *fake.Tree, name, part string) (files, read, sent int64) {
	t.Helper()
	tree.Asked()
	before := s.wire.Counts()
	s.build(t, tree, name, part)
	files, read = tree.Asked()
	return files, read, s.wire.Counts().Since(before).Up
}

// A directory of which builds want this part and that, one after the other: what an earlier one brought is neither read of the
// client again nor sent again. As a named context, where the same path, size and time may well be another directory's, it is read
// once more, and not sent.
func TestPartsOfADirectoryShareAll(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	s, tree := newPartsSite(t), partsTree()
	_, first := wantedOf(t, "all but d1")
	_, all := wantedOf(t, "all")
	if _, read, _ := s.costs(t, tree, "context", "all but d1"); read != first || first != all-6*partFileBytes {
		t.Errorf("the first build read %d bytes, of a part of %d", read, first)
	}
	for _, part := range []string{"some directories", "all but several", "one of them", "what COPY names", "of both kinds"} {
		if _, bytes := wantedOf(t, part); bytes < 4*callsBytesMax {
			t.Errorf("%s has %d bytes, too few to be seen on the wire", part, bytes)
		}
		if files, read, sent := s.costs(t, tree, "context", part); files != 0 || read != 0 || sent > callsBytesMax {
			t.Errorf("%s: %d files, %d bytes were read, %d bytes went up", part, files, read, sent)
		}
	}
	if files, read, sent := s.costs(t, tree, "context", "all"); files != 6 || read != all-first || sent < read || sent > read+callsBytesMax {
		t.Errorf("all, of which six files are new: %d files, %d bytes were read, %d bytes went up", files, read, sent)
	}
	if _, read, sent := s.costs(t, tree, "other", "all but d1"); read != first || sent > callsBytesMax {
		t.Errorf("as a named context: %d bytes were read, of %d, and %d bytes went up", read, first, sent)
	}
	for _, part := range []string{"all but several", "of both kinds"} {
		if files, read, sent := s.costs(t, tree, "other", part); files != 0 || read != 0 || sent > callsBytesMax {
			t.Errorf("%s of a named context: %d files, %d bytes were read, %d bytes went up", part, files, read, sent)
		}
	}
	s.gateway.Gauges(t) // numbers from after the builds
	if unfit := s.gateway.Metrics(t)["sluice_plays_unfit_total"]; unfit != 0 {
		t.Errorf("%.0f contexts went file by file: %s", unfit, s.edge.Process().Log().Tail())
	}
}

// Builds of parts that overlap, side by side, nobody having anything: each file is read of one client, and sent once.
func TestPartsSideBySide(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	s, tree := newPartsSite(t), partsTree()
	before := s.wire.Counts()
	var all sync.WaitGroup
	for part := range parts {
		all.Add(1)
		go func() {
			defer all.Done()
			s.build(t, tree, "context", part)
		}()
	}
	all.Wait()
	if files, read := tree.Asked(); files != 300 || read != tree.Size() {
		t.Errorf("%d files, %d bytes were read, of 300 with %d", files, read, tree.Size())
	}
	if sent := s.wire.Counts().Since(before).Up; float64(sent) > 1.05*float64(tree.Size())+float64(len(parts)*callsBytesMax) {
		t.Errorf("%d bytes went up, of %d", sent, tree.Size())
	}
}

// The same by stock buildx of a real directory: COPY of this and of that, another .dockerignore, the directory as a named context.
func TestBuildsOfPartsShareAll(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	s := newEdgeSite(t, 0, rig.EdgeOptions{})
	const size = 1_000_000
	directory, recipes := newContext(t, "FROM scratch\n", nil), rig.Directory(t)
	for i, name := range []string{"src/a/1", "src/a/2", "src/b/1", "src/b/2", "src/c/1"} {
		putFiles(t, directory, files{name: noise(size, uint64(i))})
	}
	for i, step := range []struct {
		recipe, ignored string
		arguments       []string
		copied, read    int64 // files of that size
		sent            int64
	}{
		{recipe: "COPY src/a /src/a\n", copied: 2, read: 2, sent: 2},
		{recipe: "COPY src/a /src/a\nCOPY src/b /src/b\n", copied: 4, read: 2, sent: 2},
		{recipe: "COPY . /\n", ignored: "src/c\nDockerfile\n", copied: 4},
		{recipe: "COPY src/b/1 src/a/2 /src/\n", ignored: "src/a/1\n", copied: 2},
		{recipe: "COPY src /src\n", ignored: "**/2\n", copied: 3, read: 1, sent: 1},
		{recipe: "COPY src /src\n", copied: 5},
		{recipe: "COPY --from=other src /src\n", arguments: []string{"--build-context", "other=" + directory}, copied: 5, read: 5},
		{recipe: "COPY --from=other src/a /src/\n", arguments: []string{"--build-context", "other=" + directory}, copied: 2},
	} {
		recipe, out := filepath.Join(recipes, fmt.Sprint("Dockerfile", i)), filepath.Join(recipes, fmt.Sprint("out", i))
		putFiles(t, recipes, files{filepath.Base(recipe): "FROM scratch\n" + step.recipe, filepath.Base(recipe) + ".dockerignore": step.ignored})
		wire, edge := s.wire.Counts(), s.edge.FreshMetrics(t)
		s.home.MustRun(t, "buildx", append([]string{"build", "--builder", "edge", "--output", "type=local,dest=" + out, "-f", recipe, directory},
			step.arguments...)...)
		read := int64(s.edge.FreshMetrics(t)["sluice_edge_read_bytes_total"] - edge["sluice_edge_read_bytes_total"])
		sent := s.wire.Counts().Since(wire).Up
		if read < step.read*size || read > step.read*size+callsBytesMax || sent < step.sent*size || sent > step.sent*size+2*callsBytesMax {
			t.Errorf("%q without %q: %d bytes were read, %d went up", step.recipe, step.ignored, read, sent)
		}
		if copied := contentBytes(t, out); copied < step.copied*size || copied > step.copied*size+callsBytesMax {
			t.Errorf("%q without %q made %d bytes", step.recipe, step.ignored, copied)
		}
	}
}

// contentBytes of all files below a directory.
func contentBytes(t *testing.T, directory string) int64 {
	t.Helper()
	total := int64(0)
	err := filepath.WalkDir(directory, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}
