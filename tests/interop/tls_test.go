package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// authority is a CA made by `sluice cert`, as a user makes one.
type authority struct{ directory string }

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{directory: filepath.Join(rig.Directory(t), "ca")}
	a.sluice(t, "cert", "ca", a.directory)
	return a
}

func (a *authority) sluice(t *testing.T, arguments ...string) {
	t.Helper()
	if out, err := exec.Command(rig.Setting(t, "SLUICE_BINARY"), arguments...).CombinedOutput(); err != nil {
		t.Fatalf("sluice %v: %v: %s", arguments, err, out)
	}
}

// issue makes a certificate in a directory of its own.
func (a *authority) issue(t *testing.T, arguments ...string) string {
	t.Helper()
	directory := filepath.Join(rig.Directory(t), "certificate")
	a.sluice(t, append(append([]string{"cert", "issue", "--ca-dir", a.directory}, arguments...), directory)...)
	return directory
}

func (a *authority) client(t *testing.T, tenant string) string {
	t.Helper()
	return a.issue(t, "--client", "--tenant", tenant, "--subject", "ci")
}

// options of `buildx create` for a client's certificate.
func options(certificate string) []string {
	return []string{"cacert=" + filepath.Join(certificate, "ca.pem"), "cert=" + filepath.Join(certificate, "cert.pem"),
		"key=" + filepath.Join(certificate, "key.pem")}
}

