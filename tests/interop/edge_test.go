package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

var mtimes = []string{"client", "stable"}

// needsMtime leaves out what this gateway or this edge cannot do yet.
func needsMtime(t *testing.T, mtime string) {
	t.Helper()
	needs(t, rig.Relay)
	if mtime == "stable" {
		needs(t, rig.Stable)
	}
}

// Every kind of build makes the same files through an edge as straight, and hits the cache the same way the second time. With
// the client's mtimes the files' times are the same as well.
func TestBuildsThroughAnEdge(t *testing.T) {
	t.Parallel()
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			needsMtime(t, mtime)
			p := throughEdge(t, mtime)
			for _, c := range comparisons {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, p)
				})
			}
		})
	}
}

// What is carried besides contexts: as without an edge.
func TestCallsThroughAnEdge(t *testing.T) {
	t.Parallel()
	checks := map[string]func(*testing.T, *pair){"failing step": checkFailingStep, "buildctl": checkBuildctl, "bake": checkBake,
		"tar export": checkTarExport, "OCI export": checkReproducibleImage, "cache to and from": checkCacheToAndFrom,
		"context on stdin": checkContextOnStdin, "ssh": checkSSH}
	needs(t, rig.Relay)
	p := throughEdge(t, "client")
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, p)
		})
	}
	// An image that must be the same to the last bit has its files' own times also where others have not.
	t.Run("stable OCI export", func(t *testing.T) {
		t.Parallel()
		needsMtime(t, "stable")
		checkReproducibleImage(t, throughEdge(t, "stable"))
	})
}

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

// A second build asks the client for no file, though its daemon is another, empty one; nor does the wire carry any.
func TestSecondBuildThroughAnEdgeReadsNothing(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	wire := rig.NewProxy(t, nil, gateway.Address, 0)
	edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: wire.Address})
	tree := bulk(300, 50_000)
	send(t, connect(t, edge.Address()), tree, "one")
	if _, bytes := tree.Asked(); bytes != tree.Size() {
		t.Errorf("the first build asked for %d bytes, of a tree of %d", bytes, tree.Size())
	}
	before := wire.Counts()
	send(t, connect(t, edge.Address()), tree, "two")
	if files, bytes := tree.Asked(); files != 0 || bytes != 0 {
		t.Errorf("the client was asked for %d files, %d bytes", files, bytes)
	}
	if up := wire.Counts().Since(before).Up; up > 64<<10 {
		t.Errorf("%d bytes went up", up)
	}
	if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(directory, "two"), true) != wanted {
		t.Error("another tree")
	}
	// One changed file: that one alone is read, and goes up.
	tree.File("da/new", 70_000, 77, 99)
	tree.Asked()
	before = wire.Counts()
	send(t, connect(t, edge.Address()), tree, "three")
	if files, bytes := tree.Asked(); files != 1 || bytes != 70_000 {
		t.Errorf("one file changed, and the client was asked for %d files, %d bytes", files, bytes)
	}
	if up := wire.Counts().Since(before).Up; up < 70_000 || up > 70_000+64<<10 {
		t.Errorf("%d bytes went up", up)
	}
	if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(directory, "three"), true) != wanted {
		t.Error("another tree")
	}
}

// A new edge, a client of another identity, all times new, the same content: the gateway is sent none of it. With stable
// mtimes the daemon neither.
func TestFreshCheckoutThroughAnEdge(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			daemon := newKeyed(t)
			gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
			wire := rig.NewProxy(t, nil, gateway.Address, 0)
			tree := oddBulk()
			wanted, _ := fake.Listing(tree, false)
			build := func(identity string) {
				t.Helper()
				edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: wire.Address, Mtime: mtime})
				c := connect(t, edge.Address())
				c.SharedKey = "tree:" + identity
				if got := daemon.build(t, c, tree); timeless(got) != timeless(wanted) {
					t.Error(fake.FirstDifference(timeless(got), timeless(wanted)))
				}
			}
			tree.Gate = begunAhead(t, gateway, oddBulkReads)
			build("one")
			tree.Gate = nil
			tree.Touch(rand.New(rand.NewPCG(1, 2)))
			gateway.Gauges(t) // numbers from after the first build
			before, played := wire.Counts(), gateway.Metrics(t)["sluice_context_bytes_from_store_total"]
			build("two")
			if up := wire.Counts().Since(before).Up; up > 64<<10 {
				t.Errorf("%d bytes went up", up)
			}
			gateway.Gauges(t)
			if grew := gateway.Metrics(t)["sluice_context_bytes_from_store_total"] - played; mtime == "stable" && grew != 0 {
				t.Errorf("the daemon was sent %.0f bytes", grew)
			}
		})
	}
}

