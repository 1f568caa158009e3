package interop

import (
	"context"
	"fmt"
	gofs "io/fs"
	"math/rand/v2"
	"testing"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// long is a context of which an edge can say how far it is as it was before buildx has listed all (SAME_STEP).
const long = 6000

type sameSite struct {
	daemon  *keyed
	gateway *rig.Gateway
	edges   []*rig.Edge
}

func newSameSite(t *testing.T, edges int) *sameSite {
	t.Helper()
	needsMtime(t, "stable")
	s := &sameSite{daemon: newKeyed(t)}
	s.gateway = rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(s.daemon.Address, 0)}})
	for range edges {
		s.edges = append(s.edges, rig.NewEdge(t, rig.EdgeOptions{Upstream: s.gateway.Address, Mtime: "stable"}))
	}
	return s
}

// build sends it and compares what the daemon has then. The number of plays that began with a known root is returned.
func (s *sameSite) build(t *testing.T, what, key string, edge int, tree *fake.Tree) float64 {
	t.Helper()
	before := s.gateway.Metrics(t)["sluice_plays_same_total"]
	c := connect(t, s.edges[edge].Address())
	defer c.Close()
	c.SharedKey = key
	got := timeless(s.daemon.build(t, c, tree))
	wanted, err := fake.Listing(tree, false)
	if err != nil {
		t.Fatal(err)
	}
	if wanted = timeless(wanted); got != wanted {
		t.Fatalf("%s:\n%s\n%s", what, fake.FirstDifference(got, wanted), s.gateway.Process().Log().Tail())
	}
	s.gateway.Gauges(t)
	return s.gateway.Metrics(t)["sluice_plays_same_total"] - before
}

func (s *sameSite) end(t *testing.T) {
	t.Helper()
	for _, broken := range s.daemon.broken {
		t.Error(broken)
	}
}

// What is known is played while the client lists, as far as it is the same; then come a change at the front, in the middle and at
// the end, in content alone, in what there is, and in what an entry is. A forgery under a known path, size and time is never taken for
// what was there.
func TestWhatIsTheSameIsPlayedAhead(t *testing.T) {
	t.Parallel()
	s := newSameSite(t, 1)
	tree := bulk(long, 100)
	if s.build(t, "cold", "tree:one", 0, tree) != 0 {
		t.Error("a context that nobody knows began with a known root")
	}
	changes := []struct {
		what   string
		ahead  float64
		change func()
	}{
		{"no change", 1, func() {}},
		{"a file in the middle", 1, func() { tree.File("d30/f30", 200, 5, 77) }},
		{"no change behind it", 1, func() {}},
		{"a file at the end", 1, func() { tree.File("zz", 1, 1, 1) }},
		{"a file before all", 0, func() { tree.File("a", 1, 1, 1) }},
		{"a directory less", 1, func() {
			for i := 40; i < long; i += 50 {
				tree.Remove(fmt.Sprintf("d40/f%d", i))
			}
			tree.Remove("d40")
		}},
		{"a link in place of a file", 1, func() { tree.Symlink("d9/f59", "f9") }},
		{"an xattr", 1, func() { tree.Xattr("d8/f8", "user.x", "y") }},
		{"all times", 1, func() { tree.Touch(rand.New(rand.NewPCG(1, 2))) }},
	}
	for _, c := range changes {
		c.change()
		if got := s.build(t, c.what, "tree:one", 0, tree); got != c.ahead {
			t.Errorf("%s: %.0f plays began with the known root, and %.0f should", c.what, got, c.ahead)
		}
	}
	tree.Forge("d7/f7", 1234)
	s.build(t, "a forgery elsewhere", "tree:two", 0, tree)
	s.build(t, "and again", "tree:two", 0, tree)
	s.end(t)
}

// A context turns out to be no tree, for a device at its end, when the daemon has heard of most of it: it gets the rest from the
// client. Once, as then nothing is known of it; and not in place of something else that it has.
func TestUnfitInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"d9/null", "zz", "d45/null"} {
		t.Run(place, func(t *testing.T) {
			s := newSameSite(t, 1)
			tree := bulk(long, 100)
			s.build(t, "cold", "tree:one", 0, tree)
			tree.Device(place, 1, 3)
			tree.File("d9/zz", 5000, 3, 4)
			if s.build(t, "with a device", "tree:one", 0, tree) != 1 {
				t.Error("it did not begin with the known root")
			}
			if s.build(t, "again", "tree:one", 0, tree) != 0 {
				t.Error("it began with a root that it has no more")
			}
			tree.Fit()
			s.build(t, "without it", "tree:one", 0, tree)
			s.build(t, "and again", "tree:one", 0, tree)
			s.end(t)
		})
	}
}

// Whatever changes, from two directories of one name behind two edges: the daemon has what the client has.
func TestWhatIsTheSameWhateverChanges(t *testing.T) {
	t.Parallel()
	s := newSameSite(t, 2)
	rounds := 12
	if rig.Soak() {
		rounds = 600
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	trees, keys := []*fake.Tree{bulk(long, 10), bulk(long, 10)}, []string{"tree:0", "tree:1"}
	ahead := 0.0
	for step := range rounds {
		i := random.IntN(2)
		tree := trees[i]
		switch random.IntN(6) {
		case 0:
			tree.Change(random, random.IntN(4))
			if random.IntN(4) != 0 {
				tree.Fit()
			}
		case 1:
			tree.Touch(random)
		case 2:
			tree.Forge(tree.SomeFile(random), random.Uint64())
			keys[i] = fmt.Sprintf("tree:%d-%d", i, step)
		}
		ahead += s.build(t, fmt.Sprintf("seed %d, step %d", seed, step), keys[i], random.IntN(2), tree)
	}
	if ahead == 0 {
		t.Errorf("seed %d: no play began with a known root", seed)
	}
	s.end(t)
}

// watched tells of each entry that it lists.
type watched struct {
	fsutil.FS
	listed func()
}

func (w *watched) Walk(ctx context.Context, target string, fn gofs.WalkDirFunc) error {
	return w.FS.Walk(ctx, target, func(path string, entry gofs.DirEntry, err error) error {
		w.listed()
		return fn(path, entry, err)
	})
}

// A build that ends in the middle leaves nothing, and the next one is whole.
func TestCancelledWhileTheSameIsPlayed(t *testing.T) {
	t.Parallel()
	s := newSameSite(t, 1)
	tree := bulk(long, 10)
	s.build(t, "cold", "tree:one", 0, tree)
	before := s.gateway.Gauges(t)
	for i := range 10 {
		ctx, cancel := context.WithCancel(context.Background())
		listed := 0
		c := connect(t, s.edges[0].Address())
		c.SharedKey = "tree:one"
		_, _ = c.Build(ctx, map[string]fsutil.FS{"context": &watched{tree, func() {
			if listed++; listed == 4200+i*150 {
				cancel()
			}
		}}}, map[string]string{"number": "cancelled"})
		cancel()
		c.Close()
	}
	s.build(t, "after them", "tree:one", 0, tree)
	s.gateway.Settles(t, before)
	s.end(t)
}
