package rig

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is a server that was started here and is stopped by its id.
type Process struct {
	command *exec.Cmd
	output  Output
	mutex   sync.Mutex
	ended   bool
}

// Output is what a process wrote, readable while it still writes.
type Output struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

func (o *Output) Write(data []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.buffer.Write(data)
}

func (o *Output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.buffer.String()
}

// Tail is the end of it, for messages.
func (o *Output) Tail() string {
	text := o.String()
	return text[max(0, len(text)-6000):]
}

// starts runs what it is sent on one thread that stays: a death signal is sent when the *thread* that forked has ended, and
// Go ends threads, of goroutines that locked them, say.
var starts = sync.OnceValue(func() chan func() {
	todo := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range todo {
			start()
		}
	}()
	return todo
})

// Start begins a server and stops it at the end of the scope.
func Start(s Scope, name string, arguments ...string) *Process {
	s.Helper()
	p := &Process{command: exec.Command(name, arguments...)}
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	// A run that dies takes its servers along.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	starts() <- func() { started <- p.command.Start() }
	if err := <-started; err != nil {
		s.Fatalf("%s: %v", name, err)
	}
	s.Cleanup(func() { p.Stop(syscall.SIGTERM) })
	return p
}

// Stop sends the signal and waits for the end. Harmless when it has ended.
func (p *Process) Stop(signal syscall.Signal) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	_ = p.command.Process.Signal(signal)
	_ = p.command.Wait()
}

// Signal sends it and does not wait.
func (p *Process) Signal(signal syscall.Signal) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !p.ended {
		_ = p.command.Process.Signal(signal)
	}
}

// ExitCode after Stop; -1 when a signal ended it.
func (p *Process) ExitCode() int {
	return p.command.ProcessState.ExitCode()
}

// Pid of the running process.
func (p *Process) Pid() int {
	return p.command.Process.Pid
}

// Log is what it has written so far.
func (p *Process) Log() *Output {
	return &p.output
}

// Ports for servers: below those that the kernel gives to connections (32768 on), which may be taken between the choice of a
// port and its use, and none twice in a run.
const portLeast, portMost = 15000, 32000

var nextPort = func() *atomic.Int64 {
	next := &atomic.Int64{}
	next.Store(rand.Int64N(portMost - portLeast))
	return next
}()

// FreeAddress is a loopback port that nobody listens on.
func FreeAddress(s Scope) string {
	s.Helper()
	for range portMost - portLeast {
		port := portLeast + nextPort.Add(1)%(portMost-portLeast)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer listener.Close()
			return listener.Addr().String()
		}
	}
	s.Fatalf("no port is free")
	return ""
}

// Await waits until somebody listens there.
func (p *Process) Await(s Scope, address string) {
	s.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
	}
	s.Fatalf("nobody listens on %s: %s", address, p.output.Tail())
}

// Eventually waits for a condition that some other process brings about.
func Eventually(s Scope, limit time.Duration, what string, condition func() bool) {
	s.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("after %v still not: %s", limit, what)
		}
	}
}

// Base is where Directory makes them: a real disk, unless a measurement says otherwise.
var Base = "/var/tmp"

// Directory is a new one below Base, world-readable, removed with what is mounted in it.
func Directory(s Scope) string {
	s.Helper()
	return directory(s, "")
}

func directory(s Scope, parent string) string {
	s.Helper()
	if parent == "" {
		parent = Base
	}
	directory, err := os.MkdirTemp(parent, "sluice-interop-")
	if err != nil {
		s.Fatalf("%v", err)
	}
	if err := os.Chmod(directory, 0o755); err != nil {
		s.Fatalf("%v", err)
	}
	s.Cleanup(func() {
		Unmount(directory)
		os.RemoveAll(directory)
	})
	return directory
}

// Unmount takes away what a daemon that was killed left mounted.
func Unmount(directory string) {
	below := mountsBelow(directory)
	for i := len(below) - 1; i >= 0; i-- {
		_ = syscall.Unmount(below[i], syscall.MNT_DETACH)
	}
}

// mountsBelow are the places below a directory on which something is mounted, in the order in which that was done.
func mountsBelow(directory string) []string {
	mounts, _ := os.ReadFile("/proc/self/mounts")
	below := []string{}
	for _, line := range strings.Split(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], directory+"/") {
			below = append(below, fields[1])
		}
	}
	return below
}
