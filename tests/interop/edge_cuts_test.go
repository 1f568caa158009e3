package interop

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// All connections between edge and gateway are cut in the middle of a build, or say nothing for a while: in the context's
// transfer, in a step, in the export. buildx does not notice, and what was made is right.
func TestCutsAreNotNoticed(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay, rig.Resume)
	const size = 60 << 20
	for _, moment := range []struct{ name, text string }{
		{"context", "transferring context:"}, {"step", asleep}, {"export", "copying files"}} {
		t.Run(moment.name, func(t *testing.T) {
			t.Parallel()
			s := newEdgeSite(t, 10*time.Millisecond, rig.EdgeOptions{})
			directory := newContext(t, shell+"COPY src /src\nRUN echo fast-$(echo asleep) && sleep 2\n", files{"src/large": noise(size, rand.Uint64())})
			if moment.name == "context" {
				// While the edge reads and uploads nothing of the context may be shown: cuts come as bytes pass.
				s.wire.CutEvery(rand.Uint64(), size/8, 6)
			}
			out := filepath.Join(rig.Directory(t), "out")
			running := s.home.Begin(t, "buildx", "build", "--builder", "edge", "--progress", "plain", "--output", "type=local,dest="+out, directory)
			if moment.name != "context" {
				running.AwaitText(t, moment.text)
				s.wire.Cut()
				s.wire.Silence(500 * time.Millisecond)
				time.Sleep(100 * time.Millisecond)
				s.wire.Cut()
			}
			if err := running.Wait(t, rig.Patience); err != nil {
				t.Fatalf("%v: %s%s", err, running.Output.Tail(), s.log())
			}
			if len(s.wire.Counts().Cuts) == 0 {
				t.Error("nothing was cut")
			}
			if got, wanted := listing(t, filepath.Join(out, "src")), listing(t, filepath.Join(directory, "src")); got != wanted {
				t.Error(fake.FirstDifference(got, wanted))
			}
		})
	}
}

// All connections between edge and gateway are cut, and cut again, while a build waits for an executor whose only slot another
// build has: neither notices. The one that waits keeps its place, and is done once the other has ended.
func TestCutsInTheQueueAreNotNoticed(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay, rig.Resume, rig.Pool)
	s := newEdgeSiteOver(t, rig.NewLink(t, rig.Shape{RoundTrip: 10 * time.Millisecond}), 1, rig.EdgeOptions{})
	begin := func(directory, out string) *rig.Running {
		return s.home.Begin(t, "buildx", "build", "--builder", "edge", "--progress", "plain", "--output", "type=local,dest="+out, directory)
	}
	// Its step ends well once its process is killed.
	occupant := &sleeper{seconds: fmt.Sprint(100_000 + rand.IntN(800_000))}
	occupant.Running = begin(newContext(t, shell+"RUN echo fast-$(echo asleep) && (sleep "+occupant.seconds+" || true)\n", nil),
		filepath.Join(rig.Directory(t), "out"))
	occupant.AwaitText(t, asleep)
	directory, out := newContext(t, "FROM scratch\nCOPY src /src\n", files{"src/large": noise(1<<20, rand.Uint64())}), filepath.Join(rig.Directory(t), "out")
	waiting := begin(directory, out)
	waiting.AwaitText(t, waitingVertex)
	for range 3 {
		before := s.wire.Counts()
		s.wire.Cut()
		s.wire.Silence(300 * time.Millisecond)
		if len(s.wire.Counts().Since(before).Cuts) == 0 {
			t.Error("nothing was cut")
		}
		rig.Eventually(t, rig.Patience, "the edge is back", func() bool {
			return s.wire.Counts().Since(before).Connections > 0
		})
		if waits := s.gateway.Gauges(t)["sluice_leases_waiting"]; waits != 1 || waiting.Ended() || occupant.Ended() {
			t.Fatalf("%.0f builds wait: %s%s%s", waits, waiting.Output.Tail(), occupant.Output.Tail(), s.log())
		}
	}
	if err := occupant.process().Kill(); err != nil {
		t.Fatal(err)
	}
	for _, build := range []*rig.Running{occupant.Running, waiting} {
		if err := build.Wait(t, rig.Patience); err != nil {
			t.Errorf("%v: %s%s", err, build.Output.Tail(), s.log())
		}
	}
	if got, wanted := listing(t, filepath.Join(out, "src")), listing(t, filepath.Join(directory, "src")); got != wanted {
		t.Error(fake.FirstDifference(got, wanted))
	}
}

// The line is cut twenty times and more while one build's context goes over it, each time with bytes under way: the build succeeds,
// and sends less than 2 % of the context again, as the line counts it beside the same build without cuts.
func TestManyCutsCostLittle(t *testing.T) {
	t.Parallel()
	needs(t, rig.Relay, rig.Resume, rig.Give)
	const size, cutsLeast, cutsMost = 120 << 20, 20, 24
	// What a cut costs is what the line holds: with neither a rate nor a length it would be what this machine's buffers hold.
	shape, seed := rig.Shape{Megabits: 50, RoundTrip: 4 * time.Millisecond}, rand.Uint64()
	var mutex sync.Mutex
	up := map[string]int64{}
	t.Run("builds", func(t *testing.T) {
		for way, cuts := range map[string]int{"whole": 0, "cut": cutsMost} {
			t.Run(way, func(t *testing.T) {
				t.Parallel()
				s := newEdgeSiteOver(t, rig.NewLink(t, shape), 4, rig.EdgeOptions{})
				directory := newContext(t, "FROM scratch\nCOPY src /src\n", files{"src/large": noise(size, seed)})
				s.wire.CutEvery(seed, size/(cutsMost+cutsMost/4), cuts)
				s.build(t, directory)
				counts, hit := s.wire.Counts(), 0
				for _, cut := range counts.Cuts {
					if cut.Up > 0 {
						hit++
					}
				}
				if cuts > 0 && hit < cutsLeast {
					t.Errorf("seed %d: of %d cuts %d hit what went up", seed, len(counts.Cuts), hit)
				}
				mutex.Lock()
				defer mutex.Unlock()
				up[way] = counts.Up
			})
		}
	})
	again := up["cut"] - up["whole"]
	t.Logf("seed %d: %d bytes were sent again, %.2f %% of the context", seed, again, 100*float64(again)/size)
	if again >= size/50 || up["whole"] < size {
		t.Errorf("seed %d: %d bytes went up without cuts, %d with them, of %d", seed, up["whole"], up["cut"], size)
	}
}