// Of oddBulk, three quarters: a file of it takes two.
const oddBulkReads = 300

// oddBulk has what an entry may have besides its content: xattrs, more than one of them among these, a link of either kind.
func oddBulk() *fake.Tree {
	tree := bulk(200, 50_000)
	tree.Xattr("d1/f1", "user.one", "1")
	tree.Xattr("d2/f2", "user.empty", "")
	tree.Xattr("d2/f2", "user.other", "2")
	tree.Xattr("d3", "user.of-directory", "3")
	tree.Link("d6/link", "d5/f5")
	tree.Symlink("d4/symlink", "f4")
	return tree
}

// begunAhead holds the last reads of a tree until a gateway has begun to play it ahead of its root: what is read before then tells
// the edge that the gateway lacks most of it.
func begunAhead(t *testing.T, gateway *rig.Gateway, before int64) (gate func()) {
	reads, began := atomic.Int64{}, sync.OnceFunc(func() {
		for end := time.Now().Add(rig.Patience); gateway.Metrics(t)["sluice_plays_ahead_total"] == 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Error("nothing goes ahead of the root")
				return
			}
		}
	})
	return func() {
		if reads.Add(1) > before {
			began()
		}
	}
}

// A daemon that has all, behind a gateway and an edge that have nothing: with the client's mtimes it is sent what it would be sent
// without an edge, entries and no more, though these go ahead of the root.
func TestNewGatewayThroughAnEdge(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	daemon, tree := newKeyed(t), oddBulk()
	wanted, _ := fake.Listing(tree, false)
	for round := range 2 {
		gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
		edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: gateway.Address, Mtime: "client"})
		tree.Gate = begunAhead(t, gateway, oddBulkReads)
		if got := daemon.build(t, connect(t, edge.Address()), tree); got != wanted {
			t.Errorf("round %d: %s", round, fake.FirstDifference(got, wanted))
		}
		gateway.Gauges(t) // numbers from after the build
		if played := gateway.Metrics(t)["sluice_context_bytes_from_store_total"]; round > 0 && played != 0 {
			t.Errorf("the daemon was sent %.0f bytes of what it has", played)
		}
	}
}

// On a new machine with a fresh checkout, whose content the gateway has, no more crosses the line beside what a build of nothing
// costs than a limit that does not grow with the tree; with the client's times these. A real daemon, which looks for a
// .dockerignore before it wants the directory.
func TestFreshCheckoutBytes(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	const count = 3000
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			daemon := rig.NewDaemon(t)
			gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
			wire := rig.NewProxy(t, nil, gateway.Address, 0)
			edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: wire.Address, Mtime: mtime})
			contents := files{}
			for i := range count {
				contents[fmt.Sprintf("d%d/f%d", i/50, i)] = fmt.Sprintf("%d %d", i, rand.Uint64())
			}
			const recipe = "FROM scratch\nCOPY . /all\n"
			tree, nothing := newContext(t, recipe, contents), newContext(t, recipe, nil) // of one name
			build := func(directory string) int64 {
				t.Helper()
				edge.Refresh(t)
				home := rig.NewHome(t)
				home.AddBuilder(t, "edge", edge.Address())
				before := wire.Counts()
				home.MustRun(t, "buildx", "build", "--builder", "edge", directory)
				counts := wire.Counts().Since(before)
				return counts.Up + counts.Down
			}
			build(tree)
			build(nothing)
			now := time.Now()
			for name := range contents {
				at := now.Add(-time.Duration(rand.Int64N(int64(time.Minute))))
				if err := os.Chtimes(filepath.Join(tree, name), at, at); err != nil {
					t.Fatal(err)
				}
			}
			spent, forwarded := build(tree), build(nothing)
			most := int64(16 << 10)
			if mtime == "client" {
				most += 5 * (count + count/50 + 1)
			}
			if spent-forwarded > most {
				t.Errorf("%d bytes, of which %d are forwarded calls; at most %d besides:\n%s", spent, forwarded, most, edge.Process().Log().Tail())
			}
		})
	}
}

