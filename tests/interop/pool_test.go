package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// What the client's own progress says while its build waits: "[sluice] …", and in a bake "[target sluice] …".
const waitingVertex = "sluice] waiting for an executor"

// turnstile is a daemon whose builds each wait until they are let through.
type turnstile struct {
	*fake.Daemon
	pass chan struct{}
}

func newTurnstile(s rig.Scope) *turnstile {
	s.Helper()
	d := &turnstile{pass: make(chan struct{})}
	d.Daemon = fakeDaemon(s, func(ctx context.Context, b *fake.Build) error {
		if err := b.CheckSession(ctx); err != nil {
			return err
		}
		select {
		case <-d.pass:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return d
}

// begin starts a build of a client of its own; what it said and how it ended come by the channel.
func begin(s rig.Scope, ctx context.Context, address, key string) chan outcome {
	s.Helper()
	c := connect(s, address)
	c.SharedKey = key
	ended := make(chan outcome, 1)
	go func() {
		said, err := c.Build(ctx, map[string]fsutil.FS{"context": bulk(1, 10)}, nil)
		ended <- outcome{said, err}
	}()
	return ended
}

type outcome struct {
	said string
	err  error
}

// No more builds run at an executor than it has slots; the others wait, are told so, and all succeed.
func TestSlotsBoundBuilds(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	daemon := newTurnstile(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 2)}})
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	builds := []chan outcome{}
	for i := range 8 {
		builds = append(builds, begin(t, ctx, gateway.Address, fmt.Sprintf("k%d:0", i)))
	}
	waited := 0
	for range builds {
		daemon.pass <- struct{}{}
	}
	for _, build := range builds {
		ended := <-build
		if ended.err != nil {
			t.Error(ended.err)
		}
		if strings.Contains(ended.said, waitingVertex) {
			waited++
		}
	}
	if counts := daemon.Counts(); counts.RunningMost > 2 || counts.Solves != 8 {
		t.Errorf("%+v", counts)
	}
	// Those that found a slot at once are two; whoever came when one had just become free may be a third.
	if waited < 4 {
		t.Errorf("%d builds were told that they wait", waited)
	}
}

// twoDaemons is a pool of two, with that many slots each.
func twoDaemons(t *testing.T, slots int) ([]*turnstile, *rig.Gateway) {
	t.Helper()
	daemons, executors := []*turnstile{}, []string{}
	for range 2 {
		daemon := newTurnstile(t)
		daemons, executors = append(daemons, daemon), append(executors, rig.Executor(daemon.Address, slots))
	}
	return daemons, rig.NewGateway(t, rig.GatewayOptions{Executors: executors})
}

// Builds go to where there is room.
func TestLeastLoaded(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	daemons, gateway := twoDaemons(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	first, second := begin(t, ctx, gateway.Address, "one:0"), begin(t, ctx, gateway.Address, "two:0")
	rig.Eventually(t, 20*time.Second, "one build runs at each", func() bool {
		return daemons[0].Counts().Running == 1 && daemons[1].Counts().Running == 1
	})
	for _, d := range daemons {
		d.pass <- struct{}{}
	}
	for _, ended := range []chan outcome{first, second} {
		if got := <-ended; got.err != nil {
			t.Error(got.err)
		}
	}
}

// A directory goes back to where it was built before, whatever else is built meanwhile.
func TestAffinity(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	daemons, gateway := twoDaemons(t, 20)
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	places := map[string]map[int]bool{}
	for range 5 {
		for _, key := range []string{"one:0", "two:0", "three:0"} {
			place, build := 0, begin(t, ctx, gateway.Address, key)
			select {
			case daemons[0].pass <- struct{}{}:
			case daemons[1].pass <- struct{}{}:
				place = 1
			case <-ctx.Done():
				t.Fatal("no daemon has it")
			}
			if got := <-build; got.err != nil {
				t.Error(got.err)
			}
			if places[key] == nil {
				places[key] = map[int]bool{}
			}
			places[key][place] = true
		}
	}
	for key, seen := range places {
		if len(seen) != 1 {
			t.Errorf("%s was built at both", key)
		}
	}
}

// An executor that does not say SERVING gets no build; when it does again it does.
func TestHealthDecides(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	sick, well := newTurnstile(t), newTurnstile(t)
	sick.Serving(false)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(sick.Address, 8), rig.Executor(well.Address, 1)}})
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	for i := range 3 {
		build := begin(t, ctx, gateway.Address, fmt.Sprintf("k%d:0", i))
		select {
		case well.pass <- struct{}{}:
		case sick.pass <- struct{}{}:
			t.Fatal("a build went to the one that does not serve")
		case <-ctx.Done():
			t.Fatal("no daemon has it")
		}
		if got := <-build; got.err != nil {
			t.Error(got.err)
		}
	}
	// The well one is busy; the other comes back and takes the next.
	occupant := begin(t, ctx, gateway.Address, "occupant:0")
	rig.Eventually(t, 20*time.Second, "the occupant runs", func() bool { return well.Counts().Running == 1 })
	sick.Serving(true)
	next := begin(t, ctx, gateway.Address, "next:0")
	select {
	case sick.pass <- struct{}{}:
	case <-ctx.Done():
		t.Fatal("it did not come back")
	}
	well.pass <- struct{}{}
	for _, build := range []chan outcome{occupant, next} {
		if got := <-build; got.err != nil {
			t.Error(got.err)
		}
	}
}

