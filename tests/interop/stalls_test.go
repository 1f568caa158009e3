package interop

import (
	"context"
	"fmt"
	"io"
	gofs "io/fs"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// bulk is a tree of `count` files of `size` bytes each.
func bulk(count int, size int64) *fake.Tree {
	tree := fake.NewTree()
	for i := range count {
		tree.File(fmt.Sprintf("d%d/f%d", i%50, i), size, uint64(i)+1, int64(i))
	}
	return tree
}

// A daemon that takes nothing of one transfer does not stall another call of the same session.
func TestSlowDaemonDoesNotStallItsSession(t *testing.T) {
	t.Parallel()
	directory := rig.Directory(t)
	stuck, release := make(chan struct{}), make(chan struct{})
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		slow, packets := make(chan error, 1), 0
		go func() {
			slow <- b.Receive(ctx, filepath.Join(directory, "slow"), fake.Sync{Pace: func() {
				if packets++; packets == 40 { // in the middle of the content
					close(stuck)
					<-release
				}
			}})
		}()
		select {
		case <-stuck:
		case err := <-slow:
			return fmt.Errorf("it did not get that far: %w", err)
		}
		// While that one stands, whole other transfers go through, many windows long.
		for _, into := range []string{"one", "two"} {
			if err := b.Receive(ctx, filepath.Join(directory, into), fake.Sync{Name: "other"}); err != nil {
				return err
			}
		}
		close(release)
		return <-slow
	})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	big, other := bulk(8, 8<<20), bulk(100, 300_000)
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	c := connect(t, gateway.Address)
	if _, err := c.Build(ctx, map[string]fsutil.FS{"context": big, "other": other}, nil); err != nil {
		t.Fatal(err)
	}
	for into, tree := range map[string]*fake.Tree{"slow": big, "one": other, "two": other} {
		if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(directory, into), true) != wanted {
			t.Errorf("%s: another tree", into)
		}
	}
}

// A client that sends nothing more does not stall the build of another one at the same daemon; once it is gone its build
// ends and nothing is left of it.
func TestHungClientDoesNotStallOthers(t *testing.T) {
	t.Parallel()
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	send(t, connect(t, gateway.Address), bulk(1, 10), "warm")
	before := gateway.Gauges(t)

	hung, reads, release := bulk(20, 1<<20), atomic.Int64{}, make(chan struct{})
	stuck := make(chan struct{})
	hung.Gate = func() {
		if reads.Add(1) == 10 {
			close(stuck)
		}
		if reads.Load() >= 10 {
			<-release
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	first, err := fake.Connect(ctx, gateway.Address)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := first.Build(ctx, map[string]fsutil.FS{"context": hung}, map[string]string{"into": "hung"})
		ended <- err
	}()
	select {
	case <-stuck:
	case err := <-ended:
		t.Fatalf("it did not get that far: %v", err)
	}
	second, err := fake.Connect(context.Background(), gateway.Address)
	if err != nil {
		t.Fatal(err)
	}
	second.SharedKey = "another:0123456789abcdef"
	tree := bulk(100, 100_000)
	send(t, second, tree, "other")
	second.Close()
	if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(directory, "other"), true) != wanted {
		t.Error("another tree")
	}
	cancel()
	first.Close()
	if err := <-ended; err == nil {
		t.Error("the hung build succeeded")
	}
	close(release)
	rig.Eventually(t, 20*time.Second, "the daemon has no build", func() bool { return daemon.Counts().Running == 0 })
	gateway.Settles(t, before)
}

// memoryBound: what a build may add to the gateway's memory when its daemon takes nothing: 4 MB of file bytes, 4 MB of its
// own, the windows of both connections and what the allocator keeps of them.
const memoryBound = 100 << 20

