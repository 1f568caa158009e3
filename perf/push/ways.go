package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sluice.dev/sluice/perf/table"
	"sluice.dev/sluice/perf/trees"
	"sluice.dev/sluice/tests/interop/rig"
)

// way is one means of bringing the tree there.
type way struct {
	name string
	// begin makes a far end that has nothing, and a client that knows nothing.
	begin func()
	// push brings the tree there, through a counting proxy or not.
	push func(counted bool) table.Sample
}

func (b *bench) makeWays(names []string) {
	known := map[string]func(*bench) *way{"sluice": sluiceWay, "rsync": rsyncWay, "tar": tarWay, "casync": casyncWay, "straight": straightWay,
		"walk": walkWay}
	for _, name := range names {
		if known[name] == nil {
			b.scope.Fatalf("no way %q", name)
		}
		b.ways = append(b.ways, known[name](b))
	}
}

// line is where clients reach a server on the host's loopback: direct, or through what counts and slows.
type line struct {
	direct, counted string
	proxy           *rig.Proxy
}

func (b *bench) line(address string) *line {
	l := &line{direct: address}
	l.proxy = b.link.To(b.scope, address)
	l.counted = l.proxy.Address
	if b.shape.Megabits > 0 {
		l.direct = l.counted
	}
	return l
}

func (l *line) address(counted bool) string {
	if counted {
		return l.counted
	}
	return l.direct
}

func (l *line) count(sample table.Sample, before rig.Counts) table.Sample {
	carried := l.proxy.Counts().Since(before)
	sample.Up, sample.Down = carried.Up, carried.Down
	return sample
}

// near runs a command at the near end of the line.
func (b *bench) near(arguments ...string) *exec.Cmd {
	entered := b.link.Enter(arguments)
	return exec.Command(entered[0], entered[1:]...)
}

func nothing() float64 { return 0 }

func sluiceWay(b *bench) *way {
	ca := rig.NewAuthority(b.scope)
	var gateway *rig.Gateway
	var wire *line
	home := ""
	return &way{name: "sluice", begin: func() {
		if gateway != nil {
			gateway.Stop(b.scope)
			os.RemoveAll(gateway.Store)
		}
		gateway = ca.NewGateway(rig.GatewayOptions{})
		wire, home = b.line(gateway.Address), rig.Directory(b.scope)
	}, push: func(counted bool) table.Sample {
		arguments := append([]string{rig.Setting(b.scope, "SLUICE_BINARY"), "push", "--gateway", "grpcs://" + wire.address(counted), "--no-ignore",
			"--progress", "quiet"}, rig.Flags(ca.Client("default"))...)
		command := b.near(append(arguments, b.tree)...)
		command.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home, "XDG_STATE_HOME="+home,
			"SLUICE_TLS_SERVER_NAME=127.0.0.1") // over a shaped line it is at another address
		before := wire.proxy.Counts()
		return wire.count(b.measure(command, func() float64 { return rig.CPUSeconds(gateway.Process().Pid()) }, nil), before)
	}}
}

// keys for socat: of the same kind as the gateway's.
func keys(b *bench) string {
	ca := rig.NewAuthority(b.scope)
	directory := ca.Server()
	both := []byte{}
	for _, file := range []string{"cert.pem", "key.pem"} {
		data, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			b.scope.Fatalf("%v", err)
		}
		both = append(both, data...)
	}
	if err := os.WriteFile(filepath.Join(directory, "both.pem"), both, 0o600); err != nil {
		b.scope.Fatalf("%v", err)
	}
	return directory
}

func tlsServer(directory, port string) string {
	return fmt.Sprintf("OPENSSL-LISTEN:%s,bind=127.0.0.1,reuseaddr,fork,cert=%s/both.pem,cafile=%s/ca.pem,verify=0", port, directory, directory)
}

func tlsClient(directory, address string) string {
	return fmt.Sprintf("OPENSSL:%s,cafile=%s/ca.pem,commonname=127.0.0.1", address, directory)
}

func portOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }

func rsyncWay(b *bench) *way {
	directory, certificate := rig.Directory(b.scope), keys(b)
	plain, secured := rig.FreeAddress(b.scope), rig.FreeAddress(b.scope)
	there, file := filepath.Join(directory, "there"), filepath.Join(directory, "rsyncd.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "use chroot = no\nport = %s\naddress = 127.0.0.1\nuid = root\ngid = root\n[tree]\npath = %s\nread only = no\n",
		portOf(plain), there), 0o644); err != nil {
		b.scope.Fatalf("%v", err)
	}
	daemon := rig.Start(b.scope, "rsync", "--daemon", "--no-detach", "--config", file)
	daemon.Await(b.scope, plain)
	socat := rig.Start(b.scope, "socat", tlsServer(certificate, portOf(secured)), "TCP:"+plain)
	socat.Await(b.scope, secured)
	wire := b.line(secured)
	return &way{name: "rsync", begin: func() {
		os.RemoveAll(there)
		if err := os.MkdirAll(there, 0o755); err != nil {
			b.scope.Fatalf("%v", err)
		}
	}, push: func(counted bool) table.Sample {
		// rsync talks to the daemon through a program that carries its connection.
		flags := []string{"rsync", "-a", "--delete"}
		if b.shape.Megabits > 0 {
			flags = append(flags, "-z")
		}
		command := b.near(append(flags, b.tree+"/", "rsync://127.0.0.1/tree")...)
		command.Env = append(os.Environ(), "RSYNC_CONNECT_PROG=socat - "+tlsClient(certificate, wire.address(counted)))
		before := wire.proxy.Counts()
		far := func() float64 { return rig.CPUSeconds(daemon.Pid()) + rig.CPUSeconds(socat.Pid()) }
		return wire.count(b.measure(command, far, nil), before)
	}}
}