// What a client asks before it builds is answered while no executor is up, once one ever was.
func TestBootstrapWithoutExecutor(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	daemon := rig.NewDaemon(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 1)}})
	home := rig.NewHome(t)
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	home.MustRun(t, "buildx", "build", "--builder", "sluice", directory)
	daemon.Kill()
	if out := home.MustRun(t, "buildx", "inspect", "--bootstrap", "sluice"); !strings.Contains(out, "running") {
		t.Error(out)
	}
	// A build waits until it is back.
	build := home.Begin(t, "buildx", "build", "--builder", "sluice", "--progress", "plain", directory)
	build.AwaitText(t, waitingVertex)
	daemon.Start(t)
	if err := build.Wait(t, rig.Patience); err != nil {
		t.Errorf("%v: %s", err, build.Output.Tail())
	}
}

// lone is one real daemon behind a gateway, and a client's home.
func lone(t *testing.T, slots int) (*rig.Home, *rig.Gateway, *rig.Daemon) {
	t.Helper()
	daemon := rig.NewDaemon(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, slots)}})
	home := rig.NewHome(t)
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	return home, gateway, daemon
}

// busyPool is one real daemon with one slot, and a build that has it.
func busyPool(t *testing.T) (*rig.Home, *rig.Gateway, *rig.Daemon, *sleeper) {
	t.Helper()
	home, gateway, daemon := lone(t, 1)
	return home, gateway, daemon, beginSleeper(t, home, "sluice")
}

// Longer than every clock that a client has (10 s for the preface in its session, 15 s for a Ping, 20 s for a connection, 25 s
// to give up): a single build and a bake wait in the queue, say so, and succeed. A gateway that carries a session as bytes
// cannot keep it waiting past the first of these.
func TestLongQueue(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Broker)
	wait := 35 * time.Second
	if rig.Soak() {
		wait = 2 * time.Minute
	}
	home, _, _, occupant := busyPool(t)
	directory := newContext(t, shell+"COPY src /src\n", nil)
	single := home.Begin(t, "buildx", "build", "--builder", "sluice", "--progress", "plain", directory)
	file, names := bakeFile(t, newContext(t, "FROM scratch\nCOPY src /src\n", nil), t.TempDir(), 3)
	bake := home.Begin(t, "buildx", append([]string{"bake", "--builder", "sluice", "--progress", "plain", "--allow", "fs=*", "-f", file},
		names...)...)
	for _, build := range []*rig.Running{single, bake} {
		build.AwaitText(t, waitingVertex)
	}
	time.Sleep(wait) // the subject of this test is the time itself
	if single.Ended() || bake.Ended() {
		t.Fatalf("they did not wait: %s%s", single.Output.Tail(), bake.Output.Tail())
	}
	_ = occupant.Command.Process.Signal(os.Interrupt)
	for _, build := range []*rig.Running{single, bake} {
		if err := build.Wait(t, rig.Patience); err != nil {
			t.Errorf("%v: %s", err, build.Output.Tail())
		}
	}
}

