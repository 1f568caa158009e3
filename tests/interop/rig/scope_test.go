package rig

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// interruptedProgram is what TestInterrupted interrupts.
func interruptedProgram(undone string) {
	scope := NewMain()
	scope.Cleanup(func() { os.WriteFile(undone, nil, 0o644) })
	waiting := make(chan struct{})
	scope.Cleanup(func() { close(waiting) })
	fmt.Println("ready")
	<-waiting
	scope.Fatalf("what it waited for was stopped")
}

// A program that is interrupted undoes all, and what fails meanwhile, as it is stopped, does not end it sooner.
func TestInterrupted(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		undone := filepath.Join(t.TempDir(), "undone")
		program := exec.Command(os.Args[0])
		program.Env = append(os.Environ(), "RIG_INTERRUPTED="+undone)
		out, err := program.StdoutPipe()
		if err == nil {
			err = program.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("%q, %v", line, err)
		}
		program.Process.Signal(signal)
		program.Wait()
		if status := program.ProcessState.ExitCode(); status != 130 {
			t.Errorf("%v: it ended with %d", signal, status)
		}
		if _, err := os.Stat(undone); err != nil {
			t.Errorf("%v: %v", signal, err)
		}
	}
}
