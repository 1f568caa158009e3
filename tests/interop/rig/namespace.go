package rig

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

func namespace(holder int) string { return fmt.Sprintf("/proc/%d/ns/net", holder) }

// holdNamespace starts a process that does nothing in a network namespace of its own.
func holdNamespace(s Scope) int {
	s.Helper()
	command := exec.Command("sleep", "infinity")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	starts() <- func() { started <- command.Start() }
	if err := <-started; err != nil {
		s.Fatalf("a network namespace: %v", err)
	}
	s.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return command.Process.Pid
}

// listenIn makes a socket in a namespace; it stays there, whoever uses it.
func listenIn(namespace, address string) (listener net.Listener, err error) {
	err = within(namespace, func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// within runs a function on a thread that is in the namespace.
func within(namespace string, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		file, err := os.Open(namespace)
		if err == nil {
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			file.Close()
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

func run(s Scope, name string, arguments ...string) {
	s.Helper()
	if out, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
		s.Fatalf("%s %v: %v: %s", name, arguments, err, out)
	}
}

// ListenElsewhere listens in another network namespace, which the host reaches by a pair of veth, as it would another machine.
func ListenElsewhere(s Scope) net.Listener {
	s.Helper()
	number := os.Getpid()
	subnet := number % (1 << 14) << 2 // a /30 of 10.197.0.0/16
	ours, theirs := fmt.Sprintf("10.197.%d.%d", subnet>>8, subnet&255|1), fmt.Sprintf("10.197.%d.%d", subnet>>8, subnet&255|2)
	near, far := fmt.Sprintf("sluice%d", number), "there"
	holder := holdNamespace(s)
	there := namespace(holder)
	run(s, "ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", strconv.Itoa(holder))
	run(s, "ip", "address", "add", ours+"/30", "dev", near)
	run(s, "ip", "link", "set", near, "up")
	run(s, "nsenter", "--net="+there, "ip", "address", "add", theirs+"/30", "dev", far)
	run(s, "nsenter", "--net="+there, "ip", "link", "set", far, "up")
	listener, err := listenIn(there, theirs+":0")
	if err != nil {
		s.Fatalf("in another network namespace: %v", err)
	}
	s.Cleanup(func() { listener.Close() })
	return listener
}
