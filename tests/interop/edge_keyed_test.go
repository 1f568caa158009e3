package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// keyed is a fake daemon that keeps what it was sent as buildkitd does: a directory a shared key, in which it asks for what has
// another size or time. It watches over what that rests on.
type keyed struct {
	*fake.Daemon
	directory string

	mutex  sync.Mutex
	keys   map[string]string // a directory's name, by shared key and name
	claims map[string]string // content, by key, path, size and time
	lists  map[string]string // what a build left, by the build's number
	broken []string
}

// An entry of a listing that is a file of its own: path, mode, time, size, content.
var listedFile = regexp.MustCompile(`(?m)^("(?:[^"\\]|\\.)*") -\S* (\d+)(?: .*)? (\d+) ([0-9a-f]{24})$`)

func newKeyed(s rig.Scope) *keyed {
	s.Helper()
	k := &keyed{directory: rig.Directory(s), keys: map[string]string{}, claims: map[string]string{}, lists: map[string]string{}}
	k.Daemon = fakeDaemon(s, func(ctx context.Context, b *fake.Build) error {
		key := b.Session.SharedKey()
		k.mutex.Lock()
		if _, found := k.keys[key]; !found {
			k.keys[key] = fmt.Sprint(len(k.keys))
		}
		directory := filepath.Join(k.directory, k.keys[key])
		k.mutex.Unlock()
		if err := b.Receive(ctx, directory, fake.Sync{}); err != nil {
			return err
		}
		list, err := fake.ListingOf(directory, false)
		if err != nil {
			return err
		}
		k.mutex.Lock()
		defer k.mutex.Unlock()
		for _, file := range listedFile.FindAllStringSubmatch(list, -1) {
			claim := fmt.Sprintf("%s %s %s bytes at %s", key, file[1], file[3], file[2])
			if content, found := k.claims[claim]; found && content != file[4] {
				k.broken = append(k.broken, fmt.Sprintf("%s: %s, then %s", claim, content, file[4]))
			}
			k.claims[claim] = file[4]
		}
		k.lists[b.Request.FrontendAttrs["number"]] = list
		return nil
	})
	return k
}

// build sends a tree and returns what the daemon has then.
func (k *keyed) build(t *testing.T, c *fake.Client, tree *fake.Tree) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	number := fmt.Sprint(rand.Uint64())
	told, err := c.Build(ctx, map[string]fsutil.FS{"context": tree}, map[string]string{"number": number})
	if err != nil {
		t.Fatalf("%v: %s", err, told)
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.lists[number]
}

// buildByNewEdge sends a tree from a machine that knows nothing, and shows that the daemon has it then: with the client's mtimes its own.
func (k *keyed) buildByNewEdge(t *testing.T, upstream, mtime, identity string, tree *fake.Tree) {
	t.Helper()
	edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: upstream, Mtime: mtime})
	c := connect(t, edge.Address())
	c.SharedKey = "tree:" + identity
	got := k.build(t, c, tree)
	wanted, _ := fake.Listing(tree, false)
	if mtime == "stable" {
		got, wanted = timeless(got), timeless(wanted)
	}
	if got != wanted {
		t.Error(fake.FirstDifference(got, wanted))
	}
}

var listedTime = regexp.MustCompile(`(?m)^("(?:[^"\\]|\\.)*" [^d ]\S*) \d+`)

func timeless(list string) string { return listedTime.ReplaceAllString(list, "$1 -") }

