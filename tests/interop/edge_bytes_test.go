package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

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
			tree.Gate = begunAhead(t, gateway, oddBulkReads)
			daemon.buildByNewEdge(t, wire.Address, mtime, "one", tree)
			tree.Gate = nil
			tree.Touch(rand.New(rand.NewPCG(1, 2)))
			gateway.Gauges(t) // numbers from after the first build
			before, played := wire.Counts(), gateway.Metrics(t)["sluice_context_bytes_from_store_total"]
			daemon.buildByNewEdge(t, wire.Address, mtime, "two", tree)
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

// A tree of more entries than fit one message of any kind, from a fresh checkout; with the client's mtimes each has its own.
func TestManyEntriesThroughAnEdge(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	count := 10_000
	if rig.Soak() {
		count = 300_000
	}
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			daemon := newKeyed(t)
			gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
			tree := bulk(count, 40)
			daemon.buildByNewEdge(t, gateway.Address, mtime, "one", tree)
			tree.Touch(rand.New(rand.NewPCG(1, 2)))
			daemon.buildByNewEdge(t, gateway.Address, mtime, "two", tree)
		})
	}
}

// A directory that is too long for a tree goes file by file, as without an edge, though nobody has any of it.
func TestFlatDirectoryThroughAnEdge(t *testing.T) {
	t.Parallel()
	needs(t, rig.Give)
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			daemon := newKeyed(t)
			gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
			tree := fake.NewTree()
			for i := range 60_000 {
				tree.File(fmt.Sprintf("d/f%d", i), 1000, uint64(i), int64(i))
			}
			// The last reads wait until something would have gone ahead of the root, if it does.
			reads, waits := atomic.Int64{}, sync.OnceFunc(func() {
				for end := time.Now().Add(3 * time.Second); time.Now().Before(end) && gateway.Metrics(t)["sluice_plays_ahead_total"] == 0; {
					time.Sleep(100 * time.Millisecond)
				}
			})
			tree.Gate = func() {
				if reads.Add(1) > 40_000 {
					waits()
				}
			}
			daemon.buildByNewEdge(t, gateway.Address, mtime, "one", tree)
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

// Five clients behind as many edges of one tenant push the same at once: the gateway receives it about once.
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
