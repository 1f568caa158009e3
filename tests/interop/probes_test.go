package interop

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// probePool tries whether a second build waits when there is one slot.
var probePool = sync.OnceValue(func() bool {
	daemon := newTurnstile(&main)
	executor := rig.Executor(daemon.Address, 1)
	if !strings.Contains(executor, "slots=") {
		return false
	}
	gateway := rig.NewGateway(&main, rig.GatewayOptions{Executors: []string{executor}})
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	builds := []chan outcome{begin(&main, ctx, gateway.Address, "a:0")}
	rig.Eventually(&main, 20*time.Second, "a build runs", func() bool { return daemon.Counts().Running == 1 })
	builds = append(builds, begin(&main, ctx, gateway.Address, "b:0"))
	for end := time.Now().Add(2 * time.Second); daemon.Counts().Running < 2 && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	bounded := daemon.Counts().Running == 1
	for _, build := range builds {
		select {
		case daemon.pass <- struct{}{}:
		case got := <-build:
			main.Logf("probing for a pool: %v", got.err)
			return false
		}
	}
	return bounded
})

// probeFleet tries whether a call that names no build reaches all executors.
var probeFleet = sync.OnceValue(func() bool {
	executors := []string{}
	for range 2 {
		executors = append(executors, rig.Executor(newTurnstile(&main).Address, 1))
	}
	if !strings.Contains(executors[0], "slots=") {
		return false
	}
	gateway := rig.NewGateway(&main, rig.GatewayOptions{Executors: executors})
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	client := connect(&main, gateway.Address)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if records, err := client.Raw().DiskUsage(ctx); err == nil && len(records) == 2 {
			return true
		}
	}
	return false
})

// probeBroker tries whether the second time, into an empty directory, the content comes from elsewhere than the client.
var probeBroker = sync.OnceValue(func() bool {
	daemon, _ := receiver(&main, fake.Sync{})
	gateway := rig.NewGateway(&main, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	client, tree := connect(&main, gateway.Address), bulk(1, 100_000)
	send(&main, client, tree, "first")
	tree.Asked()
	send(&main, client, tree, "second")
	_, bytes := tree.Asked()
	return bytes == 0
})

// probeLedger tries whether a build is listed afterwards.
var probeLedger = sync.OnceValue(func() bool {
	daemon, _ := receiver(&main, fake.Sync{})
	gateway := rig.NewGateway(&main, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	send(&main, connect(&main, gateway.Address), bulk(1, 100), "out")
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		out, err := exec.Command(rig.Setting(&main, "SLUICE_BINARY"), "builds", "--json", "--gateway", "grpc://"+gateway.Address).Output()
		if err == nil && strings.Contains(string(out), "{") {
			return true
		}
	}
	return false
})

// behindEdge is a fake daemon that tells of each build's shared key, with a gateway, a wire whose bytes are counted, and an edge.
func behindEdge(mtime string, keys chan<- string) (*rig.Edge, *rig.Proxy) {
	directory := rig.Directory(&main)
	daemon := fakeDaemon(&main, func(ctx context.Context, b *fake.Build) error {
		keys <- b.Session.SharedKey()
		return b.Receive(ctx, filepath.Join(directory, b.Request.FrontendAttrs["into"]), fake.Sync{})
	})
	gateway := rig.NewGateway(&main, rig.GatewayOptions{Executors: []string{rig.Executor(daemon.Address, 0)}})
	wire := rig.NewProxy(&main, nil, gateway.Address, 0)
	return rig.NewEdge(&main, rig.EdgeOptions{Upstream: wire.Address, Mtime: mtime}), wire
}

// probeGive tries whether content that the gateway has stays where it is, though a client comes with it that nobody knows.
var probeGive = sync.OnceValue(func() bool {
	if !rig.Has(rig.Relay) {
		return false
	}
	edge, wire := behindEdge("client", make(chan string, 2))
	tree := bulk(1, 2_000_000)
	send(&main, connect(&main, edge.Address()), tree, "first")
	before := wire.Counts()
	another := connect(&main, edge.Address())
	another.SharedKey = "tree:another"
	send(&main, another, tree, "second")
	return wire.Counts().Since(before).Up < 1_000_000
})

// probeStable tries whether the daemon is told a key that is not the client's.
var probeStable = sync.OnceValue(func() bool {
	if !rig.Has(rig.Relay) {
		return false
	}
	keys := make(chan string, 1)
	edge, _ := behindEdge("stable", keys)
	client := connect(&main, edge.Address())
	send(&main, client, bulk(1, 100), "out")
	return <-keys != client.SharedKey
})
