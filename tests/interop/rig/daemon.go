package rig

import (
	"path/filepath"
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

// NewDaemon starts a buildkitd; arguments are added to its command line.
func NewDaemon(s Scope, arguments ...string) *Daemon {
	s.Helper()
	return NewDaemonOf(s, filepath.Join(Setting(s, "BUILDKIT_BIN"), "buildkitd"), arguments...)
}

// NewDaemonOf starts the buildkitd that is given.
func NewDaemonOf(s Scope, binary string, arguments ...string) *Daemon {
	s.Helper()
	d := &Daemon{Address: FreeAddress(s), root: filepath.Join(Directory(s), "root"), binary: binary, arguments: arguments}
	d.Start(s)
	return d
}

// Start starts it again after Kill, on the same root and address.
func (d *Daemon) Start(s Scope) {
	s.Helper()
	Unmount(d.root)
	d.process = Start(s, d.binary, append([]string{"--root", d.root, "--addr", "tcp://" + d.Address,
		"--oci-worker-snapshotter=overlayfs", "--containerd-worker=false", "--oci-worker-gc=false"}, d.arguments...)...)
	d.process.Await(s, d.Address)
}

// Kill ends it as a crash does.
func (d *Daemon) Kill() {
	d.process.Stop(syscall.SIGKILL)
}

// Process of the daemon as it runs now.
func (d *Daemon) Process() *Process {
	return d.process
}