// The property: whatever the trees and whatever changes, from however many directories of one name, on however many machines,
// behind however many edges, with other bytes under the same path, size and time among them: with stable mtimes the daemon has
// what the client has, and under a key of its path, size and time name one content, ever. With the client's mtimes, where keys
// are one directory's, times are the client's own.
func TestDaemonHasWhatIsBehindTheEdge(t *testing.T) {
	t.Parallel()
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			rounds, steps, entries := 3, 8, 40
			if rig.Soak() {
				rounds, steps, entries = 40, 60, 300
			}
			daemon := newKeyed(t)
			gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
			edges := []*rig.Edge{}
			for range 2 {
				edges = append(edges, rig.NewEdge(t, rig.EdgeOptions{Upstream: gateway.Address, Mtime: mtime}))
			}
			first := rand.Uint64()
			for round := range rounds {
				seed := first + uint64(round)
				random := rand.New(rand.NewPCG(seed, 0))
				// Two directories of one name that begin alike, as two checkouts do.
				trees := []*fake.Tree{fake.Random(rand.New(rand.NewPCG(seed, 1)), entries), fake.Random(rand.New(rand.NewPCG(seed, 1)), entries)}
				keys := []string{fmt.Sprintf("tree-%d:0", round), fmt.Sprintf("tree-%d:1", round)}
				for step := range steps {
					i := random.IntN(2)
					tree := trees[i]
					tree.Change(random, random.IntN(5))
					if step%4 != 3 || mtime == "stable" {
						tree.Fit() // with a device in it a tree is sent as buildx sends it; TestUnfitThroughAStableEdge
					}
					if random.IntN(5) == 0 {
						tree.Touch(random)
					}
					// Under one key a stat is believed. So a forgery is another directory's, on another machine: nobody knows its key.
					if file := tree.SomeFile(random); mtime == "stable" && file != "" && random.IntN(2) == 0 {
						tree.Forge(file, random.Uint64())
						keys[i] = fmt.Sprintf("tree-%d:%d-%d", round, i, step)
					}
					c := connect(t, edges[random.IntN(2)].Address())
					c.SharedKey = keys[i]
					got := daemon.build(t, c, tree)
					c.Close()
					wanted, err := fake.Listing(tree, false)
					if err != nil {
						t.Fatal(err)
					}
					if mtime == "stable" {
						got, wanted = timeless(got), timeless(wanted)
					}
					if got != wanted {
						t.Fatalf("seed %d, step %d:\n%s\n%s", seed, step, fake.FirstDifference(got, wanted), gateway.Process().Log().Tail())
					}
				}
			}
			for _, broken := range daemon.broken {
				t.Error(broken)
			}
		})
	}
}

// A context that the edge cannot give, for a device in it, goes file by file, with the client's own times; and what the daemon has
// from another directory under the same path, size and time, given by an edge before, is not taken for it.
func TestUnfitThroughAStableEdge(t *testing.T) {
	t.Parallel()
	needsMtime(t, "stable")
	daemon := newKeyed(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: gateway.Address, Mtime: "stable"})
	build := func(identity string, tree *fake.Tree) {
		t.Helper()
		c := connect(t, edge.Address())
		c.SharedKey = "tree:" + identity
		wanted, _ := fake.Listing(tree, false)
		if got := daemon.build(t, c, tree); timeless(got) != timeless(wanted) {
			t.Errorf("%s:\n%s\n%s", identity, fake.FirstDifference(timeless(got), timeless(wanted)), gateway.Process().Log().Tail())
		}
	}
	fit, unfit := bulk(3, 1000), bulk(3, 1000)
	unfit.Forge("d1/f1", 99)
	unfit.Device("null", 1, 3)
	build("fit", fit)
	build("unfit", unfit)
	build("fit", fit)
	for _, broken := range daemon.broken {
		t.Error(broken)
	}
}

// A name that is a file of its own in one checkout and a hardlink in the next, with one content and one time, in turns.
func TestFileAndLinkThroughAStableEdge(t *testing.T) {
	t.Parallel()
	needsMtime(t, "stable")
	daemon := newKeyed(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: gateway.Address, Mtime: "stable"})
	trees := map[string]*fake.Tree{"file": fake.NewTree(), "link": fake.NewTree(), "other": fake.NewTree()}
	for name, tree := range trees {
		tree.File("a", 1000, 1, 7)
		tree.File("b", 1000, 1, 7)
		if name == "link" {
			tree.Link("b", "a")
		} else if name == "other" {
			tree.Forge("b", 2)
		}
	}
	for _, name := range []string{"file", "link", "link", "other", "link", "file", "link", "other", "file", "link", "link"} {
		c := connect(t, edge.Address())
		c.SharedKey = "tree:" + name
		wanted, _ := fake.Listing(trees[name], false)
		if got := daemon.build(t, c, trees[name]); timeless(got) != timeless(wanted) {
			t.Errorf("%s:\n%s", name, fake.FirstDifference(timeless(got), timeless(wanted)))
		}
		c.Close()
	}
	for _, broken := range daemon.broken {
		t.Error(broken)
	}
}