// Ctrl-C in the queue: buildx ends within a second, the place in the queue is given up, and the build that runs goes on.
func TestInterruptInTheQueue(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	home, gateway, daemon, occupant := busyPool(t)
	before := gateway.Gauges(t, daemon)
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	waiting := home.Begin(t, "buildx", "build", "--builder", "sluice", "--progress", "plain", directory)
	waiting.AwaitText(t, waitingVertex)
	began := time.Now()
	_ = waiting.Command.Process.Signal(os.Interrupt)
	if err := waiting.Wait(t, 20*time.Second); err == nil {
		t.Error("it succeeded")
	}
	if took := time.Since(began); took > interruptLimit() {
		t.Errorf("buildx took %v to end", took)
	}
	gateway.Settles(t, before, daemon)
	if occupant.Ended() || !occupant.sleeping() {
		t.Error("the build that ran was stopped too")
	}
}

// An Internal build takes a slot like any other.
func TestInternalBuildTakesASlot(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	daemon := rig.NewDaemon(t)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 1)}})
	home := rig.NewHome(t)
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	directory, seconds := sleeperContext(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- solveDockerfile(ctx, t, gateway.Address, directory, true) }()
	occupant := &sleeper{seconds: seconds}
	rig.Eventually(t, rig.Patience, "the internal build's step runs", occupant.sleeping)
	next := home.Begin(t, "buildx", "build", "--builder", "sluice", "--progress", "plain",
		newContext(t, "FROM scratch\nCOPY src /src\n", nil))
	next.AwaitText(t, waitingVertex)
	cancel()
	if err := <-ended; err == nil {
		t.Error("the cancelled build succeeded")
	}
	if err := next.Wait(t, rig.Patience); err != nil {
		t.Errorf("%v: %s", err, next.Output.Tail())
	}
}

// Two builders of two nodes each, at once, on a pool of one slot and one slot: nobody holds one and waits for the other.
func TestTwoNodeBuildersDoNotDeadlock(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	executors := []string{}
	for range 2 {
		executors = append(executors, rig.Executor(rig.NewDaemon(t).Address, 1))
	}
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: executors})
	home := rig.NewHome(t)
	// buildx wants another endpoint for each node of a builder.
	_, port, _ := net.SplitHostPort(gateway.Address)
	endpoints := []string{"tcp://" + gateway.Address, "tcp://localhost:" + port}
	for _, name := range []string{"a", "b"} {
		for node, platform := range []string{"linux/amd64", "linux/arm64"} {
			arguments := []string{"create", "--name", name, "--node", fmt.Sprintf("%s%d", name, node), "--driver", "remote", "--platform",
				platform}
			if node > 0 {
				arguments = append(arguments, "--append")
			}
			home.MustRun(t, "buildx", append(arguments, endpoints[node])...)
		}
	}
	builds := []*rig.Running{}
	for range 3 {
		for _, name := range []string{"a", "b"} {
			directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
			oddTree(t, directory)
			builds = append(builds, home.Begin(t, "buildx", "build", "--builder", name, "--progress", "plain", "--platform",
				"linux/amd64,linux/arm64", directory))
		}
	}
	for _, build := range builds {
		if err := build.Wait(t, rig.Patience); err != nil {
			t.Errorf("%v: %s", err, build.Output.Tail())
		}
	}
}

// addNodes makes a builder "two" of two nodes, each of which is the gateway.
func addNodes(t *testing.T, home *rig.Home, gateway *rig.Gateway) {
	t.Helper()
	_, port, _ := net.SplitHostPort(gateway.Address)
	for node, platform := range []string{"linux/amd64", "linux/arm64"} {
		arguments := []string{"create", "--name", "two", "--node", fmt.Sprintf("two%d", node), "--driver", "remote", "--platform", platform}
		if node > 0 {
			arguments = append(arguments, "--append")
		}
		home.MustRun(t, "buildx", append(arguments, []string{"tcp://" + gateway.Address, "tcp://localhost:" + port}[node])...)
	}
}

// The two builds of a target on two nodes have one Ref, and may come to the same daemon.
func TestNodesShareADaemon(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(rig.NewDaemon(t).Address, 4)}})
	home := rig.NewHome(t)
	addNodes(t, home, gateway)
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	oddTree(t, directory)
	home.MustRun(t, "buildx", "build", "--builder", "two", "--platform", "linux/amd64,linux/arm64", directory)
}

