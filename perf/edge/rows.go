package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	bk "github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

const large = "big.bin"

// Nothing changed, and everybody knows it.
func same(b *bench, shape rig.Shape) {
	s := newSite(b, shape, b.mtime)
	defer s.close()
	s.build("edge", b.tree)
	s.build("edge", b.tree) // with what the first one taught it
	// Over a slow line what makes the straight daemon know the tree would take longer than all else: it learns it beside the line.
	s.teachStraight()
	ways := table.Interleave(b.pairs, []string{"straight", "edge"}, func(way string) table.Sample { return s.build(way, b.tree) })
	limits := []table.Limit{}
	if s.shaped() {
		limits = append(limits, table.AtMost("bytes besides forwarded calls", table.Median(ways["edge"].Column(table.Bytes))-s.forwarded(false), 8<<10))
	}
	ratio := table.Ratio(ways, "edge", "straight", table.Wall)
	switch {
	case !s.shaped():
		limits = append(limits, table.AtMost("context step, edge / straight", ratio, 1.3))
	case shape.Megabits < 100:
		s.floor()
		for range b.pairs {
			ways["floor"] = append(ways["floor"], s.floor())
		}
		walk := walkSeconds(b.scope, b.tree)
		b.Note("walk %.3f s", walk)
		limits = append(limits, table.AtMost("context step, edge / straight", ratio, 1),
			table.AtMost("context step, seconds; most: floor + walk + 4 round trips", table.Least(ways["edge"].Column(table.Wall)),
				table.Least(ways["floor"].Column(table.Wall))+walk+4*shape.RoundTrip.Seconds()))
	default:
		limits = append(limits, table.AtMost("context step, edge / straight", ratio, 1.3))
	}
	b.Report(s.name("no change"), ways, limits...)
}

// teachStraight builds the tree at the straight daemon without the line.
func (s *site) teachStraight() {
	if s.shaped() {
		s.home.MustRun(s.b.scope, "buildx", "rm", "straight")
		s.home.AddBuilder(s.b.scope, "straight", "tcp://"+s.straight.Address)
	}
	direct := s.home.Command(context.Background(), "buildx", "build", "--builder", "straight", "-f", s.recipe, s.b.tree)
	if out, err := direct.CombinedOutput(); err != nil {
		s.b.scope.Fatalf("%v: %s", err, out)
	}
	if s.shaped() {
		s.home.MustRun(s.b.scope, "buildx", "rm", "straight")
		s.home.AddBuilder(s.b.scope, "straight", "tcp://"+s.straightWire.Address)
	}
}

// A fresh checkout on a new runner; the gateway has the tree. Both settings of mtime.
func fresh(b *bench, shape rig.Shape) {
	for _, mtime := range []string{"stable", "client"} {
		runner(b, shape, mtime, "fresh checkout, new runner", func(string, *rand.Rand) int64 { return 0 },
			map[string]float64{"stable": 16 << 10, "client": 16<<10 + 5*float64(b.entries)}[mtime])
	}
}

// The same, and ten small files differ in ten directories.
func ten(b *bench, shape rig.Shape) {
	runner(b, shape, b.mtime, "fresh checkout, new runner, ten files differ", func(tree string, random *rand.Rand) int64 {
		return editTen(b.scope, tree, random)
	}, 128<<10)
}

// runner measures builds by machines that know nothing, of trees whose times are all new. `change` makes of the tree what it is
// to be, and tells how many bytes of content that is.
func runner(b *bench, shape rig.Shape, mtime, what string, change func(tree string, random *rand.Rand) int64, most float64) {
	s := newSite(b, shape, mtime)
	defer s.close()
	random := rand.New(rand.NewPCG(b.seed, 0))
	tree := copyTree(b.scope, b.tree)
	defer os.RemoveAll(filepath.Dir(tree))
	s.build("edge", tree)
	changed, played, since := []int64{}, []float64{}, int64(0)
	names := []string{"edge"}
	if straight := b.lasts(shape, b.content); straight <= b.straightMost {
		names = append(names, "straight")
		s.build("straight", tree)
	} else {
		b.Note("straight left out: it would send the tree for %.0f s", straight.Seconds())
	}
	ways := table.Interleave(b.pairs, names, func(way string) table.Sample {
		s.newRunner()
		since += change(tree, random) // the edge's daemon has not seen what changed for a straight build either
		touch(b.scope, tree, random)
		before := s.played()
		sample := s.build(way, tree)
		if way == "edge" {
			changed, played, since = append(changed, since), append(played, s.played()-before), 0
		}
		return sample
	})
	limits := []table.Limit{}
	if s.shaped() {
		forwarded, bytes := s.forwarded(true), table.Series{}
		for i, sample := range ways["edge"] {
			sample.Down, sample.Up = 0, sample.Up+sample.Down-changed[i]
			bytes = append(bytes, sample)
		}
		limits = append(limits, table.AtMost("bytes besides forwarded calls and changed content", table.Median(bytes.Column(table.Bytes))-forwarded, most))
	}
	if mtime == "stable" {
		worst := 0.0
		for i := range played {
			// A Dockerfile is asked for each time: buildkitd compares nothing there.
			worst = max(worst, played[i]-float64(changed[i])-float64(len(dockerfile)))
		}
		limits = append(limits, table.AtMost("content bytes to the daemon, besides Dockerfile and what changed", worst, 0))
	}
	b.Report(s.name(what), ways, limits...)
}

