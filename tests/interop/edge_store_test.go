package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

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
