// sshkeys FILE writes the fingerprints and comments of the keys that the ssh agent has: what a RUN step with an ssh mount
// can see.
package main

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string) error {
	conn, err := net.Dial("unix", os.Getenv("SSH_AUTH_SOCK"))
	if err != nil {
		return err
	}
	keys, err := agent.NewClient(conn).List()
	if err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	for _, key := range keys {
		fmt.Fprintln(out, ssh.FingerprintSHA256(key), key.Comment)
	}
	return out.Close()
}
