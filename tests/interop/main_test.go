// Package interop runs real builds, by stock buildx and buildctl, straight to a buildkitd and through sluice, and holds the
// results against each other. Where time, bytes or failures must be exact, a fake daemon or client (package fake) plays
// one side.
package interop

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"testing"

	"sluice.dev/sluice/tests/interop/rig"
)

var (
	main       rig.Main
	pairOnce   sync.Once
	sharedPair *pair
	edgePairs  = map[string]*edgePair{"client": {}, "stable": {}} // by mtime

	pendingMutex sync.Mutex
	pending      = map[rig.Feature][]string{}
)

func TestMain(m *testing.M) {
	rig.Probes = map[rig.Feature]func() bool{rig.Pool: probePool, rig.Fleet: probeFleet, rig.Broker: probeBroker,
		rig.Ledger: probeLedger,
		rig.Give:   probeGive, rig.Stable: probeStable}
	status := m.Run()
	if !main.Close() {
		status = 1
	}
	tellPending()
	os.Exit(status)
}

// needs leaves the test out, and says so at the end of the run, when this gateway has not that part.
func needs(t *testing.T, features ...rig.Feature) {
	t.Helper()
	for _, feature := range features {
		if rig.Has(feature) {
			continue
		}
		pendingMutex.Lock()
		pending[feature] = append(pending[feature], t.Name())
		pendingMutex.Unlock()
		t.Skipf("PENDING: this gateway has no %s", feature)
	}
}

func tellPending() {
	lines := []string{}
	for feature, names := range pending {
		sort.Strings(names)
		lines = append(lines, fmt.Sprintf("interop: PENDING: %d cases wait for %s: %s", len(names), feature, strings.Join(names, ", ")))
	}
	sort.Strings(lines)
	for _, line := range lines {
		fmt.Println(line)
	}
}

// pair is one daemon behind a gateway and one like it without, and a client's home with a builder for each.
type pair struct {
	behind, straight *rig.Daemon
	gateway          *rig.Gateway
	edge             *rig.Edge // between the clients and the gateway; nil: none
	home             *rig.Home
	ownTimes         bool // files' times are what the gateway makes of them
}

// Both ways of a build, by the name of the builder. The gateway goes first: what it does wrong no warm cache may hide.
var ways = []string{"sluice", "straight"}

func newPair(s rig.Scope) *pair {
	p := &pair{behind: rig.NewDaemon(s), straight: rig.NewDaemon(s), home: rig.NewHome(s)}
	p.gateway = rig.NewGateway(s, rig.GatewayOptions{Executors: []string{rig.Executor(p.behind.Address, 8)}})
	p.home.AddBuilder(s, "sluice", "tcp://"+p.gateway.Address)
	p.home.AddBuilder(s, "straight", "tcp://"+p.straight.Address)
	return p
}

// shared is the pair for all tests that leave it as they found it.
func shared(t *testing.T) *pair {
	t.Helper()
	pairOnce.Do(func() { sharedPair = newPair(&main) })
	return sharedPair
}

type edgePair struct {
	once sync.Once
	pair *pair
}

// throughEdge is the pair whose gateway is reached through an edge, for all tests that leave it as they found it.
func throughEdge(t *testing.T, mtime string) *pair {
	t.Helper()
	straight := shared(t).straight
	made := edgePairs[mtime]
	made.once.Do(func() {
		p := &pair{behind: rig.NewDaemon(&main), straight: straight, home: rig.NewHome(&main), ownTimes: mtime == "stable"}
		p.gateway = rig.NewGateway(&main, rig.GatewayOptions{Executors: []string{rig.Executor(p.behind.Address, 8)}})
		p.edge = rig.NewEdge(&main, rig.EdgeOptions{Upstream: p.gateway.Address, Mtime: mtime})
		p.home.AddBuilder(&main, "sluice", p.edge.Address())
		p.home.AddBuilder(&main, "straight", "tcp://"+p.straight.Address)
		made.pair = p
	})
	return made.pair
}

// everyWay runs a check that leaves the pair as it found it through a gateway, and through an edge with each kind of times.
func everyWay(t *testing.T, check func(t *testing.T, p *pair)) {
	t.Helper()
	t.Parallel()
	t.Run("gateway", func(t *testing.T) {
		t.Parallel()
		check(t, shared(t))
	})
	for _, mtime := range mtimes {
		t.Run("edge "+mtime, func(t *testing.T) {
			t.Parallel()
			needsMtime(t, mtime)
			check(t, throughEdge(t, mtime))
		})
	}
}

func (p *pair) address(way string) string {
	switch {
	case way == "straight":
		return "tcp://" + p.straight.Address
	case p.edge != nil:
		return p.edge.Address()
	default:
		return "tcp://" + p.gateway.Address
	}
}

// log is the end of what both have to say.
func (p *pair) log() string {
	text := "\ngateway: " + p.gateway.Process().Log().Tail()
	if p.edge != nil {
		text += "\nedge: " + p.edge.Process().Log().Tail()
	}
	return text
}
