package rig

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Home is where one stock client keeps its settings: builders, node id.
type Home struct {
	Directory string
	// Buildx is the program; the tests of old clients set another.
	Buildx string
	// Environment is added to that of each command.
	Environment []string

	heard *heard
}

// heard is what the commands of a home, and of its copies, have complained about.
type heard struct {
	mutex      sync.Mutex
	complaints []string
}

// NewHome makes an empty one. Its commands may fail, but what they write through a gateway has no complaints about HTTP/2.
func NewHome(s Scope) *Home {
	s.Helper()
	h := &Home{Directory: Directory(s), Buildx: filepath.Join(Setting(s, "BUILDKIT_BIN"), "buildx"), heard: &heard{}}
	s.Cleanup(func() {
		h.heard.mutex.Lock()
		defer h.heard.mutex.Unlock()
		for _, complaint := range h.heard.complaints {
			s.Errorf("a client says: %s", complaint)
		}
	})
	return h
}

// What BuildKit's own end of a session writes to the user when the gateway's end breaks HTTP/2, or ends it at a bad moment.
var complaint = regexp.MustCompile(`(?m)^.*(http2: server|PROTOCOL_ERROR).*$`)

// A client that closes a session before its own server has written its first SETTINGS fails itself: grpc-go ends a stream
// on which something is sent after CloseSend(). No byte from the gateway takes part in it.
const ownRace = "SendMsg called after CloseSend"

func (h *Home) listen(arguments []string, output string) {
	if slices.Contains(arguments, "straight") {
		return // it is BuildKit's own doing
	}
	h.heard.mutex.Lock()
	defer h.heard.mutex.Unlock()
	for _, line := range complaint.FindAllString(output, -1) {
		if !strings.Contains(line, ownRace) {
			h.heard.complaints = append(h.heard.complaints, line)
		}
	}
}

// AddBuilder is `buildx create` with the stock remote driver.
func (h *Home) AddBuilder(s Scope, name, address string, options ...string) {
	s.Helper()
	arguments := []string{"create", "--name", name, "--driver", "remote"}
	for _, option := range options {
		arguments = append(arguments, "--driver-opt", option)
	}
	if out, err := h.Run("buildx", append(arguments, address)...); err != nil {
		s.Fatalf("buildx create: %v: %s", err, out)
	}
}

// Command is a client's command, ready to be started.
func (h *Home) Command(ctx context.Context, program string, arguments ...string) *exec.Cmd {
	path := h.Buildx
	if program != "buildx" {
		path = filepath.Join(os.Getenv("BUILDKIT_BIN"), program)
	}
	c := exec.CommandContext(ctx, path, arguments...)
	c.Dir = h.Directory
	c.Env = append(os.Environ(), "BUILDX_CONFIG="+filepath.Join(h.Directory, "buildx"), "BUILDX_GIT_INFO=false",
		"DOCKER_CONFIG="+filepath.Join(h.Directory, "docker"), "BUILDX_NO_DEFAULT_ATTESTATIONS=1", "HOME="+h.Directory)
	c.Env = append(c.Env, h.Environment...)
	// A client that is told to end and does not would hold the test up for ever.
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	return c
}

// Run runs a client's command to its end.
func (h *Home) Run(program string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	out, err := h.Command(ctx, program, arguments...).CombinedOutput()
	h.listen(arguments, string(out))
	return string(out), err
}

// MustRun is Run that may not fail.
func (h *Home) MustRun(s Scope, program string, arguments ...string) string {
	s.Helper()
	out, err := h.Run(program, arguments...)
	if err != nil {
		s.Fatalf("%s %s: %v\n%s", program, strings.Join(arguments, " "), err, out)
	}
	return out
}

// ExitCode of what Run returned; -1 when it did not run to an end.
func ExitCode(err error) int {
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Running is a client's command that goes on in the background.
type Running struct {
	Command *exec.Cmd
	Output  Output
	ended   chan struct{}
	err     error
}

// Begin starts a client's command; it is killed at the end of the scope if it still runs.
func (h *Home) Begin(s Scope, program string, arguments ...string) *Running {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	r := &Running{Command: h.Command(ctx, program, arguments...), ended: make(chan struct{})}
	r.Command.Stdout, r.Command.Stderr = &r.Output, &r.Output
	if err := r.Command.Start(); err != nil {
		cancel()
		s.Fatalf("%v", err)
	}
	go func() {
		r.err = r.Command.Wait()
		h.listen(arguments, r.Output.String())
		close(r.ended)
	}()
	s.Cleanup(func() {
		cancel()
		<-r.ended
	})
	return r
}

// AwaitText waits until the command has written it.
func (r *Running) AwaitText(s Scope, text string) {
	s.Helper()
	for end := time.Now().Add(Patience); !strings.Contains(r.Output.String(), text); {
		select {
		case <-r.ended:
			if !strings.Contains(r.Output.String(), text) {
				s.Fatalf("it ended (%v) and did not say %q: %s", r.err, text, r.Output.Tail())
			}
			return
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			s.Fatalf("it did not say %q: %s", text, r.Output.Tail())
		}
	}
}

// Wait waits for its end, at most that long.
func (r *Running) Wait(s Scope, limit time.Duration) error {
	s.Helper()
	select {
	case <-r.ended:
		return r.err
	case <-time.After(limit):
		s.Fatalf("it did not end within %v: %s", limit, r.Output.Tail())
		return nil
	}
}

// Ended tells whether it has.
func (r *Running) Ended() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}
