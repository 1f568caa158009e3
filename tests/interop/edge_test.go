package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

var mtimes = []string{"client", "stable"}

// needsMtime leaves out what this gateway or this edge cannot do yet.
func needsMtime(t *testing.T, mtime string) {
	t.Helper()
	needs(t, rig.Relay)
	if mtime == "stable" {
		needs(t, rig.Stable)
	}
}

// Every kind of build makes the same files through an edge as straight, and hits the cache the same way the second time. With
// the client's mtimes the files' times are the same as well.
func TestBuildsThroughAnEdge(t *testing.T) {
	t.Parallel()
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			needsMtime(t, mtime)
			p := throughEdge(t, mtime)
			for _, c := range comparisons {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, p)
				})
			}
		})
	}
}

// What is carried besides contexts: as without an edge.
func TestCallsThroughAnEdge(t *testing.T) {
	t.Parallel()
	checks := map[string]func(*testing.T, *pair){"failing step": checkFailingStep, "buildctl": checkBuildctl, "bake": checkBake,
		"tar export": checkTarExport, "OCI export": checkReproducibleImage, "cache to and from": checkCacheToAndFrom,
		"context on stdin": checkContextOnStdin, "ssh": checkSSH}
	needs(t, rig.Relay)
	p := throughEdge(t, "client")
	for name, check := range checks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, p)
		})
	}
	// An image that must be the same to the last bit has its files' own times also where others have not.
	t.Run("stable OCI export", func(t *testing.T) {
		t.Parallel()
		needsMtime(t, "stable")
		checkReproducibleImage(t, throughEdge(t, "stable"))
	})
}

// putMake puts the machine's make below root/ of a context, with the libraries that it is linked with.
func putMake(t *testing.T, directory string) {
	t.Helper()
	program, err := exec.LookPath("make")
	if err != nil {
		t.Fatal(err)
	}
	linked, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil && !strings.Contains(string(linked), "not a dynamic executable") {
		t.Fatalf("%v: %s", err, linked)
	}
	putFiles(t, directory, files{"root/usr/bin/": ""})
	if err := copyFile(program, filepath.Join(directory, "root/usr/bin/make")); err != nil {
		t.Fatal(err)
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(linked), -1) {
		putFiles(t, directory, files{filepath.Join("root", filepath.Dir(library)) + "/": ""})
		if err := copyFile(library, filepath.Join(directory, "root", library)); err != nil {
			t.Fatal(err)
		}
	}
}

// A make whose target lies in a cache mount makes it anew of a file that goes back to what it was, as of any that changes. Where
// times are stable, a checkout that changes nothing of the file but its time does not have it made anew.
func TestMakeRebuildsWhatIsReverted(t *testing.T) {
	t.Parallel()
	for _, mtime := range mtimes {
		t.Run(mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			p := throughEdge(t, mtime)
			directory := newContext(t, shell+`COPY root /
COPY src /src
RUN --mount=type=cache,target=/cache,id=`+fmt.Sprint(rand.Uint64())+` make -f /src/Makefile && cp /cache/made /cache/times /
`, files{"src/Makefile": "/cache/made: /src/input\n\tcat /src/input > /cache/made\n\techo made >> /cache/times\n"})
			putMake(t, directory)
			wanted := 0
			for i, content := range []string{"first", "other", "other", "first", "other", "first"} {
				// With another turn the step runs each time, whatever becomes of the input.
				putFiles(t, directory, files{"src/input": content, "src/turn": fmt.Sprint(i)})
				if again := i == 2; !again || mtime == "client" {
					wanted++
				}
				out := filepath.Join(rig.Directory(t), "out")
				p.home.MustRun(t, "buildx", "build", "--builder", "sluice", "--output", "type=local,dest="+out, directory)
				if made, err := os.ReadFile(filepath.Join(out, "made")); err != nil || string(made) != content {
					t.Errorf("%d: %q was made of %q: %v", i, made, content, err)
				}
				if times, err := os.ReadFile(filepath.Join(out, "times")); strings.Count(string(times), "made") != wanted {
					t.Errorf("%d: made %q, not %d times: %v", i, times, wanted, err)
				}
			}
		})
	}
}

// edgeSite is an edge behind a line that can be cut, with a gateway and a real daemon of its own.
type edgeSite struct {
	daemon  *rig.Daemon
	gateway *rig.Gateway
	wire    *rig.Proxy
	edge    *rig.Edge
	home    *rig.Home
}

func newEdgeSite(t *testing.T, roundTrip time.Duration, options rig.EdgeOptions) *edgeSite {
	t.Helper()
	return newEdgeSiteOver(t, rig.NewLink(t, rig.Shape{RoundTrip: roundTrip}), 4, options)
}

// newEdgeSiteOver a line, to a gateway whose daemon has so many slots.
func newEdgeSiteOver(t *testing.T, link *rig.Link, slots int, options rig.EdgeOptions) *edgeSite {
	t.Helper()
	s := &edgeSite{daemon: rig.NewDaemon(t), home: rig.NewHome(t)}
	s.gateway = rig.NewGateway(t, rig.GatewayOptions{Executors: []string{rig.Executor(s.daemon.Address, slots)}})
	s.wire = link.To(t, s.gateway.Address)
	options.Upstream, options.Link = s.wire.Address, link
	s.edge = rig.NewEdge(t, options)
	s.home.AddBuilder(t, "edge", s.edge.Address())
	return s
}

func (s *edgeSite) log() string {
	return "\nedge: " + s.edge.Process().Log().Tail() + "\ngateway: " + s.gateway.Process().Log().Tail()
}

// build runs one, and wants in its result what the context has below src/.
func (s *edgeSite) build(t *testing.T, directory string) {
	t.Helper()
	out := filepath.Join(rig.Directory(t), "out")
	if told, err := s.home.Run("buildx", "build", "--builder", "edge", "--output", "type=local,dest="+out, directory); err != nil {
		t.Fatalf("%v: %s%s", err, told, s.log())
	}
	if got, wanted := listing(t, filepath.Join(out, "src")), listing(t, filepath.Join(directory, "src")); got != wanted {
		t.Error(fake.FirstDifference(got, wanted))
	}
}