// A build of a directory of which nobody has anything, by a real daemon: it is given entries and whole files while the edge still
// reads and sends, before there is a root.
func TestColdBuildBeginsAhead(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			s := newEdgeSite(t, 10*time.Millisecond, rig.EdgeOptions{Mtime: mtime})
			directory := newContext(t, "FROM scratch\nCOPY . /\n", nil)
			for i := range 600 {
				putFiles(t, directory, files{fmt.Sprintf("src/d%d/f%d", i/50, i): noise(60_000, uint64(i))})
			}
			putFiles(t, directory, files{"src/large": noise(10<<20, 1)})
			s.build(t, directory)
			s.gateway.Gauges(t) // numbers from after the build
			metrics := s.gateway.Metrics(t)
			if begun, given := metrics["sluice_plays_ahead_total"], metrics["sluice_play_files_ahead_total"]; begun != 1 || given < 100 {
				t.Errorf("%.0f plays began ahead of their root, %.0f files were given before it%s", begun, given, s.log())
			}
			if metrics["sluice_plays_unfit_total"] != 0 {
				t.Error("a context was not given by its content")
			}
		})
	}
}

// An edge whose store holds less than half of a context, under builds of two directories side by side, again and again: each
// daemon has what its client has, and the edge lives.
func TestSmallEdgeStore(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	rounds, parallel := 2, 4
	if rig.Soak() {
		rounds, parallel = 30, 8
	}
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			needsMtime(t, mtime)
			daemon, directory := receiver(t, fake.Sync{})
			gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 16)}})
			edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: gateway.Address, Mtime: mtime, Ceiling: "64MiB"})
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			trees := []*fake.Tree{fake.NewTree(), fake.NewTree()}
			for i, tree := range trees {
				for k := range 900 {
					tree.File(fmt.Sprintf("d%d/f%d", k%30, k), 1+random.Int64N(200_000), random.Uint64(), int64(i+k))
				}
				for k := range 6 {
					tree.File(fmt.Sprintf("large%d", k), 10<<20, random.Uint64(), int64(i+k))
				}
			}
			for round := range rounds {
				var all sync.WaitGroup
				for k := range parallel {
					tree, into := trees[k%2], fmt.Sprintf("%d-%d", round, k)
					c := connect(t, edge.Address())
					c.SharedKey = fmt.Sprintf("tree:%d", k%2)
					all.Add(1)
					go func() {
						defer all.Done()
						defer c.Close()
						ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
						defer cancel()
						if _, err := c.Build(ctx, map[string]fsutil.FS{"context": tree}, map[string]string{"into": into}); err != nil {
							t.Errorf("seed %d, round %d, build %d: %v", seed, round, k, err)
						}
					}()
				}
				all.Wait()
				for k := range parallel {
					wanted, _ := fake.Listing(trees[k%2], false)
					into := filepath.Join(directory, fmt.Sprintf("%d-%d", round, k))
					if got := mustList(t, into, false); timeless(got) != timeless(wanted) && !t.Failed() {
						t.Errorf("seed %d, round %d, build %d: %s", seed, round, k, fake.FirstDifference(timeless(got), timeless(wanted)))
					}
					os.RemoveAll(into)
				}
				if t.Failed() {
					t.Fatalf("edge: %s\ngateway: %s", edge.Process().Log().Tail(), gateway.Process().Log().Tail())
				}
				for _, tree := range trees {
					for range 100 {
						tree.File(fmt.Sprintf("d%d/f%d", random.IntN(30), random.IntN(900)), 1+random.Int64N(200_000), random.Uint64(), random.Int64N(1<<40))
					}
				}
			}
			gateway.Gauges(t)
			if unfit := gateway.Metrics(t)["sluice_plays_unfit_total"]; unfit != 0 {
				t.Errorf("%.0f contexts went file by file: %s", unfit, edge.Process().Log().Tail())
			}
		})
	}
}

