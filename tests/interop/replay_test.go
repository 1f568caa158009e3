package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// fleet is a pool of real daemons that can be killed, and a client's home.
type fleet struct {
	daemons []*rig.Daemon
	gateway *rig.Gateway
	home    *rig.Home
}

func newFleet(t *testing.T, daemons, slots int, arguments ...string) *fleet {
	t.Helper()
	f := &fleet{home: rig.NewHome(t)}
	executors := []string{}
	for range daemons {
		daemon := rig.NewDaemon(t)
		f.daemons = append(f.daemons, daemon)
		executors = append(executors, rig.Executor(daemon.Address, slots))
	}
	f.gateway = rig.NewGateway(t, rig.GatewayOptions{Executors: executors, Arguments: arguments})
	f.home.AddBuilder(t, "sluice", "tcp://"+f.gateway.Address)
	return f
}

// at tells which daemon runs the step that sleeps: each names itself by the files of its root, which its containers come from.
func (f *fleet) at(t *testing.T, s *sleeper) int {
	t.Helper()
	for i, daemon := range f.daemons {
		if daemon.Runs(s.seconds) {
			return i
		}
	}
	t.Fatal("no daemon runs it")
	return -1
}

func safeReplay() []string {
	return []string{rig.ReplayOption(), "safe"}
}

// The daemon dies in a RUN step: the build finishes at another one, says so, and fails nowhere.
func TestReplay(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool, rig.Replay)
	f := newFleet(t, 2, 2, safeReplay()...)
	base := rig.Directory(t)
	// The step waits for a file in a directory of the test's that it sees through a second build's context: no; it tries for
	// some seconds, long enough to be killed in.
	directory := newContext(t, shell+"COPY src /src\nRUN echo fast-$(echo asleep) && sleep 6 && echo done > /done\n", nil)
	oddTree(t, directory)
	out := filepath.Join(base, "out")
	build := f.home.Begin(t, "buildx", "build", "--builder", "sluice", "--progress", "plain", "--output", "type=local,dest="+out, directory)
	build.AwaitText(t, asleep)
	victim := 0
	for i, daemon := range f.daemons {
		if daemon.Runs("6") {
			victim = i
		}
	}
	f.daemons[victim].Kill()
	if err := build.Wait(t, rig.Patience); err != nil {
		t.Fatalf("%v: %s", err, build.Output.Tail())
	}
	if text := build.Output.String(); !strings.Contains(text, f.daemons[victim].Address+" lost, replaying on") {
		t.Errorf("it does not say so: %s", text)
	}
	straight := newPair(t)
	wanted := filepath.Join(base, "wanted")
	straight.home.MustRun(t, "buildx", "build", "--builder", "straight", "--output", "type=local,dest="+wanted, directory)
	if got, expected := listing(t, out), listing(t, wanted); got != expected {
		t.Errorf("another tree:\n%s\n%s", got, expected)
	}
}

// Many builds while daemons are killed at random. Each build that may be done again succeeds; where the gateway does no such
// thing each ends, well or as UNAVAILABLE with the executor's name. Nothing waits for ever, and nothing is left.
func TestRandomKills(t *testing.T) {
	needs(t, rig.Pool)
	builds, kills := 5, 1
	if rig.Soak() {
		builds, kills = 100, 20
	}
	arguments := []string{}
	replays := rig.Has(rig.Replay)
	if replays {
		arguments = safeReplay()
	}
	f := newFleet(t, 3, 2, arguments...)
	f.home.MustRun(t, "buildx", "build", "--builder", "sluice", newContext(t, shell, nil))
	before := f.gateway.Gauges(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	var mutex sync.Mutex
	hits, failures, running := 0, 0, 0
	var all sync.WaitGroup
	room := make(chan struct{}, 4)
	stop := make(chan struct{})
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(1000+random.IntN(2000)) * time.Millisecond):
			}
			daemon := f.daemons[random.IntN(len(f.daemons))]
			mutex.Lock()
			enough := hits >= kills*2
			mutex.Unlock()
			if enough || !daemon.Runs("3") {
				continue
			}
			daemon.Kill()
			mutex.Lock()
			hits++
			mutex.Unlock()
			time.Sleep(300 * time.Millisecond)
			daemon.Start(t)
		}
	}()
	for i := range builds {
		room <- struct{}{}
		all.Add(1)
		directory := newContext(t, shell+fmt.Sprintf("COPY src /src\nRUN echo %d && sleep 3 && cat /src/nonce > /made\n", i), nil)
		out := filepath.Join(rig.Directory(t), "out")
		go func() {
			defer func() { <-room; all.Done() }()
			mutex.Lock()
			running++
			mutex.Unlock()
			told, err := f.home.Run("buildx", "build", "--builder", "sluice", "--progress", "plain", "--output", "type=local,dest="+out,
				directory)
			mutex.Lock()
			defer mutex.Unlock()
			running--
			if err == nil {
				nonce, _ := os.ReadFile(filepath.Join(directory, "src/nonce"))
				if made, _ := os.ReadFile(filepath.Join(out, "made")); string(made) != string(nonce) {
					t.Errorf("build %d: it made %q", i, made)
				}
				return
			}
			failures++
			if replays || !namesExecutor(told, f.daemons) {
				t.Errorf("build %d: %v: %s", i, err, told)
			}
		}()
	}
	all.Wait()
	close(stop)
	<-killed
	t.Logf("%d builds, %d kills hit a running build, %d builds failed", builds, hits, failures)
	if hits < kills {
		t.Errorf("only %d kills hit a running build", hits)
	}
	f.gateway.Settles(t, before)
}

func namesExecutor(text string, daemons []*rig.Daemon) bool {
	for _, daemon := range daemons {
		if strings.Contains(text, daemon.Address) && strings.Contains(text, "Unavailable") {
			return true
		}
	}
	return false
}
