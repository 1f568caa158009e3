// link: run a command at the near end of a slow line. HOST:PORT, a server on this machine, is at the far end; the word {} in
// the command becomes its address there. Afterwards one JSON line says what went over the line: payload bytes of TCP.
//
//	link [--megabits 20] [--delay 80ms] [--cut-every BYTES --cuts N --seed N] HOST:PORT COMMAND [ARGUMENT]...
//
// Root, ip and tc: the line is a pair of network namespaces with a token bucket at each end (tests/interop/rig/shaped.go).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

func main() {
	shape := rig.Shape{Name: "link"}
	flag.Float64Var(&shape.Megabits, "megabits", 20, "Mbit/s each way; 0: unshaped, on loopback")
	flag.DurationVar(&shape.RoundTrip, "delay", 80*time.Millisecond, "round trip")
	every := flag.Int64("cut-every", 0, "cut a connection each time so many bytes have passed, on average; 0: never")
	cuts := flag.Int("cuts", 20, "how often at most")
	seed := flag.Uint64("seed", 1, "of the cuts")
	flag.Parse()
	if flag.NArg() < 2 {
		fmt.Fprintln(os.Stderr, "usage: link [FLAG]... HOST:PORT COMMAND [ARGUMENT]...")
		os.Exit(2)
	}
	scope := rig.NewMain()
	line := rig.NewLink(scope, shape)
	proxy := line.To(scope, flag.Arg(0))
	if *every > 0 {
		proxy.CutEvery(*seed, *every, *cuts)
	}
	arguments := []string{}
	for _, argument := range flag.Args()[1:] {
		arguments = append(arguments, strings.ReplaceAll(argument, "{}", proxy.Address))
	}
	arguments = line.Enter(arguments)
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	began := time.Now()
	err := command.Run()
	counts := proxy.Counts()
	_ = json.NewEncoder(os.Stderr).Encode(map[string]any{"seconds": time.Since(began).Seconds(), "up": counts.Up, "down": counts.Down,
		"connections": counts.Connections, "cuts": counts.Cuts})
	scope.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "link:", err)
		os.Exit(max(1, command.ProcessState.ExitCode()))
	}
}