// An edge that is to keep nothing has the smallest store there is, and says so: contexts larger than that go through it, from
// clients side by side, and its store stays below what it says.
func TestEdgeWithoutCeiling(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: gateway.Address, Ceiling: "0"})
	told := regexp.MustCompile(`smallest store ceiling_bytes=(\d+)`).FindStringSubmatch(edge.Process().Log().String())
	if told == nil {
		t.Fatalf("it does not say what store it has: %s", edge.Process().Log().Tail())
	}
	most, _ := strconv.ParseInt(told[1], 10, 64)
	tree := bulk(140, 1_000_000)
	if tree.Size() < 2*most {
		t.Fatalf("a store of %d bytes is not too small for %d", most, tree.Size())
	}
	var all sync.WaitGroup
	for _, into := range []string{"one", "two"} {
		c := connect(t, edge.Address())
		c.SharedKey = "tree:" + into
		all.Add(1)
		go func() {
			defer all.Done()
			send(t, c, tree, into)
		}()
	}
	all.Wait()
	wanted, _ := fake.Listing(tree, true)
	for _, into := range []string{"one", "two"} {
		if got := mustList(t, filepath.Join(directory, into), true); got != wanted {
			t.Errorf("%s: %s", into, fake.FirstDifference(got, wanted))
		}
	}
	// What is remembered of directories has a bound of its own.
	if has := contentBytes(t, edge.Store) - contentBytes(t, filepath.Join(edge.Store, "snapshots")); has > most {
		t.Errorf("its store has %d bytes, at most %d are told", has, most)
	}
	gateway.Gauges(t) // numbers from after the builds
	if unfit := gateway.Metrics(t)["sluice_plays_unfit_total"]; unfit != 0 {
		t.Errorf("%.0f contexts went file by file: %s", unfit, edge.Process().Log().Tail())
	}
	// What its files held it does remember: the gateway has it.
	tree.Asked()
	c := connect(t, edge.Address())
	c.SharedKey = "tree:one"
	send(t, c, tree, "three")
	if files, bytes := tree.Asked(); files != 0 {
		t.Errorf("of what did not change %d files, %d bytes were read again", files, bytes)
	}
}

// putMake puts the machine's make below root/ of a context, with the libraries that it is linked with.
func putMake(t *testing.T, directory string) {
	t.Helper()
	program, err := exec.LookPath("make")
	if err != nil {
		t.Fatal(err)
	}
	linked, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil && !strings.Contains(string(linked), "not a dynamic executable") {
		t.Fatalf("%v: %s", err, linked)
	}
	putFiles(t, directory, files{"root/usr/bin/": ""})
	if err := copyFile(program, filepath.Join(directory, "root/usr/bin/make")); err != nil {
		t.Fatal(err)
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(linked), -1) {
		putFiles(t, directory, files{filepath.Join("root", filepath.Dir(library)) + "/": ""})
		if err := copyFile(library, filepath.Join(directory, "root", library)); err != nil {
			t.Fatal(err)
		}
	}
}

// A make whose target lies in a cache mount makes it anew of a file that goes back to what it was, as of any that changes. Where
// times are stable, a checkout that changes nothing of the file but its time does not have it made anew.
func TestMakeRebuildsWhatIsReverted(t *testing.T) {
	t.Parallel()
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			p := throughEdge(t, mtime)
			directory := newContext(t, shell+`COPY root /
COPY src /src
RUN --mount=type=cache,target=/cache,id=`+fmt.Sprint(rand.Uint64())+` make -f /src/Makefile && cp /cache/made /cache/times /
`, files{"src/Makefile": "/cache/made: /src/input\n\tcat /src/input > /cache/made\n\techo made >> /cache/times\n"})
			putMake(t, directory)
			wanted := 0
			for i, content := range []string{"first", "other", "other", "first", "other", "first"} {
				// With another turn the step runs each time, whatever becomes of the input.
				putFiles(t, directory, files{"src/input": content, "src/turn": fmt.Sprint(i)})
				if again := i == 2; !again || mtime == "client" {
					wanted++
				}
				out := filepath.Join(rig.Directory(t), "out")
				p.home.MustRun(t, "buildx", "build", "--builder", "sluice", "--output", "type=local,dest="+out, directory)
				if made, err := os.ReadFile(filepath.Join(out, "made")); err != nil || string(made) != content {
					t.Errorf("%d: %q was made of %q: %v", i, made, content, err)
				}
				if times, err := os.ReadFile(filepath.Join(out, "times")); strings.Count(string(times), "made") != wanted {
					t.Errorf("%d: made %q, not %d times: %v", i, times, wanted, err)
				}
			}
		})
	}
}