// They go to two daemons where there are two with room: none waits until the other's has forgotten the Ref, which takes ten seconds.
func TestNodesTakeTwoDaemons(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Fleet)
	home, executors := rig.NewHome(t), []string{}
	for i := range 2 {
		daemon := rig.NewDaemon(t)
		executors = append(executors, rig.Executor(daemon.Address, 4))
		home.AddBuilder(t, fmt.Sprintf("straight%d", i), "tcp://"+daemon.Address)
	}
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: executors})
	addNodes(t, home, gateway)
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	oddTree(t, directory)
	home.MustRun(t, "buildx", "build", "--builder", "two", "--platform", "linux/amd64,linux/arm64", directory)
	for i := range 2 {
		if history := home.MustRun(t, "buildx", "history", "ls", "--builder", fmt.Sprintf("straight%d", i)); strings.Count(history, "Completed") != 1 {
			t.Errorf("daemon %d: %s", i, history)
		}
	}
}

// Calls that name no build tell of all the tenant's executors.
func TestFleetCommands(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Fleet)
	daemons, executors := []*rig.Daemon{}, []string{}
	for range 2 {
		daemons = append(daemons, rig.NewDaemon(t))
		executors = append(executors, rig.Executor(daemons[len(daemons)-1].Address, 1))
	}
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: executors})
	home := rig.NewHome(t)
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	for i, daemon := range daemons {
		home.AddBuilder(t, fmt.Sprintf("straight%d", i), "tcp://"+daemon.Address)
		home.MustRun(t, "buildx", "build", "--builder", fmt.Sprintf("straight%d", i),
			newContext(t, fmt.Sprintf("FROM scratch\nCOPY src /at%d\n", i), nil))
	}
	usage := home.MustRun(t, "buildx", "du", "--verbose", "--builder", "sluice")
	history := home.MustRun(t, "buildx", "history", "ls", "--builder", "sluice")
	if !strings.Contains(usage, "/at0") || !strings.Contains(usage, "/at1") {
		t.Errorf("du: %s", usage)
	}
	if strings.Count(history, "Completed") != 2 {
		t.Errorf("history: %s", history)
	}
	home.MustRun(t, "buildx", "prune", "--force", "--all", "--builder", "sluice")
	for i := range daemons {
		if out := home.MustRun(t, "buildx", "du", "--verbose", "--builder", fmt.Sprintf("straight%d", i)); strings.Contains(out, "/at") {
			t.Errorf("prune left: %s", out)
		}
	}
}

// A build whose executor dies, when it may not be done elsewhere, ends as UNAVAILABLE with the executor's name.
func TestLostExecutorIsNamed(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	var once sync.Once
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		once.Do(func() { close(started) })
		<-ctx.Done()
		return ctx.Err()
	})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 1)},
		Arguments: withoutReplay()})
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	build := begin(t, ctx, gateway.Address, "tree:0")
	<-started
	daemon.Kill()
	got := <-build
	if status.Code(unwrap(got.err)) != codes.Unavailable || !strings.Contains(got.err.Error(), daemon.Address) {
		t.Errorf("%v", got.err)
	}
}

func withoutReplay() []string {
	if option := rig.ReplayOption(); option != "" {
		return []string{option, "off"}
	}
	return nil
}

// unwrap goes to the innermost error, the one that carries the status.
func unwrap(err error) error {
	for {
		if _, ok := status.FromError(err); ok && status.Code(err) != codes.Unknown {
			return err
		}
		inner, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = inner.Unwrap()
	}
}

// A client that is silent past the idle limit holds no slot meanwhile, and builds again afterwards.
func TestIdleClient(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Idle)
	limit := 5 * time.Second
	if rig.Soak() {
		limit = 10 * time.Minute
	}
	daemon := fakeDaemon(t, func(ctx context.Context, b *fake.Build) error {
		return b.Receive(ctx, filepath.Join(rig.Directory(t), "out"), fake.Sync{})
	})
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 1)},
		Arguments: []string{rig.IdleOption(), fmt.Sprintf("%ds", int(limit.Seconds()))}})
	idle, other := connect(t, gateway.Address), connect(t, gateway.Address)
	tree := bulk(3, 1000)
	send(t, idle, tree, "a")
	send(t, other, tree, "b")   // the one slot is free
	time.Sleep(limit + limit/2) // the subject of this test is the time itself
	send(t, idle, tree, "c")
}