// gateway speaks TLS and takes only clients with a certificate of this authority.
func (a *authority) gateway(t *testing.T, executors ...string) *rig.Gateway {
	t.Helper()
	certificate := a.issue(t, "--server", "--name", "127.0.0.1")
	// The gateway reads its key as the user that it becomes.
	if err := os.Chown(filepath.Join(certificate, "key.pem"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return rig.NewGateway(t, rig.GatewayOptions{Executors: executors, Scheme: "grpcs", Arguments: []string{
		"--tls-cert", filepath.Join(certificate, "cert.pem"), "--tls-key", filepath.Join(certificate, "key.pem"),
		"--tls-ca", filepath.Join(certificate, "ca.pem"), "--tls-require-client"}})
}

// buildx's remote driver speaks TLS without ALPN, buildctl with it; both with certificates from `sluice cert`. A client
// without one gets nowhere, and one of another tenant is refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	p := shared(t)
	ca := newAuthority(t)
	gateway := ca.gateway(t, rig.Executor(p.straight.Address, 4))
	mine, foreign := ca.client(t, "default"), ca.client(t, "somebody-else")
	home := rig.NewHome(t)
	home.AddBuilder(t, "mine", "tcp://"+gateway.Address, options(mine)...)
	home.AddBuilder(t, "foreign", "tcp://"+gateway.Address, options(foreign)...)
	directory := newContext(t, shell+"COPY src /src\n", nil)
	oddTree(t, directory)

	out := filepath.Join(t.TempDir(), "out")
	home.MustRun(t, "buildx", "build", "--builder", "mine", "--output", "type=local,dest="+out, directory)
	straight := filepath.Join(t.TempDir(), "straight")
	p.home.MustRun(t, "buildx", "build", "--builder", "straight", "--output", "type=local,dest="+straight, directory)
	if got, wanted := listing(t, out), listing(t, straight); got != wanted {
		t.Error(fake.FirstDifference(got, wanted))
	}

	tls := func(certificate string) []string {
		return []string{"--addr", "tcp://" + gateway.Address, "--tlscacert", filepath.Join(certificate, "ca.pem"), "--tlscert",
			filepath.Join(certificate, "cert.pem"), "--tlskey", filepath.Join(certificate, "key.pem")}
	}
	home.MustRun(t, "buildctl", append(tls(mine), "build", "--frontend", "dockerfile.v0", "--local", "context="+directory, "--local",
		"dockerfile="+directory)...)
	if out, err := home.Run("buildctl", append(tls(foreign), "debug", "workers")...); err == nil || !strings.Contains(out, "tenant") {
		t.Errorf("another tenant: %v: %s", err, out)
	}
	if out, err := home.Run("buildctl", "--addr", "tcp://"+gateway.Address, "--tlscacert", filepath.Join(mine, "ca.pem"), "debug",
		"workers"); err == nil {
		t.Errorf("without a certificate: %s", out)
	}
	if out, err := home.Run("buildctl", "--addr", "tcp://"+gateway.Address, "debug", "workers"); err == nil {
		t.Errorf("without TLS: %s", out)
	}

	old := *home
	old.Buildx = rig.Setting(t, "OLD_BUILDX")
	old.MustRun(t, "buildx", "build", "--builder", "mine", directory)
}

// daemon is a buildkitd that takes only clients with a certificate of this authority.
func (a *authority) daemon(t *testing.T) *rig.Daemon {
	t.Helper()
	certificate := a.issue(t, "--server", "--name", "127.0.0.1")
	return rig.NewDaemon(t, "--tlscacert", filepath.Join(certificate, "ca.pem"), "--tlscert", filepath.Join(certificate, "cert.pem"),
		"--tlskey", filepath.Join(certificate, "key.pem"))
}

// readable lets the gateway, which gives up root, read a file.
func readable(t *testing.T, path string) string {
	t.Helper()
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	return path
}

// A gateway and its buildkitd know each other by certificates. What is wrong with them is told to who runs the gateway, and mended
// without a restart.
func TestExecutorOverTLS(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	ca, other := newAuthority(t), newAuthority(t)
	daemon := ca.daemon(t)
	mine, foreign := ca.client(t, "default"), other.client(t, "default")
	keys := filepath.Join(rig.Directory(t), "keys")
	take := func(from string) {
		t.Helper()
		if err := os.MkdirAll(keys, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
			data, err := os.ReadFile(filepath.Join(from, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(keys, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
			readable(t, filepath.Join(keys, name))
		}
	}
	take(foreign)
	address := "tcps://" + daemon.Address + ",slots=4"
	files := ",ca=" + filepath.Join(keys, "ca.pem") + ",cert=" + filepath.Join(keys, "cert.pem") + ",key=" + filepath.Join(keys, "key.pem")
	directory := newContext(t, shell+"COPY src /src\nRUN true\n", nil)

	// Its own CA is right and it shows nothing.
	bare := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{address + ",ca=" + filepath.Join(ca.directory, "ca.pem")}})
	rig.Eventually(t, 20*time.Second, "the log says that a certificate is needed", func() bool {
		return strings.Contains(bare.Process().Log().String(), "the buildkitd requires a client certificate")
	})
	// All is another authority's.
	gateway := rig.NewGateway(t, rig.GatewayOptions{Executors: []string{address + files}})
	rig.Eventually(t, 20*time.Second, "the log says that the CA is another", func() bool {
		return strings.Contains(gateway.Process().Log().String(), "is ca= in --buildkit the CA of the buildkitd's certificate?")
	})
	take(mine)
	gateway.Process().Signal(syscall.SIGHUP)
	home := rig.NewHome(t)
	home.AddBuilder(t, "sluice", "tcp://"+gateway.Address)
	home.MustRun(t, "buildx", "build", "--builder", "sluice", directory)
	// Keys that cannot be read change nothing.
	if err := os.WriteFile(filepath.Join(keys, "key.pem"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	gateway.Process().Signal(syscall.SIGHUP)
	rig.Eventually(t, 20*time.Second, "the log names the key", func() bool {
		return strings.Contains(gateway.Process().Log().String(), "not reloaded why=\"executor tcps://"+daemon.Address+": cannot use the key")
	})
	home.MustRun(t, "buildx", "build", "--builder", "sluice", "--no-cache", directory)
}

// Each tenant's builds reach the executors of that tenant and no others.
func TestTenantsHaveTheirOwnExecutors(t *testing.T) {
	t.Parallel()
	needs(t, rig.Pool)
	ca := newAuthority(t)
	executors, daemons := []string{}, map[string]*rig.Daemon{}
	for _, tenant := range []string{"red", "blue"} {
		daemons[tenant] = rig.NewDaemon(t)
		executors = append(executors, rig.Executor(daemons[tenant].Address, 2)+",tenant="+tenant)
	}
	gateway := ca.gateway(t, executors...)
	home := rig.NewHome(t)
	for tenant := range daemons {
		home.AddBuilder(t, tenant, "tcp://"+gateway.Address, options(ca.client(t, tenant))...)
	}
	for tenant := range daemons {
		directory := newContext(t, shell+"COPY src /"+tenant+"\n", nil)
		home.MustRun(t, "buildx", "build", "--builder", tenant, directory)
	}
	for tenant, other := range map[string]string{"red": "blue", "blue": "red"} {
		for _, out := range []string{home.MustRun(t, "buildx", "du", "--verbose", "--builder", tenant),
			home.MustRun(t, "buildctl", "--addr", "tcp://"+daemons[tenant].Address, "du", "--verbose")} {
			if !strings.Contains(out, "/"+tenant) || strings.Contains(out, "/"+other) {
				t.Errorf("%s: %s", tenant, out)
			}
		}
	}
}
