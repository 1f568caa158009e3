package interop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// receiver is a fake daemon that keeps one directory for each "into" attribute.
func receiver(s rig.Scope, sync fake.Sync) (*fake.Daemon, string) {
	s.Helper()
	directory := rig.Directory(s)
	return fakeDaemon(s, func(ctx context.Context, b *fake.Build) error {
		return b.Receive(ctx, filepath.Join(directory, b.Request.FrontendAttrs["into"]), sync)
	}), directory
}

func fakeDaemon(s rig.Scope, build func(ctx context.Context, b *fake.Build) error) *fake.Daemon {
	s.Helper()
	d, err := fake.NewDaemon("", build)
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(d.Kill)
	return d
}

func connect(s rig.Scope, address string) *fake.Client {
	s.Helper()
	c, err := fake.Connect(context.Background(), address)
	if err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() { c.Close() })
	return c
}

func send(s rig.Scope, c *fake.Client, tree *fake.Tree, into string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	if _, err := c.Build(ctx, map[string]fsutil.FS{"context": tree}, map[string]string{"into": into}); err != nil {
		s.Fatalf("%v", err)
	}
}

func mustList(t *testing.T, directory string, times bool) string {
	t.Helper()
	out, err := fake.ListingOf(directory, times)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The property: whatever the tree and whatever changes, what the receiver has is what the sender has, through the gateway as
// without it; and the client is asked for no byte more. An empty receiver then costs the client none at all.
func TestReceiverHasWhatTheSenderHas(t *testing.T) {
	t.Parallel()
	const unasked = 2
	rounds, changes, entries := 12, 6, 60
	if rig.Soak() {
		rounds, entries = 300, 400
	}
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	clients := map[string]*fake.Client{"straight": connect(t, daemon.Address), "gateway": connect(t, gateway.Address)}
	first := rand.Uint64()
	for round := range rounds {
		seed := first + uint64(round)
		random := rand.New(rand.NewPCG(seed, 0))
		tree := fake.Random(random, entries)
		key := fmt.Sprintf("tree:%016x", seed)
		for step := range changes {
			lists, files, bytes := map[string]string{}, map[string]int64{}, map[string]int64{}
			for _, way := range []string{"straight", "gateway"} {
				clients[way].SharedKey = key
				into := fmt.Sprintf("%d-%s", round, way)
				send(t, clients[way], tree, into)
				files[way], bytes[way] = tree.Asked()
				lists[way] = mustList(t, filepath.Join(directory, into), step == 0)
			}
			wanted, err := fake.Listing(tree, step == 0)
			if err != nil {
				t.Fatal(err)
			}
			if lists["gateway"] != lists["straight"] || lists["gateway"] != wanted {
				t.Fatalf("seed %d, change %d: through the gateway and straight differ in\n%s\nthe sender and the gateway in\n%s",
					seed, step, fake.FirstDifference(lists["gateway"], lists["straight"]), fake.FirstDifference(lists["gateway"], wanted))
			}
			// fsutil's receiver walks its directory while it writes there: of a name whose link to a changed file it has just
			// cut it may find that nothing is to be asked, straight or not.
			if bytes["gateway"] > bytes["straight"] && (step == 0 || files["gateway"] > files["straight"]+unasked) {
				t.Fatalf("seed %d, change %d: the client was asked for %d files and %d bytes, straight for %d and %d", seed, step,
					files["gateway"], bytes["gateway"], files["straight"], bytes["straight"])
			}
			if rig.Has(rig.Broker) {
				into := fmt.Sprintf("%d-fresh-%d", round, step)
				tree.Asked()
				send(t, clients["gateway"], tree, into)
				files, bytes := tree.Asked()
				// What the receiver above did not ask for nobody has asked for before.
				if files > unasked {
					t.Fatalf("seed %d, change %d: an empty receiver cost the client %d files, %d bytes: %s", seed, step, files, bytes,
						gateway.Process().Log().Tail())
				}
				// In it directories' times are the sender's too.
				wanted, err := fake.Listing(tree, true)
				if err != nil {
					t.Fatal(err)
				}
				if got := mustList(t, filepath.Join(directory, into), true); got != wanted {
					t.Fatalf("seed %d, change %d: an empty receiver differs in\n%s", seed, step, fake.FirstDifference(got, wanted))
				}
				if err := os.RemoveAll(filepath.Join(directory, into)); err != nil {
					t.Fatal(err)
				}
				tree.Asked() // what the listing read
				send(t, clients["gateway"], tree, into)
				if files, bytes := tree.Asked(); files != 0 {
					t.Fatalf("seed %d, change %d: a second empty receiver cost the client %d bytes", seed, step, bytes)
				}
				if err := os.RemoveAll(filepath.Join(directory, into)); err != nil {
					t.Fatal(err)
				}
			}
			tree.Change(random, 1+random.IntN(10))
		}
	}
}
