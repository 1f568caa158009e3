package rig

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// Gateway is a `sluice serve` in front of daemons.
type Gateway struct {
	Address string
	Store   string
	Admin   string
	process *Process
	// of its command line, for when it is started again
	arguments []string
	binary    string
}

// GatewayOptions say what stands behind it, and what else its command line has.
type GatewayOptions struct {
	Executors []string // as --buildkit takes them
	Scheme    string   // of --listen; "grpc" when empty
	Arguments []string
	Binary    string // another sluice than SLUICE_BINARY
}

// NewGateway starts one with an empty store.
func NewGateway(s Scope, options GatewayOptions) *Gateway {
	s.Helper()
	medium := State
	if Stores != "" {
		medium = Stores
	}
	directory := directory(s, medium)
	g := &Gateway{Address: FreeAddress(s), Admin: FreeAddress(s), Store: filepath.Join(directory, "store"), binary: options.Binary}
	if g.binary == "" {
		g.binary = Setting(s, "SLUICE_BINARY")
	}
	// The gateway gives up root and becomes nobody.
	if err := os.MkdirAll(g.Store, 0o700); err != nil {
		s.Fatalf("%v", err)
	}
	if err := os.Chown(g.Store, 65534, 65534); err != nil {
		s.Fatalf("%v", err)
	}
	scheme := options.Scheme
	if scheme == "" {
		scheme = "grpc"
	}
	ceiling := "4GB"
	if Soak() {
		ceiling = "16GB" // its contexts are longer than that
	}
	arguments := []string{"serve", "--listen", scheme + "://" + g.Address, "--store", g.Store, "--user", "nobody", "--slots", "0",
		"--ceiling", ceiling, "--admin", g.Admin}
	for _, executor := range options.Executors {
		arguments = append(arguments, "--buildkit", executor)
	}
	g.arguments = append(arguments, options.Arguments...)
	g.start(s)
	s.Cleanup(func() { g.Stop(s) })
	return g
}

// What sanitizers write when they find something.
var finding = regexp.MustCompile(`(?s)(ERROR: (Address|Leak)Sanitizer|runtime error:).{0,1000}`)

// Stop ends it in order: it must, with status 0, and with nothing that a sanitizer complains about.
func (g *Gateway) Stop(s Scope) {
	endWell(s, "the gateway", g.process)
}

func endWell(s Scope, what string, process *Process) {
	process.Stop(syscall.SIGTERM)
	log := process.Log()
	if found := finding.FindString(log.String()); found != "" {
		s.Errorf("%s: %s", what, found)
	} else if code := process.ExitCode(); code != 0 {
		s.Errorf("%s ended with %d: %s", what, code, log.Tail())
	}
}

// Restart ends it in order and starts it on the same store and address.
func (g *Gateway) Restart(s Scope) {
	s.Helper()
	g.Stop(s)
	g.start(s)
}

// Crash ends it as a power failure of the process does: no drain, no goodbye. Start it again with Resume.
func (g *Gateway) Crash() { g.process.Stop(syscall.SIGKILL) }

// Resume starts it again after Crash.
func (g *Gateway) Resume(s Scope) {
	s.Helper()
	g.start(s)
}

func (g *Gateway) start(s Scope) {
	s.Helper()
	g.process = Start(s, g.binary, g.arguments...)
	g.process.Await(s, g.Address)
}

// Process of the gateway.
func (g *Gateway) Process() *Process {
	return g.process
}

// Executor is how --buildkit names a daemon with that many slots; 0: as many as it wants.
func Executor(address string, slots int) string {
	if slots > 0 && listOption.MatchString(help("serve")) {
		return fmt.Sprintf("tcp://%s,slots=%d", address, slots)
	}
	return "tcp://" + address
}

// Feature is a part of the gateway that not every build of it has. What is missing is told loudly, never passed over.
type Feature string

const (
	Pool   Feature = "pool"    // several executors, slots, a queue
	Fleet  Feature = "fan-out" // calls that name no build reach all executors
	Idle   Feature = "idle"    // a limit for idle connections that can be set
	Broker Feature = "broker"  // contexts from the store
	Replay Feature = "replay"  // a lost executor is replaced
	Ledger Feature = "ledger"  // `sluice builds` lists them
	Spawn  Feature = "spawn"   // buildkitd started by the gateway
	Relay  Feature = "edge"    // `sluice edge` carries calls to a gateway
	Resume Feature = "link"    // what an edge carries survives a cut of its connections
	Give   Feature = "give"    // an edge names contents, and sends what the gateway lacks
	Stable Feature = "stable"  // --mtime stable: times and keys that follow the content
)

var (
	listOption   = regexp.MustCompile(`--buildkit [^-]*slots=`)
	idleOption   = regexp.MustCompile(`--idle[a-z-]*`)
	replayOption = regexp.MustCompile(`--[a-z-]*replay `)
)

// help of a command, without line breaks.
func help(command string) string {
	out, _ := exec.Command(os.Getenv("SLUICE_BINARY"), "help", command).CombinedOutput()
	return strings.Join(strings.Fields(string(out)), " ")
}

// Probes try what the gateway can do where its help does not say; the tests, which own a fake daemon, set them.
var Probes = map[Feature]func() bool{}

// Has tells whether this gateway has the part.
func Has(feature Feature) bool {
	switch feature {
	case Idle:
		return IdleOption() != ""
	case Replay:
		return ReplayOption() != ""
	case Relay:
		return strings.Contains(help("edge"), "--upstream ")
	case Resume:
		return strings.Contains(help("edge"), "--link-timeout ")
	case Spawn:
		return strings.Contains(help("serve"), "--spawn ")
	default:
		return Probes[feature]()
	}
}

// IdleOption is the name of the setting that closes idle connections, or "".
func IdleOption() string {
	return idleOption.FindString(help("serve"))
}

// ReplayOption is the name of the setting that says which builds may be done again elsewhere, or "".
func ReplayOption() string {
	return strings.TrimSpace(replayOption.FindString(help("serve")))
}

// Sanitized tells whether the gateway was built with ASan, which keeps freed memory and is slow.
func Sanitized() bool {
	data, err := os.ReadFile(os.Getenv("SLUICE_BINARY"))
	return err == nil && bytes.Contains(data, []byte("__asan_init"))
}