func tarWay(b *bench) *way {
	directory, certificate := rig.Directory(b.scope), keys(b)
	secured, there := rig.FreeAddress(b.scope), filepath.Join(directory, "there")
	done := filepath.Join(directory, "done")
	socat := rig.Start(b.scope, "socat", tlsServer(certificate, portOf(secured)),
		fmt.Sprintf("SYSTEM:zstd -dc | tar -xf - -C %s && touch %s", there, done))
	socat.Await(b.scope, secured)
	time.Sleep(200 * time.Millisecond) // what Await connected for has ended
	wire := b.line(secured)
	begin := func() {
		os.RemoveAll(there)
		if err := os.MkdirAll(there, 0o755); err != nil {
			b.scope.Fatalf("%v", err)
		}
	}
	return &way{name: "tar", begin: begin, push: func(counted bool) table.Sample {
		os.Remove(done)
		command := b.near("sh", "-c", `tar -cf - -C "$0" . | zstd -3 -q | socat -u - "$1"`, b.tree, tlsClient(certificate, wire.address(counted)))
		before := wire.proxy.Counts()
		return wire.count(b.measure(command, func() float64 { return rig.CPUSeconds(socat.Pid()) }, func([]byte) {
			for end := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(done); err == nil {
					return
				}
				if time.Now().After(end) {
					b.scope.Fatalf("tar at the far end does not end: %s", socat.Log().Tail())
				}
			}
		}), before)
	}}
}

// walkWay only looks.
func walkWay(b *bench) *way {
	return &way{name: "walk", begin: func() {}, push: func(bool) table.Sample {
		return b.measure(trees.Walk(b.scope, b.tree), nothing, nil)
	}}
}

func casyncWay(b *bench) *way {
	directory := rig.Directory(b.scope)
	store, cache := filepath.Join(directory, "store"), filepath.Join(directory, "cache")
	return &way{name: "casync", begin: func() {
		os.RemoveAll(store)
		os.RemoveAll(cache)
		if err := os.Mkdir(store, 0o755); err != nil {
			b.scope.Fatalf("%v", err)
		}
		if err := os.Mkdir(cache, 0o755); err != nil {
			b.scope.Fatalf("%v", err)
		}
	}, push: func(bool) table.Sample {
		return b.measure(exec.Command("casync", "make", "--without=privileged", "--compression=zstd", "--store="+store, "--cache="+cache,
			filepath.Join(directory, "tree.caidx"), b.tree), nothing, nil)
	}}
}

func straightWay(b *bench) *way {
	daemon, home := rig.NewDaemon(b.scope), rig.NewHome(b.scope)
	wire := b.line(daemon.Address)
	home.AddBuilder(b.scope, "direct", "tcp://"+wire.direct)
	home.AddBuilder(b.scope, "counted", "tcp://"+wire.counted)
	recipe := filepath.Join(rig.Directory(b.scope), "Dockerfile")
	if err := os.WriteFile(recipe, []byte("FROM scratch\nCOPY . /ctx\n"), 0o644); err != nil {
		b.scope.Fatalf("%v", err)
	}
	return &way{name: "straight", begin: func() { daemon.Refresh(b.scope) }, push: func(counted bool) table.Sample {
		builder := map[bool]string{false: "direct", true: "counted"}[counted]
		stock := home.Command(context.Background(), "buildx", "build", "--builder", builder, "--progress", "rawjson", "-f", recipe, b.tree)
		command := b.near(append([]string{stock.Path}, stock.Args[1:]...)...)
		command.Dir, command.Env = stock.Dir, stock.Env
		var out []byte
		before := wire.proxy.Counts()
		sample := b.measure(command, func() float64 { return rig.CPUSeconds(daemon.Process().Pid()) }, func(told []byte) { out = told })
		// The context's transfer alone: what the build does with it afterwards is no part of a push.
		seconds, err := table.ContextSeconds(out, 0)
		if err != nil {
			b.scope.Fatalf("%v: %s", err, out[max(0, len(out)-2000):])
		}
		sample.Command, sample.Wall = sample.Wall, seconds
		return wire.count(sample, before)
	}}
}
