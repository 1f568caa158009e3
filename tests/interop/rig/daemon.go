package rig

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// Daemon is one buildkitd on a root of its own.
type Daemon struct {
	Address   string
	root      string
	binary    string
	arguments []string
	process   *Process
}

const traceSocket = "--otel-socket-path"

// State is where the roots of daemons and the stores of gateways and edges are made, all on one medium; empty: where Directory makes its own.
var State string

// Stores is where the stores of gateways are made when that is another medium than State's; empty: State.
var Stores string

// Refresh starts it with an empty root, on the same address.
func (d *Daemon) Refresh(s Scope) {
	s.Helper()
	d.stop(syscall.SIGTERM)
	Unmount(d.root)
	if err := os.RemoveAll(d.root); err != nil {
		s.Fatalf("%v", err)
	}
	d.Start(s)
}

// NewDaemon starts a buildkitd; arguments are added to its command line.
func NewDaemon(s Scope, arguments ...string) *Daemon {
	s.Helper()
	return NewDaemonOf(s, filepath.Join(Setting(s, "BUILDKIT_BIN"), "buildkitd"), arguments...)
}

// NewDaemonOf starts the buildkitd that is given.
func NewDaemonOf(s Scope, binary string, arguments ...string) *Daemon {
	s.Helper()
	d := &Daemon{Address: FreeAddress(s), root: filepath.Join(directory(s, State), "root"), binary: binary, arguments: arguments}
	d.Start(s)
	return d
}

// Discard ends it and all that it kept.
func (d *Daemon) Discard() {
	d.stop(syscall.SIGTERM)
	Unmount(d.root)
	os.RemoveAll(d.root)
}

// Start starts it again after Kill, on the same root and address. Its socket for traces is its own: at the usual place two that
// begin at once take it from each other, and the one that loses does not start.
func (d *Daemon) Start(s Scope) {
	s.Helper()
	Unmount(d.root)
	arguments := []string{"--root", d.root, "--addr", "tcp://" + d.Address, "--oci-worker-snapshotter=overlayfs", "--containerd-worker=false",
		"--oci-worker-gc=false"}
	if help, _ := exec.Command(d.binary, "--help").CombinedOutput(); bytes.Contains(help, []byte(traceSocket)) { // old ones have no choice
		arguments = append(arguments, traceSocket, d.root+".otel")
	}
	d.process = Start(s, d.binary, append(arguments, d.arguments...)...)
	s.Cleanup(func() { d.stop(syscall.SIGTERM) })
	d.process.Await(s, d.Address)
}

// Kill ends it as a crash does, and then the steps that it leaves running.
func (d *Daemon) Kill() { d.stop(syscall.SIGKILL) }

func (d *Daemon) stop(signal syscall.Signal) {
	d.process.Stop(signal)
	for _, pid := range d.steps() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// steps are the processes in containers of this daemon: their root lies in the daemon's, in a mount namespace of their own. What a
// container of another daemon begins as still has all mounts of the host, this daemon's among them, but not as its root.
func (d *Daemon) steps() []int {
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	found := []int{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		theirs, err := os.Readlink(filepath.Join("/proc", entry.Name(), "ns/mnt"))
		if err != nil || theirs == ours {
			continue
		}
		mounts, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "mountinfo"))
		for _, mount := range bytes.Split(mounts, []byte("\n")) {
			if fields := bytes.Fields(mount); len(fields) > 4 && string(fields[4]) == "/" && bytes.Contains(mount, []byte(d.root+"/")) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// Process of the daemon as it runs now.
func (d *Daemon) Process() *Process {
	return d.process
}

// Runs tells whether a step of this daemon runs `sleep` for that long.
func (d *Daemon) Runs(seconds string) bool {
	for _, pid := range d.steps() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.HasSuffix(line, []byte("sleep\x00"+seconds+"\x00")) {
			return true
		}
	}
	return false
}
