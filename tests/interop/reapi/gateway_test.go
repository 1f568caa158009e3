// Package reapi runs clients of the Remote Execution API that others wrote against sluice: Debian's Bazel, and the messages
// and stubs of bazelbuild/remote-apis over grpc-go.
package reapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// gateway is a `sluice serve` on the loopback, with a store of its own.
type gateway struct {
	address, admin, directory string
	arguments                 []string
	process                   *exec.Cmd
	log                       *output
}

type output struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

func (o *output) Write(data []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.bytes.Write(data)
}

func (o *output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.bytes.String()
}

var finding = regexp.MustCompile(`(?s)(ERROR: (Address|Leak)Sanitizer|runtime error:).{0,1000}`)

func freeAddress(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// scratch is on a real disk: the store writes with O_DIRECT there.
func scratch(t testing.TB) string {
	directory, err := os.MkdirTemp("/var/tmp", "sluice-reapi-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}

func newGateway(t testing.TB, arguments ...string) *gateway {
	t.Helper()
	return newGatewayOf(t, 0, arguments...)
}

// newGatewayOf has so many slots for actions, which run on the host's /usr.
func newGatewayOf(t testing.TB, slots int, arguments ...string) *gateway {
	t.Helper()
	if os.Getenv("SLUICE_BINARY") == "" {
		t.Skip("SLUICE_BINARY names no sluice")
	}
	directory := scratch(t)
	store := filepath.Join(directory, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	// The gateway gives up root and becomes nobody.
	os.Chmod(directory, 0o755)
	os.Chown(store, 65534, 65534)
	g := &gateway{address: freeAddress(t), admin: freeAddress(t), directory: directory}
	g.arguments = append([]string{"serve", "--listen", "grpc://" + g.address, "--store", store, "--user", "nobody", "--slots", strconv.Itoa(slots),
		"--ceiling", "2GB", "--admin", g.admin}, arguments...)
	if slots > 0 {
		g.arguments = append(g.arguments, "--allow-host-root", "--executor-path", filepath.Join(directory, "executor"))
	}
	g.start(t)
	t.Cleanup(func() { g.stop(t) })
	return g
}

func (g *gateway) start(t testing.TB) {
	t.Helper()
	g.log = &output{}
	g.process = exec.Command(os.Getenv("SLUICE_BINARY"), g.arguments...)
	g.process.Stdout, g.process.Stderr = g.log, g.log
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
	g.says(t, " ready")
}

// says waits for it in the gateway's log.
func (g *gateway) says(t testing.TB, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(g.log.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the gateway does not say %q: %s", text, g.log)
		}
	}
}

// stop ends it in order: it must, and with nothing that a sanitizer complains about.
func (g *gateway) stop(t testing.TB) {
	t.Helper()
	g.process.Process.Signal(syscall.SIGTERM)
	err := g.process.Wait()
	if found := finding.FindString(g.log.String()); found != "" {
		t.Errorf("the gateway: %s", found)
	} else if err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("the gateway ended with %v: %s", err, g.log)
	}
}

// crash ends it as a power failure of the process does; start brings it back on the same store and address.
func (g *gateway) crash() {
	g.process.Process.Kill()
	g.process.Wait()
}

// reaches waits until a number of the metrics is as large as that, and returns it. They are published once a second.
func (g *gateway) reaches(t testing.TB, name string, wanted float64) float64 {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if value := g.counter(t, name); value >= wanted {
			return value
		} else if time.Now().After(deadline) {
			t.Fatalf("%s is %v, and not %v", name, value, wanted)
		}
	}
}

// counter is a number of the metrics.
func (g *gateway) counter(t testing.TB, name string) float64 {
	t.Helper()
	answer, err := http.Get("http://" + g.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	for _, line := range strings.Split(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			value, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	t.Fatalf("no counter %s", name)
	return 0
}

func (g *gateway) dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(g.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}

func within(t testing.TB, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