// played is how much content the gateway has given its daemon.
func (s *site) played() float64 {
	s.gateway.Gauges(s.b.scope) // numbers from after this moment
	metrics := s.gateway.Metrics(s.b.scope)
	return metrics["sluice_context_bytes_from_store_total"] + metrics["sluice_context_bytes_from_clients_total"]
}

// One byte is inserted at a random place of the large file, again and again.
func insert(b *bench, shape rig.Shape) {
	s := newSite(b, shape, b.mtime)
	defer s.close()
	random := rand.New(rand.NewPCG(b.seed, 1))
	tree := copyTree(b.scope, b.tree)
	defer os.RemoveAll(filepath.Dir(tree))
	s.build("edge", tree)
	file := filepath.Join(tree, large)
	info, err := os.Stat(file)
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
	names := []string{"edge"}
	if b.lasts(shape, info.Size())*time.Duration(b.places) <= b.straightMost {
		names = append(names, "straight")
		s.build("straight", tree)
	}
	ways := table.Interleave(b.places, names, func(way string) table.Sample {
		insertByte(b.scope, file, random)
		return s.build(way, tree)
	})
	forwarded := s.forwarded(false)
	bytes := ways["edge"].Column(table.Bytes)
	b.Report(s.name(fmt.Sprintf("one byte inserted into %.0f MB", float64(info.Size())/1e6)), ways,
		table.AtMost("kB besides forwarded calls, median", (table.Median(bytes)-forwarded)/1e3, 300),
		table.AtMost("kB besides forwarded calls, worst", (table.Most(bytes)-forwarded)/1e3, 400))
}

// The next real version of the tree, in the place of the one before as a checkout puts it there, against rsync to a server that
// has the one before.
func version(b *bench, shape rig.Shape) {
	if b.next == "" {
		b.scope.Errorf("no --next: the row of versions is left out")
		return
	}
	tree := copyTree(b.scope, b.tree)
	next := copyTree(b.scope, b.next)
	defer os.RemoveAll(filepath.Dir(tree))
	defer os.RemoveAll(filepath.Dir(next))
	if b.keepTimes {
		unchanged, changed := keepTimes(b.scope, tree, next)
		b.Note("%d entries are as they were, and have their times; %d differ", unchanged, changed)
	}
	s := newSite(b, shape, b.mtime)
	defer s.close()
	server := newRsync(b, s.link)
	ways := table.Interleave(b.pairs, []string{"edge", "rsync"}, func(way string) table.Sample {
		if way == "rsync" {
			return server.push(s, tree, next)
		}
		s.behind.Refresh(b.scope)
		s.renew()
		s.build("edge", tree)
		exchange(b.scope, tree, next)
		defer exchange(b.scope, tree, next)
		return s.build("edge", tree)
	})
	b.Report(s.name("the next version"), ways,
		table.AtMost("bytes, edge / rsync", table.Ratio(ways, "edge", "rsync", table.Bytes), 1.15),
		table.AtMost("seconds, edge / rsync", table.Ratio(ways, "edge", "rsync", table.Wall), 1))
}

// exchange has two directories change places.
func exchange(scope rig.Scope, a, b string) {
	aside := a + ".aside"
	for _, step := range [][2]string{{a, aside}, {b, a}, {aside, b}} {
		if err := os.Rename(step[0], step[1]); err != nil {
			scope.Fatalf("%v", err)
		}
	}
}

// rsyncServer is an rsync daemon at the far end.
type rsyncServer struct {
	b         *bench
	directory string
	wire      *rig.Proxy
}