// edgeSite is an edge behind a line that can be cut, with a gateway and a real daemon of its own.
type edgeSite struct {
	daemon  *rig.Daemon
	gateway *rig.Gateway
	wire    *rig.Proxy
	edge    *rig.Edge
	home    *rig.Home
}

func newEdgeSite(t *testing.T, roundTrip time.Duration, options rig.EdgeOptions) *edgeSite {
	t.Helper()
	return newEdgeSiteOver(t, rig.NewLink(t, rig.Shape{RoundTrip: roundTrip}), 4, options)
}

// newEdgeSiteOver a line, to a gateway whose daemon has so many slots.
func newEdgeSiteOver(t *testing.T, link *rig.Link, slots int, options rig.EdgeOptions) *edgeSite {
	t.Helper()
	s := &edgeSite{daemon: rig.NewDaemon(t), home: rig.NewHome(t)}
	s.gateway = rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(s.daemon.Address, slots)}})
	s.wire = link.To(t, s.gateway.Address)
	options.Upstream, options.Link = s.wire.Address, link
	s.edge = rig.NewEdge(t, options)
	s.home.AddBuilder(t, "edge", s.edge.Address())
	return s
}

func (s *edgeSite) log() string {
	return "\nedge: " + s.edge.Process().Log().Tail() + "\ngateway: " + s.gateway.Process().Log().Tail()
}

// build runs one, and wants in its result what the context has below src/.
func (s *edgeSite) build(t *testing.T, directory string) {
	t.Helper()
	out := filepath.Join(rig.Directory(t), "out")
	if told, err := s.home.Run("buildx", "build", "--builder", "edge", "--output", "type=local,dest="+out, directory); err != nil {
		t.Fatalf("%v: %s%s", err, told, s.log())
	}
	if got, wanted := listing(t, filepath.Join(out, "src")), listing(t, filepath.Join(directory, "src")); got != wanted {
		t.Error(fake.FirstDifference(got, wanted))
	}
}

// The edge, then the gateway, is killed, and started again on what it has: the next build is right. Both at rest and in the
// middle of a build, which ends, with an error.
func TestEdgeAndGatewayRestart(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay)
	s := newEdgeSite(t, 0, rig.EdgeOptions{})
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	oddTree(t, directory)
	s.build(t, directory)
	restarts := map[string]func(){
		"edge":    func() { s.edge.Crash(t); s.edge.Start(t) },
		"gateway": func() { s.gateway.Crash(); s.gateway.Resume(t) },
	}
	for _, who := range []string{"edge", "gateway"} {
		putFiles(t, directory, files{"src/nonce": fmt.Sprint(rand.Uint64())})
		restarts[who]()
		s.build(t, directory)
		running := s.home.Begin(t, "buildx", "build", "--builder", "edge", "--progress", "plain",
			newContext(t, shell+"RUN echo fast-$(echo asleep) && sleep 100\n", nil))
		running.AwaitText(t, asleep)
		restarts[who]()
		if err := running.Wait(t, rig.Patience); err == nil {
			t.Errorf("the %s was killed, and a build succeeded: %s", who, running.Output.Tail())
		}
		s.build(t, directory)
	}
}

