package interop

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tonistiigi/fsutil"

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
