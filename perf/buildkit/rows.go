package main

import (
	"context"
	"fmt"
	"io"
	gofs "io/fs"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	bk "github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

var background = context.Background()

// name of a row that is measured with the tree: rows of a part of it (--files) stand beside those of all of it.
func (b *bench) name(what string) string {
	return fmt.Sprintf("%s, %d files, %.2f GB", what, b.files, float64(b.bytes)/1e9)
}

// A cold build: empty daemon, empty store.
func cold(b *bench) {
	s, names := newSite(b), []string{"straight", "sluice"}
	if b.before != "" {
		names = append(names, "before")
		s.newBefore()
	}
	ways := table.Interleave(b.pairs, names, func(way string) table.Sample {
		s.daemons[way].Refresh(b.scope)
		switch way {
		case "sluice":
			s.newGateway()
		case "before":
			s.newBefore()
		}
		s.awaitReady(way)
		return s.build(way)
	})
	for _, way := range names[1:] {
		b.reportCopies(way, s.gatewayOf(way))
	}
	b.Report(b.name("cold build"), ways,
		table.AtMost("context step, sluice / straight", table.Ratio(ways, "sluice", "straight", table.Wall), 1.15),
		table.AtMost("gateway's CPU seconds per GB", table.Least(ways["sluice"].Column(table.Gateway))/(float64(b.bytes)/1e9), 3.5))
}

// reportCopies tells how often a gateway's last build copied what came from the client: between its calls and into blocks that
// are hashed, into and out of the messages that carry sessions, into the store's write slots, and before the socket (each byte for
// the daemon once, when there is no TLS). The admin port tells it a second later.
func (b *bench) reportCopies(way string, gateway *rig.Gateway) {
	for range 2 {
		gateway.Gauges(b.scope)
	}
	metrics := gateway.Metrics(b.scope)
	content := metrics["sluice_context_bytes_from_clients_total"]
	b.Note("%s copies a byte of content: broker %.2f, session %.2f, store %.2f, socket %.2f", way,
		metrics["sluice_copied_bytes_broker_total"]/content, metrics["sluice_copied_bytes_session_total"]/content,
		metrics["sluice_store_new_bytes_total"]/content, metrics["sluice_context_bytes_to_executors_total"]/content)
}

// Nothing changed, but the daemon is another, fresh one.
func other(b *bench) {
	s := newSite(b)
	s.build("sluice")
	ways := table.Interleave(b.pairs, []string{"straight", "sluice", "floor"}, func(way string) table.Sample {
		s.daemons[way].Refresh(b.scope)
		s.awaitReady(way)
		if way == "floor" {
			return s.floor()
		}
		return s.build(way)
	})
	counted := newCounted(b)
	counted.build(s.gateway.Address)
	s.daemons["sluice"].Refresh(b.scope)
	s.awaitReady("sluice")
	counted.bytes.Store(0)
	counted.build(s.gateway.Address)
	b.Report(b.name("no change, another fresh daemon"), ways,
		table.AtMost("content bytes asked of the client", float64(counted.bytes.Load()), 0),
		table.AtMost("context step, sluice / floor", table.Ratio(ways, "sluice", "floor", table.Wall), 1.05),
		table.AtMost("context step, sluice / straight", table.Ratio(ways, "sluice", "straight", table.Wall), 1),
		table.AtMost("client's CPU, sluice / straight", table.Ratio(ways, "sluice", "straight", table.Client), 0.4))
}

// Nothing changed, and the daemon knows it.
func same(b *bench) {
	s := newSite(b)
	for _, way := range []string{"straight", "sluice"} {
		s.build(way)
	}
	ways := table.Interleave(b.pairs, []string{"straight", "sluice"}, func(way string) table.Sample { return s.build(way) })
	b.Report(b.name("no change, same daemon"), ways,
		table.AtMost("context step, sluice / straight", table.Ratio(ways, "sluice", "straight", table.Wall), 1.15))
}

// Ten builds of one directory at once, with nothing in the store: how often do the client's bytes cross?
func parallel(b *bench) {
	s := newSite(b)
	counted := newCounted(b)
	var all sync.WaitGroup
	began := time.Now()
	for range 10 {
		all.Add(1)
		go func() {
			defer all.Done()
			counted.build(s.gateway.Address)
		}()
	}
	all.Wait()
	b.Figure("until the last has ended", time.Since(began).Seconds(), "s")
	b.Figure("CPU of the gateway", rig.CPUSeconds(s.gateway.Process().Pid()), "s")
	b.Figure("CPU of the daemon", rig.CPUSeconds(s.daemons["sluice"].Process().Pid()), "s")
	b.reportSources(s.gateway)
	b.Report(b.name("10 parallel builds of one directory"), nil,
		table.AtMost("client's content bytes, of one build", float64(counted.bytes.Load())/float64(b.bytes), 1.02))
}

// reportSources tells where the content came from that daemons asked for, recipes included: what they ask for again, as each build does
// of its own, is to come from the store. The admin port tells it a second later.
func (b *bench) reportSources(gateway *rig.Gateway) {
	for range 2 {
		gateway.Gauges(b.scope)
	}
	metrics := gateway.Metrics(b.scope)
	for _, figure := range []struct{ name, metric string }{
		{"files asked of the client", "files_fetched_total"},
		{"files asked for while another build fetched them", "files_joined_total"},
		{"files given from the store", "files_played_total"},
	} {
		b.Figure(figure.name, metrics["sluice_context_"+figure.metric], "")
	}
	for _, figure := range []struct{ name, metric string }{
		{"content from the client", "bytes_from_clients_total"},
		{"content from the store", "bytes_from_store_total"},
		{"content to the daemon", "bytes_to_executors_total"},
	} {
		b.Figure(figure.name, metrics["sluice_context_"+figure.metric]/1e6, "MB")
	}
}

// A trivial build, all cached: the whole command.
func latency(b *bench) {
	s := newSite(b)
	trivial := rig.Directory(b.scope)
	fakeless := func(way string) table.Sample {
		return s.measure(way, s.command("buildx", "build", "--builder", way, "--progress", "rawjson", "-f", s.recipe, trivial), table.WholeSeconds)
	}
	for _, way := range []string{"straight", "sluice"} {
		fakeless(way)
	}
	ways := table.Interleave(b.pairs, []string{"straight", "sluice"}, fakeless)
	b.Report("a cached trivial build", ways, table.AtMost("whole command, sluice / straight", table.Ratio(ways, "sluice", "straight", table.Wall), 1.15))
}

// What the gateway adds before a daemon hears of a build: from the client's Solve to the daemon's, many times.
func lease(b *bench) {
	arrivals := make(chan time.Time, 1)
	daemon, err := fake.NewDaemon("", func(ctx context.Context, build *fake.Build) error {
		arrivals <- time.Now()
		// A session that ends before it has begun makes the client wait for a second.
		return build.CheckSession(ctx)
	})
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
	defer daemon.Kill()
	gateway := rig.NewGateway(b.scope, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	delays := map[string][]float64{}
	addresses := map[string]string{"straight": daemon.Address, "sluice": gateway.Address}
	clients := map[string]*fake.Client{}
	for way, address := range addresses {
		if clients[way], err = fake.Connect(background, address); err != nil {
			b.scope.Fatalf("%v", err)
		}
		defer clients[way].Close()
	}
	for range 300 {
		for way := range addresses {
			began := time.Now()
			if _, err := clients[way].Build(background, nil, nil); err != nil {
				b.scope.Fatalf("%v", err)
			}
			delays[way] = append(delays[way], (<-arrivals).Sub(began).Seconds()*1000)
		}
	}
	for _, values := range delays {
		sort.Float64s(values)
	}
	added := table.Median(delays["sluice"]) - table.Median(delays["straight"])
	fmt.Printf("\nfrom Solve to Solve: straight min %.3f ms, median %.3f; sluice min %.3f, median %.3f\n", table.Least(delays["straight"]),
		table.Median(delays["straight"]), table.Least(delays["sluice"]), table.Median(delays["sluice"]))
	b.Report("a lease on a warm executor", nil, table.AtMost("milliseconds that the gateway adds (medians)", added, 1))
}

// What one running build takes of the gateway's memory when its daemon stops taking anything: its entries wait, too.
func memory(b *bench) {
	const entries, size = 100_000, 1000
	stuck, release := make(chan struct{}), make(chan struct{})
	into, packets := rig.Directory(b.scope), 0
	daemon, err := fake.NewDaemon("", func(ctx context.Context, build *fake.Build) error {
		if build.Request.FrontendAttrs["small"] != "" {
			return build.Receive(ctx, filepath.Join(into, "small"), fake.Sync{})
		}
		return build.Receive(ctx, filepath.Join(into, "large"), fake.Sync{Pace: func() {
			if packets++; packets == 2000 {
				close(stuck)
				<-release
			}
		}})
	})
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
	defer daemon.Kill()
	gateway := rig.NewGateway(b.scope, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 4)}})
	c, err := fake.Connect(background, gateway.Address)
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
	defer c.Close()
	// What the first build of all costs (buffers, code) is no build's own.
	small := fake.NewTree()
	small.File("f", 3<<20, 1, 1)
	if _, err := c.Build(background, map[string]fsutil.FS{"context": small}, map[string]string{"small": "yes"}); err != nil {
		b.scope.Fatalf("%v", err)
	}
	before := gateway.Metrics(b.scope)["sluice_resident_bytes"]
	tree := fake.NewTree()
	for i := range entries {
		tree.File(fmt.Sprintf("d%d/f%d", i/500, i), size, uint64(i)+1, int64(i))
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Build(background, map[string]fsutil.FS{"context": tree}, nil)
		ended <- err
	}()
	select {
	case <-stuck:
	case err := <-ended:
		b.scope.Fatalf("it ended: %v", err)
	}
	grew := settled(b, gateway) - before
	close(release)
	if err := <-ended; err != nil {
		b.scope.Fatalf("%v", err)
	}
	b.Report("memory of a running build", nil,
		table.AtMost(fmt.Sprintf("MB, with %d entries", tree.Len()), grew/1e6, (4<<20+128*float64(tree.Len()))/1e6))
}