// A daemon that takes nothing while the client has hundreds of megabytes: the gateway does not keep them in memory.
func TestSlowDaemonCostsNoMemory(t *testing.T) {
	t.Parallel()
	directory := rig.Directory(t)
	stuck, release := make(chan struct{}), make(chan struct{})
	packets := 0
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		return b.Receive(ctx, filepath.Join(directory, "out"), fake.Sync{Pace: func() {
			if packets++; packets == 40 {
				close(stuck)
				<-release
			}
		}})
	})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	tree := bulk(30, 10_000_000)
	pid := gateway.Process().Pid()
	before := rig.ResidentMost(t, pid)
	ended := make(chan error, 1)
	c := connect(t, gateway.Address)
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	go func() {
		_, err := c.Build(ctx, map[string]fsutil.FS{"context": tree}, nil)
		ended <- err
	}()
	select {
	case <-stuck:
	case err := <-ended:
		t.Fatalf("it did not get that far: %v", err)
	}
	// Reading from the client goes on until it has no more, or the gateway has no more room: it stands still then.
	last := int64(-1)
	for still := 0; still < 5; time.Sleep(100 * time.Millisecond) {
		files, bytes := tree.Asked()
		if bytes+files == 0 && last >= 0 {
			still++
		} else {
			still = 0
		}
		last = bytes
	}
	close(release)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(directory, "out"), true) != wanted {
		t.Error("another tree")
	}
	if grew := rig.ResidentMost(t, pid) - before; grew > memoryBound && !rig.Sanitized() {
		t.Errorf("the gateway's memory grew by %d MB", grew>>20)
	}
}

// The whole size that CI has time for: 300 MB in 10,000 files; 5 GB in 100,000 in a soak.
func TestLargeContext(t *testing.T) {
	count, size := 10_000, int64(30_000)
	if rig.Soak() {
		count, size = 100_000, 50_000
	}
	daemon, directory := receiver(t, fake.Sync{})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	tree := bulk(count, size)
	c := connect(t, gateway.Address)
	began := time.Now()
	send(t, c, tree, "out")
	cold := time.Since(began)
	files, bytes := tree.Asked()
	if files != int64(count) || bytes != int64(count)*size {
		t.Errorf("the client was asked for %d files, %d bytes", files, bytes)
	}
	began = time.Now()
	send(t, c, tree, "out")
	t.Logf("%d files of %d bytes: %v, and %v when nothing had changed", count, size, cold, time.Since(began))
	if files, _ := tree.Asked(); files != 0 {
		t.Errorf("nothing changed and the client was asked for %d files", files)
	}
	if wanted, _ := fake.Listing(tree, true); mustList(t, filepath.Join(directory, "out"), true) != wanted {
		t.Error("another tree")
	}
}

// lateTree shows its first file, and the rest only when it is told to.
type lateTree struct {
	*fake.Tree
	release chan struct{}
}

func (l *lateTree) Walk(ctx context.Context, target string, fn gofs.WalkDirFunc) error {
	seen := 0
	return l.Tree.Walk(ctx, target, func(path string, entry gofs.DirEntry, err error) error {
		if seen++; seen == 3 { // a directory, a file in it, and then it stops
			<-l.release
		}
		return fn(path, entry, err)
	})
}

func (l *lateTree) Open(path string) (io.ReadCloser, error) { return l.Tree.Open(path) }

// Content may come before the list of entries has ended: a daemon asks as soon as it has heard of a file.
func TestContentBeforeTheListEnds(t *testing.T) {
	t.Parallel()
	directory := rig.Directory(t)
	tree := &lateTree{Tree: bulk(3, 1000), release: make(chan struct{})}
	released := false
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		return b.Receive(ctx, filepath.Join(directory, "out"), fake.Sync{Received: func(packet *types.Packet) {
			if packet.Type == types.PACKET_DATA && len(packet.Data) > 0 && !released {
				released = true
				close(tree.release)
			}
		}})
	})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	if _, err := connect(t, gateway.Address).Build(ctx, map[string]fsutil.FS{"context": tree}, nil); err != nil {
		t.Fatal(err)
	}
	if wanted, _ := fake.Listing(tree.Tree, true); mustList(t, filepath.Join(directory, "out"), true) != wanted {
		t.Error("another tree")
	}
}
