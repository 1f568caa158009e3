package rig

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Edge is a `sluice edge` next to clients, in front of a gateway.
type Edge struct {
	Socket    string
	Store     string
	Admin     string
	directory string
	link      *Link
	arguments []string
	process   *Process
}

// EdgeOptions say where it belongs and how it behaves.
type EdgeOptions struct {
	Upstream  string // host:port of the gateway, or of what is between
	Mtime     string // "client" when empty
	Ceiling   string // "4GB" when empty
	Link      *Link  // it runs at the near end; nil: on the host
	Arguments []string
}

// NewEdge starts one that has nothing yet.
func NewEdge(s Scope, options EdgeOptions) *Edge {
	s.Helper()
	directory := directory(s, State)
	e := &Edge{directory: directory, Socket: filepath.Join(directory, "edge.sock"), Store: filepath.Join(directory, "store"),
		Admin: FreeAddress(s), link: options.Link}
	if e.link == nil {
		e.link = &Link{}
	}
	mtime, ceiling := options.Mtime, options.Ceiling
	if mtime == "" {
		mtime = "client"
	}
	if ceiling == "" {
		ceiling = "4GB"
	}
	e.arguments = append([]string{Setting(s, "SLUICE_BINARY"), "edge", "--upstream", "grpc://" + options.Upstream, "--listen", e.Address(),
		"--store", e.Store, "--ceiling", ceiling, "--mtime", mtime, "--admin", e.Admin}, options.Arguments...)
	e.Start(s)
	s.Cleanup(func() { e.Stop(s) })
	return e
}

// Address of it, as buildx's remote driver takes one.
func (e *Edge) Address() string { return "unix://" + e.Socket }

// Start starts it again, after Crash or Stop, with what it has.
func (e *Edge) Start(s Scope) {
	s.Helper()
	command := e.link.Enter(e.arguments)
	e.process = Start(s, command[0], command[1:]...)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("unix", e.Socket); err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			s.Fatalf("nobody listens on %s: %s", e.Socket, e.process.Log().Tail())
		}
	}
}

// Stop ends it in order: it must, with status 0, and with nothing that a sanitizer complains about.
func (e *Edge) Stop(s Scope) { endWell(s, "the edge", e.process) }

// Crash ends it at once. The kernel takes an io_uring's sockets down some time after the process has gone: until then somebody
// seems to listen.
func (e *Edge) Crash(s Scope) {
	s.Helper()
	e.process.Stop(syscall.SIGKILL)
	Eventually(s, 10*time.Second, "the edge's socket is closed", func() bool {
		conn, err := net.Dial("unix", e.Socket)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// Refresh starts it with nothing, as on a new machine.
func (e *Edge) Refresh(s Scope) {
	s.Helper()
	e.Stop(s)
	if err := os.RemoveAll(e.Store); err != nil {
		s.Fatalf("%v", err)
	}
	e.Start(s)
}

// Process of the edge.
func (e *Edge) Process() *Process { return e.process }

// Metrics are the numbers that its admin port tells.
func (e *Edge) Metrics(s Scope) map[string]float64 {
	s.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			return e.link.Dial(network, address)
		}}}
	return metricsOf(s, client, e.Admin, e.process)
}

// FreshMetrics are those from after this moment.
func (e *Edge) FreshMetrics(s Scope) map[string]float64 {
	s.Helper()
	return fresh(s, e.Metrics)
}
