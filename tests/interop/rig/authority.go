package rig

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Authority is a CA made by `sluice cert`, as a user makes one, and what it has issued.
type Authority struct {
	scope     Scope
	directory string
}

// NewAuthority makes one that lasts as long as the scope.
func NewAuthority(s Scope) *Authority {
	s.Helper()
	a := &Authority{scope: s, directory: Directory(s)}
	a.sluice("cert", "ca", filepath.Join(a.directory, "ca"))
	return a
}

func (a *Authority) sluice(arguments ...string) {
	a.scope.Helper()
	if out, err := exec.Command(Setting(a.scope, "SLUICE_BINARY"), arguments...).CombinedOutput(); err != nil {
		a.scope.Fatalf("sluice %v: %v: %s", arguments, err, out)
	}
}

func (a *Authority) issue(name string, arguments ...string) string {
	a.scope.Helper()
	directory := filepath.Join(a.directory, name)
	if _, err := os.Stat(directory); err != nil {
		a.sluice(append(append([]string{"cert", "issue", "--ca-dir", filepath.Join(a.directory, "ca")}, arguments...), directory)...)
	}
	return directory
}

// Client is the directory of a tenant's certificate: ca.pem, cert.pem, key.pem.
func (a *Authority) Client(tenant string) string {
	return a.issue("client-"+tenant, "--client", "--tenant", tenant, "--subject", "ci")
}

// Server is the directory of a certificate for 127.0.0.1, whose key the gateway can read.
func (a *Authority) Server() string {
	directory := a.issue("server", "--server", "--name", "127.0.0.1")
	// It reads its key as the user that it becomes.
	if err := os.Chown(filepath.Join(directory, "key.pem"), 65534, 65534); err != nil {
		a.scope.Fatalf("%v", err)
	}
	return directory
}

// Flags name the files of a certificate: --tls-ca, --tls-cert and --tls-key.
func Flags(directory string) []string {
	return []string{"--tls-ca", filepath.Join(directory, "ca.pem"), "--tls-cert", filepath.Join(directory, "cert.pem"),
		"--tls-key", filepath.Join(directory, "key.pem")}
}

// NewGateway is one that speaks TLS and takes only clients with a certificate of this authority.
func (a *Authority) NewGateway(options GatewayOptions) *Gateway {
	a.scope.Helper()
	options.Scheme = "grpcs"
	options.Arguments = append(append(Flags(a.Server()), "--tls-require-client"), options.Arguments...)
	return NewGateway(a.scope, options)
}
