// Package rig starts what the interop tests need: gateways, real buildkitd, and homes of stock clients.
//
// SLUICE_BINARY is the gateway, BUILDKIT_BIN the directory of buildkitd, buildctl and buildx, OLD_BUILDX and OLD_BUILDKITD
// are releases of years ago; scripts/interop sets them all.
package rig

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Patience is how long one client command may take before a test gives up on it.
var Patience = patience()

func patience() time.Duration {
	if Soak() {
		return 30 * time.Minute // gigabytes, and minutes in the queue
	}
	return 3 * time.Minute
}

// Scope is what a helper needs of a test: *testing.T is one, and so is a Main that lives as long as the whole run.
type Scope interface {
	Helper()
	Errorf(format string, arguments ...any)
	Fatalf(format string, arguments ...any)
	Logf(format string, arguments ...any)
	Cleanup(func())
}

// Main owns what all tests of a run share.
type Main struct {
	mutex               sync.Mutex
	cleanups            []func()
	failed, interrupted bool
}

// NewMain is one of a program of its own, which undoes all before it ends, also when it is interrupted.
func NewMain() *Main {
	m := &Main{}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		m.Logf("interrupted: stopping what was started")
		m.mutex.Lock()
		m.interrupted = true
		m.mutex.Unlock()
		m.Close()
		os.Exit(130)
	}()
	return m
}

func (m *Main) Helper() {}

func (m *Main) Logf(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}

// Errorf makes Close say that something failed.
func (m *Main) Errorf(format string, arguments ...any) {
	m.Logf(format, arguments...)
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.failed = true
}

// Fatalf ends the run: without what is shared no test can say anything.
func (m *Main) Fatalf(format string, arguments ...any) {
	m.mutex.Lock()
	interrupted := m.interrupted
	m.mutex.Unlock()
	if interrupted { // what it was about is being stopped: whoever stops it ends the program, too
		select {}
	}
	m.Logf(format, arguments...)
	m.Close()
	os.Exit(1)
}

func (m *Main) Cleanup(cleanup func()) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.cleanups = append(m.cleanups, cleanup)
}

// Close undoes all, the last first; false when something failed, now or before.
func (m *Main) Close() bool {
	m.mutex.Lock()
	cleanups := m.cleanups
	m.cleanups = nil
	m.mutex.Unlock()
	for i := len(cleanups) - 1; i >= 0; i-- {
		cleanups[i]()
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return !m.failed
}

// Setting is a variable of the environment without which nothing here can run.
func Setting(s Scope, name string) string {
	s.Helper()
	value := os.Getenv(name)
	if value == "" {
		s.Fatalf("run this with `make interop`: %s is not set", name)
	}
	return value
}

// Soak tells whether the long forms are wanted.
func Soak() bool {
	return os.Getenv("INTEROP") == "soak"
}