// settled is what the gateway has in memory once that has stayed the same for a while: the client has said all that it is let say.
func settled(b *bench, gateway *rig.Gateway) float64 {
	last, same := 0.0, 0
	for end := time.Now().Add(60 * time.Second); same < 4 && time.Now().Before(end); time.Sleep(time.Second) {
		now := gateway.Metrics(b.scope)["sluice_resident_bytes"]
		if same++; now != last {
			last, same = now, 0
		}
	}
	return last
}

// counted is a client whose reads of the tree are counted: what it was asked for.
type counted struct {
	b     *bench
	fs    fsutil.FS
	bytes atomic.Int64
}

func newCounted(b *bench) *counted {
	fs, err := fsutil.NewFS(b.tree)
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
	return &counted{b: b, fs: fs}
}

// build is one of the tree, by a connection of its own.
func (c *counted) build(address string) {
	client, err := bk.New(background, "tcp://"+address)
	if err != nil {
		c.b.scope.Fatalf("%v", err)
	}
	defer client.Close()
	recipe := fake.Text("Dockerfile", dockerfile)
	if _, err := client.Solve(background, nil, bk.SolveOpt{Frontend: "dockerfile.v0", SharedKey: "tree:counted",
		LocalMounts: map[string]fsutil.FS{"context": c, "dockerfile": recipe}}, nil); err != nil {
		c.b.scope.Fatalf("%v", err)
	}
}

func (c *counted) Walk(ctx context.Context, target string, fn gofs.WalkDirFunc) error {
	return c.fs.Walk(ctx, target, fn)
}

func (c *counted) Open(path string) (io.ReadCloser, error) {
	file, err := c.fs.Open(path)
	return &countedFile{file, c}, err
}

type countedFile struct {
	io.ReadCloser
	counted *counted
}

func (f *countedFile) Read(data []byte) (int, error) {
	n, err := f.ReadCloser.Read(data)
	f.counted.bytes.Add(int64(n))
	return n, err
}

// awaitReady waits until daemons that are back have settled and the gateway takes its one for healthy. It takes as long
// whichever way is measured next: two of the copies that the admin port tells, the first of which may be from before.
func (s *site) awaitReady(way string) {
	gateway := s.gatewayOf(way)
	for range 2 {
		gateway.Gauges(s.b.scope)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		ready, known := gateway.Metrics(s.b.scope)["sluice_executors_ready"]
		if !known || ready >= 1 {
			return
		}
		if time.Now().After(end) {
			s.b.scope.Fatalf("the gateway does not find its daemon healthy")
		}
	}
}