// All connections between edge and gateway are cut in the middle of a build, or say nothing for a while: in the context's
// transfer, in a step, in the export. buildx does not notice, and what was made is right.
func TestCutsAreNotNoticed(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay, rig.Resume)
	const size = 60 << 20
	for _, moment := range []struct{ name, text string }{
		{"context", "transferring context:"}, {"step", asleep}, {"export", "copying files"}} {
		t.Run(moment.name, func(t *testing.T) {
			t.Parallel()
			s := newEdgeSite(t, 10*time.Millisecond, rig.EdgeOptions{})
			directory := newContext(t, shell+"COPY src /src\nRUN echo fast-$(echo asleep) && sleep 2\n", files{"src/large": noise(size, rand.Uint64())})
			if moment.name == "context" {
				// While the edge reads and uploads nothing of the context may be shown: cuts come as bytes pass.
				s.wire.CutEvery(rand.Uint64(), size/8, 6)
			}
			out := filepath.Join(rig.Directory(t), "out")
			running := s.home.Begin(t, "buildx", "build", "--builder", "edge", "--progress", "plain", "--output", "type=local,dest="+out, directory)
			if moment.name != "context" {
				running.AwaitText(t, moment.text)
				s.wire.Cut()
				s.wire.Silence(500 * time.Millisecond)
				time.Sleep(100 * time.Millisecond)
				s.wire.Cut()
			}
			if err := running.Wait(t, rig.Patience); err != nil {
				t.Fatalf("%v: %s%s", err, running.Output.Tail(), s.log())
			}
			if len(s.wire.Counts().Cuts) == 0 {
				t.Error("nothing was cut")
			}
			if got, wanted := listing(t, filepath.Join(out, "src")), listing(t, filepath.Join(directory, "src")); got != wanted {
				t.Error(fake.FirstDifference(got, wanted))
			}
		})
	}
}

// A gateway that stays away for longer than the limit: the build ends, and names it. So does one that begins then; once the
// gateway is back all is well.
func TestGatewayIsUnreachable(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay)
	arguments := []string{"--connect-timeout", "2s"}
	if rig.Has(rig.Resume) {
		arguments = append(arguments, "--link-timeout", "2s")
	}
	s := newEdgeSite(t, 0, rig.EdgeOptions{Arguments: arguments})
	directory := newContext(t, shell+"COPY src /src\n", nil)
	running := s.home.Begin(t, "buildx", "build", "--builder", "edge", "--progress", "plain",
		newContext(t, shell+"RUN echo fast-$(echo asleep) && sleep 100\n", nil))
	running.AwaitText(t, asleep)
	s.wire.Refuse(true)
	if err := running.Wait(t, 60*time.Second); err == nil || !strings.Contains(running.Output.String(), s.wire.Address) {
		t.Errorf("%v: %s", err, running.Output.Tail())
	}
	c := connect(t, s.edge.Address())
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := c.Raw().ListWorkers(ctx); err == nil || !strings.Contains(err.Error(), s.wire.Address) {
		t.Errorf("without a gateway: %v", err)
	}
	if told, err := s.home.Run("buildx", "build", "--builder", "edge", directory); err == nil || !strings.Contains(told, s.wire.Address) {
		t.Errorf("a build without a gateway: %v: %s", err, told)
	}
	s.wire.Refuse(false)
	// For a moment the edge may still answer that there is none, so that a client stops trying.
	rig.Eventually(t, 30*time.Second, "the gateway is reached again", func() bool {
		_, err := c.Raw().ListWorkers(ctx)
		return err == nil
	})
	s.build(t, directory)
}

// Ten clients behind as many edges of one tenant push the same at once: the gateway receives it about once.
func TestEdgesUploadOnce(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 10)}})
	wire := rig.NewProxy(t, nil, gateway.Address, 0)
	const edges = 5
	var all sync.WaitGroup
	tree := bulk(100, 100_000)
	for i := range edges {
		edge := rig.NewEdge(t, rig.EdgeOptions{Upstream: wire.Address})
		c := connect(t, edge.Address())
		c.SharedKey = fmt.Sprintf("tree:%d", i)
		all.Add(1)
		go func() {
			defer all.Done()
			ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
			defer cancel()
			if _, err := c.Build(ctx, map[string]fsutil.FS{"context": tree}, map[string]string{"into": fmt.Sprint(i)}); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	if up := wire.Counts().Up; float64(up) > 1.1*float64(tree.Size())+edges*32<<10 {
		t.Errorf("%d bytes went up, of a tree of %d", up, tree.Size())
	}
	wanted, _ := fake.Listing(tree, true)
	for i := range edges {
		if mustList(t, filepath.Join(directory, fmt.Sprint(i)), true) != wanted {
			t.Errorf("build %d has another tree", i)
		}
	}
}
