package rig

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// Gateway is a `sluice serve` in front of daemons.
type Gateway struct {
	Address string
	Store   string
	Admin   string
	process *Process
}

// GatewayOptions say what stands behind it, and what else its command line has.
type GatewayOptions struct {
	Executors []string // as --buildkit takes them
	Scheme    string   // of --listen; "grpc" when empty
	Arguments []string
}

// NewGateway starts one with an empty store.
func NewGateway(s Scope, options GatewayOptions) *Gateway {
	s.Helper()
	directory := Directory(s)
	g := &Gateway{Address: FreeAddress(s), Admin: FreeAddress(s), Store: filepath.Join(directory, "store")}
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
	arguments := []string{"serve", "--listen", scheme + "://" + g.Address, "--store", g.Store, "--user", "nobody", "--slots", "0",
		"--ceiling", "4GB", "--admin", g.Admin}
	for _, executor := range options.Executors {
		arguments = append(arguments, "--buildkit", executor)
	}
	g.process = Start(s, Setting(s, "SLUICE_BINARY"), append(arguments, options.Arguments...)...)
	s.Cleanup(func() { g.stop(s) })
	g.process.Await(s, g.Address)
	return g
}

// What sanitizers write when they find something.
var finding = regexp.MustCompile(`(?s)(ERROR: (Address|Leak)Sanitizer|runtime error:).{0,1000}`)

// stop ends it in order: it must, with status 0, and with nothing that a sanitizer complains about.
func (g *Gateway) stop(s Scope) {
	g.process.Stop(syscall.SIGTERM)
	log := g.process.Log()
	if found := finding.FindString(log.String()); found != "" {
		s.Errorf("the gateway: %s", found)
	} else if code := g.process.ExitCode(); code != 0 {
		s.Errorf("the gateway ended with %d: %s", code, log.Tail())
	}
}

// Process of the gateway.
func (g *Gateway) Process() *Process {
	return g.process
}

// Executor is how --buildkit names a daemon with that many slots.
func Executor(address string, slots int) string {
	if Has(Pool) && slots > 0 {
		return fmt.Sprintf("tcp://%s,slots=%d", address, slots)
	}
	return "tcp://" + address
}

// Feature is a part of the gateway that not every build of it has. What is missing is told loudly, never passed over.
type Feature string

const (
	Pool   Feature = "pool"   // several executors, slots, a queue
	Idle   Feature = "idle"   // a limit for idle connections that can be set
	Replay Feature = "replay" // a lost executor is replaced
	Ledger Feature = "ledger" // `sluice builds`
	Spawn  Feature = "spawn"  // buildkitd started by the gateway
	Broker Feature = "broker" // contexts from the store
)

var (
	helpOnce sync.Once
	help     map[string]string
)

func helpOf(command string) string {
	helpOnce.Do(func() {
		help = map[string]string{}
		for _, name := range []string{"", "serve"} {
			arguments := []string{"help"}
			if name != "" {
				arguments = append(arguments, name)
			}
			out, _ := exec.Command(os.Getenv("SLUICE_BINARY"), arguments...).CombinedOutput()
			help[name] = strings.Join(strings.Fields(string(out)), " ")
		}
	})
	return help[command]
}

var (
	poolOption  = regexp.MustCompile(`--buildkit [^-]*(several times|slots=)`)
	idleOption  = regexp.MustCompile(`(--idle[a-z-]*)`)
	queueOption = regexp.MustCompile(`(--queue-timeout)`)
)

// BrokerProbe says whether content reaches a second daemon without the client; the tests that own the fake daemon set it.
var BrokerProbe func() bool

// Has tells whether this gateway has the part, by what its help says, or by trying.
func Has(feature Feature) bool {
	switch feature {
	case Pool:
		return poolOption.MatchString(helpOf("serve"))
	case Idle:
		return idleOption.MatchString(helpOf("serve"))
	case Replay:
		return strings.Contains(helpOf("serve"), "--replay")
	case Spawn:
		return strings.Contains(helpOf("serve"), "--spawn")
	case Ledger:
		return regexp.MustCompile(`(^| )builds `).MatchString(helpOf(""))
	case Broker:
		return BrokerProbe != nil && BrokerProbe()
	}
	return false
}

// IdleOption is the name of the setting that closes idle connections.
func IdleOption() string {
	return idleOption.FindString(helpOf("serve"))
}

// QueueOption is the name of the setting that bounds the wait for an executor, or "".
func QueueOption() string {
	return queueOption.FindString(helpOf("serve"))
}

// Sanitized tells whether the gateway was built with ASan, which keeps freed memory and is slow.
func Sanitized() bool {
	data, err := os.ReadFile(os.Getenv("SLUICE_BINARY"))
	return err == nil && bytes.Contains(data, []byte("__asan_init"))
}