func newRsync(b *bench, link *rig.Link) *rsyncServer {
	r := &rsyncServer{b: b, directory: rig.Directory(b.scope)}
	address := rig.FreeAddress(b.scope)
	_, port, _ := net.SplitHostPort(address)
	settings := fmt.Sprintf("address = 127.0.0.1\nport = %s\nuse chroot = no\n[tree]\npath = %s/tree\nread only = no\nuid = 0\ngid = 0\n",
		port, r.directory)
	file := filepath.Join(r.directory, "rsyncd.conf")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		b.scope.Fatalf("%v", err)
	}
	rig.Start(b.scope, "rsync", "--daemon", "--no-detach", "--config", file).Await(b.scope, address)
	r.wire = link.To(b.scope, address)
	return r
}

// push brings the server from the one tree to the other.
func (r *rsyncServer) push(s *site, from, to string) table.Sample {
	there := filepath.Join(r.directory, "tree")
	if out, err := exec.Command("rsync", "-a", "--delete", from+"/", there).CombinedOutput(); err != nil {
		r.b.scope.Fatalf("%v: %s", err, out)
	}
	entered := s.link.Enter([]string{"rsync", "-a", "-z", "--no-whole-file", "--delete", to + "/", "rsync://" + r.wire.Address + "/tree"})
	before := r.wire.Counts()
	sample := s.measure("rsync", exec.Command(entered[0], entered[1:]...), table.WholeSeconds)
	counts := r.wire.Counts().Since(before)
	sample.Up, sample.Down = counts.Up, counts.Down
	return sample
}

// A cold build: nobody has anything.
func cold(b *bench, shape rig.Shape) {
	s := newSite(b, shape, b.mtime)
	defer s.close()
	ways := table.Interleave(b.pairsOver(shape, b.content), []string{"straight", "edge"}, func(way string) table.Sample {
		if way == "straight" {
			s.straight.Refresh(b.scope)
			s.newHome()
		} else {
			s.behind.Refresh(b.scope)
			s.renew()
		}
		return s.build(way, b.tree)
	})
	most := 1.0
	if !s.shaped() {
		most = 1.25
	}
	b.Report(s.name("cold"), ways, table.AtMost("context step, edge / straight", table.Ratio(ways, "edge", "straight", table.Wall), most))
}

// The line is cut at random bytes of one push and of one cold build.
func cuts(b *bench, shape rig.Shape) {
	s := newSite(b, shape, b.mtime)
	defer s.close()
	push := func() table.Sample {
		s.renew()
		home := rig.Directory(b.scope)
		entered := s.link.Enter([]string{rig.Setting(b.scope, "SLUICE_BINARY"), "push", "--gateway", "grpc://" + s.wire.Address, "--conns", "2",
			"--progress", "quiet", "--no-ignore", b.tree})
		command := exec.Command(entered[0], entered[1:]...)
		command.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_STATE_HOME="+home)
		return s.measure("edge", command, table.WholeSeconds)
	}
	build := func() table.Sample {
		s.behind.Refresh(b.scope)
		s.renew()
		return s.build("edge", b.tree)
	}
	for _, way := range []struct {
		name string
		run  func(cutting bool) table.Sample
	}{{"push", cutting(b, s, push)}, {"build", cutting(b, s, build)}} {
		s.failed = false
		whole, cut := way.run(false), way.run(true)
		hit, failures := 0, 0.0
		if s.failed {
			failures = 1
		}
		for _, hits := range s.wire.Counts().Cuts {
			if hits.Up+hits.Down > 0 {
				hit++
			}
		}
		b.Note("whole: %.0f bytes in %.1f s; cut %d times: %.0f bytes in %.1f s", table.Bytes(whole), whole.Wall, hit, table.Bytes(cut), cut.Wall)
		// Two whole runs differ by a few thousandths in what they compress together.
		again := max(0, 100*(table.Bytes(cut)/table.Bytes(whole)-1))
		b.Report(s.name(way.name+", the line is cut"), map[string]table.Series{"edge": {cut}},
			table.AtMost("failures", failures, 0),
			table.AtMost("cuts that hit nothing in flight, or did not come", float64(b.cuts-hit), 0),
			table.AtMost("bytes sent again, %", again, 2))
	}
}

// cutting makes of a run one that can be cut; how far apart is learned of the whole one that comes first.
func cutting(b *bench, s *site, run func() table.Sample) func(bool) table.Sample {
	passed := int64(0)
	return func(cut bool) table.Sample {
		s.cutEvery = 0
		if cut {
			s.cutEvery = passed / int64(b.cuts+b.cuts/4+1)
		}
		sample := run()
		passed = sample.Up + sample.Down
		return sample
	}
}

