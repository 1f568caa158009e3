package interop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// Another fresh daemon: no file content is asked of the client, and the daemon has all the same.
func TestAnotherDaemonCostsTheClientNothing(t *testing.T) {
	t.Parallel()
	needs(t, rig.Broker)
	first, here := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(first.Address, 4)}})
	tree := bulk(300, 50_000)
	send(t, connect(t, gateway.Address), tree, "one")
	tree.Asked()
	// Another client process with the same shared key, another empty directory at the daemon.
	send(t, connect(t, gateway.Address), tree, "two")
	if files, bytes := tree.Asked(); files != 0 || bytes != 0 {
		t.Errorf("the client was asked for %d files, %d bytes", files, bytes)
	}
	if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(here, "two"), true) != wanted {
		t.Error("another tree")
	}
	tree.Asked() // the listing has read it too
	// One changed file: that one alone.
	tree.File("da/new", 70_000, 77, 99)
	send(t, connect(t, gateway.Address), tree, "three")
	if files, bytes := tree.Asked(); files != 1 || bytes != 70_000 {
		t.Errorf("one file changed, and the client was asked for %d files, %d bytes", files, bytes)
	}
}

// The same shared key is only half of what is trusted: the directory's name in the build is the other.
func TestOtherDirectoriesAreNotTrusted(t *testing.T) {
	t.Parallel()
	needs(t, rig.Broker)
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		directory := b.Request.FrontendAttrs["into"]
		return b.Receive(ctx, directory, fake.Sync{Name: b.Request.FrontendAttrs["name"]})
	})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	// Entries that look the same and are not: same path, size and time, other content.
	one, other := fake.NewTree(), fake.NewTree()
	one.File("f", 5000, 1, 1)
	other.File("f", 5000, 2, 1)
	base := rig.Directory(t)
	build := func(key, name string, tree *fake.Tree, into string) {
		c := connect(t, gateway.Address)
		c.SharedKey = key
		ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
		defer cancel()
		into = filepath.Join(base, into)
		if _, err := c.Build(ctx, map[string]fsutil.FS{name: tree}, map[string]string{"name": name, "into": into}); err != nil {
			t.Fatal(err)
		}
		if wanted, _ := fake.Listing(tree, true); mustList(t, into, true) != wanted {
			t.Errorf("key %q, name %q: another client's content", key, name)
		}
	}
	build("app:1", "context", one, "a")
	build("app:2", "context", other, "b") // another node
	build("app:1", "second", other, "c")  // another named context
	build("", "context", one, "d")        // no key: never trusted
	build("", "context", other, "e")
}

// Ten builds of one directory at once: the client's bytes cross once.
func TestParallelBuildsUploadOnce(t *testing.T) {
	t.Parallel()
	needs(t, rig.Broker)
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 10)}})
	tree := bulk(200, 100_000)
	var all sync.WaitGroup
	for i := range 10 {
		c := connect(t, gateway.Address)
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
	if _, bytes := tree.Asked(); float64(bytes) > 1.02*float64(tree.Size()) {
		t.Errorf("the client was asked for %d bytes, of a tree of %d", bytes, tree.Size())
	}
	wanted, _ := fake.Listing(tree, true)
	for i := range 10 {
		if mustList(t, filepath.Join(directory, fmt.Sprint(i)), true) != wanted {
			t.Errorf("build %d has another tree", i)
		}
	}
}

// overtaking is two builds of one directory, one of which goes ahead: the client is read only when both have asked for all, and
// the one behind takes no content before the other has ended.
type overtaking struct {
	ctx                  context.Context
	ahead, behind, ended chan struct{} // it has asked for all, the other one has; the one ahead has ended
}

func (o *overtaking) await(event chan struct{}) {
	select {
	case <-event:
	case <-o.ctx.Done():
	}
}

// sync is how so many files are received by the one that tells by `asked` that it has asked for them.
func (o *overtaking) sync(asked chan struct{}, count int) fake.Sync {
	return fake.Sync{
		Sent: func(packet *types.Packet) {
			if packet.Type != types.PACKET_REQ {
				return
			}
			if count--; count == 0 {
				close(asked)
			}
		},
		Received: func(packet *types.Packet) {
			if packet.Type == types.PACKET_DATA && asked == o.behind {
				o.await(o.ended)
			}
		},
	}
}

// What a build did not know when it was asked for it, and another one brought while it waited for its turn, it knows when its turn
// comes: each file is read of one client, once. So also when the gateway believes to have what its store has lost; then it may be
// that the one does not find a file in the very moment in which the other brings it.
func TestFilesThatWaitAreNotReadAgain(t *testing.T) {
	t.Parallel()
	needs(t, rig.Broker)
	const count = 3000 // three times what a call has under way
	tree, directory := bulk(count, 2000), rig.Directory(t)
	wanted, err := fake.Listing(tree, true)
	if err != nil {
		t.Fatal(err)
	}
	var both overtaking
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		into, asked := b.Request.FrontendAttrs["into"], both.ahead
		if strings.HasPrefix(into, "behind") {
			asked = both.behind
		}
		return b.Receive(ctx, filepath.Join(directory, into), both.sync(asked, count))
	})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 2)}})
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	build := func(c *fake.Client, into string) {
		if _, err := c.Build(ctx, map[string]fsutil.FS{"context": tree}, map[string]string{"into": into}); err != nil {
			t.Errorf("%s: %v", into, err)
		} else if got := mustList(t, filepath.Join(directory, into), true); got != wanted {
			t.Errorf("%s: %s", into, fake.FirstDifference(got, wanted))
		}
	}
	tree.Gate = func() { both.await(both.behind) }
	for _, round := range []struct {
		store string
		most  int64 // files that are read
	}{{"empty", count}, {"lost", count + count/50}} {
		if round.store == "lost" {
			gateway.Stop(t)
			for _, lost := range []string{"segments", "index", "scopes", "format"} {
				if err := os.RemoveAll(filepath.Join(gateway.Store, lost)); err != nil {
					t.Fatal(err)
				}
			}
			gateway.Resume(t)
		}
		both = overtaking{ctx: ctx, ahead: make(chan struct{}), behind: make(chan struct{}), ended: make(chan struct{})}
		tree.Asked()
		ahead, behind := connect(t, gateway.Address), connect(t, gateway.Address)
		var all sync.WaitGroup
		all.Go(func() {
			build(ahead, "ahead-"+round.store)
			close(both.ended)
		})
		both.await(both.ahead)
		build(behind, "behind-"+round.store)
		all.Wait()
		if files, bytes := tree.Asked(); files < count || files > round.most || bytes > round.most*2000 {
			t.Errorf("store %s: the client was asked for %d files, %d bytes, of a tree of %d", round.store, files, bytes, count)
		}
	}
}

// A file whose length is not what its entry said, as when it is written to meanwhile: the daemon gets what came, and no later
// build is given it as that entry's content.
func TestFilesThatChangeWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	needs(t, rig.Broker)
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	tree := fake.NewTree()
	tree.File("f", 100_000, 1, 1)
	tree.Cut("f", 40_000)
	send(t, connect(t, gateway.Address), tree, "short")
	tree.Asked()
	tree.Cut("f", 100_000)
	send(t, connect(t, gateway.Address), tree, "whole")
	if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(directory, "whole"), true) != wanted {
		t.Error("the short content was kept for the whole")
	}
}