// Edges of one tenant push one commit at once: what the gateway receives, of what one of them sends. One alone finds that the line
// outruns its core, and compresses nothing; many do not: so blobs are also counted as they are unpacked.
func edges(b *bench, shape rig.Shape) {
	daemon, err := fake.NewDaemon("", func(ctx context.Context, build *fake.Build) error { return build.Skim(ctx) })
	if err != nil {
		b.scope.Fatalf("%v", err)
	}
	defer daemon.Kill()
	up, blobs := map[int]float64{}, map[int]float64{}
	for _, count := range []int{1, b.edges} {
		gateway := rig.NewGateway(b.scope, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 16)}})
		wire := rig.NewProxy(b.scope, nil, gateway.Address, 0)
		list := []*rig.Edge{}
		for range count {
			list = append(list, rig.NewEdge(b.scope, rig.EdgeOptions{Upstream: wire.Address, Mtime: b.mtime}))
		}
		before, began := wire.Counts(), time.Now()
		var all sync.WaitGroup
		for i, edge := range list {
			all.Add(1)
			go func() {
				defer all.Done()
				if err := pushContext(edge.Address(), b.tree, i); err != nil {
					b.scope.Errorf("edge %d: %v: %s", i, err, edge.Process().Log().Tail())
				}
			}()
		}
		all.Wait()
		took := time.Since(began).Seconds()
		up[count] = float64(wire.Counts().Since(before).Up)
		gateway.Gauges(b.scope) // numbers from after this moment
		blobs[count] = gateway.Metrics(b.scope)["sluice_blobs_received_bytes_total"]
		b.Note("%d at once: %.1f s, %.0f bytes to the gateway, %.0f of blobs; its CPU %.1f s", count, took, up[count], blobs[count],
			rig.CPUSeconds(gateway.Process().Pid()))
		for _, edge := range list {
			edge.Stop(b.scope)
			os.RemoveAll(edge.Store)
		}
		gateway.Stop(b.scope)
		os.RemoveAll(gateway.Store)
	}
	b.Report(fmt.Sprintf("%d edges push one commit at once, mtime %s", b.edges, b.mtime), nil,
		table.AtMost("bytes to the gateway, of what one sends", up[b.edges]/up[1], 1.1),
		table.AtMost("of blobs, unpacked", blobs[b.edges]/blobs[1], 1.1))
}

// pushContext is a build whose daemon wants to know of the tree, and nothing of its content.
func pushContext(address, tree string, client int) error {
	connection, err := bk.New(context.Background(), address)
	if err != nil {
		return err
	}
	defer connection.Close()
	directory, err := fsutil.NewFS(tree)
	if err != nil {
		return err
	}
	_, err = connection.Solve(context.Background(), nil, bk.SolveOpt{Frontend: "fake.v0", SharedKey: fmt.Sprintf("tree:%d", client),
		LocalMounts: map[string]fsutil.FS{"context": directory}}, nil)
	return err
}

// What `explain` says of a push, against what the line counted: of the whole tree, of ten files, of nothing.
func explain(b *bench, shape rig.Shape) {
	s := newSite(b, shape, b.mtime)
	defer s.close()
	tree, home, random := copyTree(b.scope, b.tree), rig.Directory(b.scope), rand.New(rand.NewPCG(b.seed, 2))
	defer os.RemoveAll(filepath.Dir(tree))
	for _, what := range []string{"the whole tree", "ten files", "nothing"} {
		if what == "ten files" {
			editTen(b.scope, tree, random)
		}
		entered := s.link.Enter([]string{rig.Setting(b.scope, "SLUICE_BINARY"), "explain", "--gateway", "grpc://" + s.wire.Address, "--no-ignore",
			"--json", "--progress", "quiet", tree})
		command := exec.Command(entered[0], entered[1:]...)
		command.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_STATE_HOME="+home)
		var told struct {
			Bytes float64 `json:"bytes"`
		}
		sample := s.measure("edge", command, func(out []byte, took time.Duration) (float64, error) {
			return took.Seconds(), json.Unmarshal(out, &told)
		})
		b.Report(s.name("explain, "+what), map[string]table.Series{"edge": {sample}},
			table.AtMost("its total beside the line's counter, %", 100*difference(told.Bytes, table.Bytes(sample)), 1))
	}
}

func difference(one, other float64) float64 {
	if other == 0 {
		return 1
	}
	return max(one-other, other-one) / other
}
