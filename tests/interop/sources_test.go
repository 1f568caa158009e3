package interop

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sluice.dev/sluice/tests/interop/fake"
	"sluice.dev/sluice/tests/interop/rig"
)

// A context that comes as a tar on stdin.
func TestContextOnStdin(t *testing.T) {
	t.Parallel()
	checkContextOnStdin(t, shared(t))
}

func checkContextOnStdin(t *testing.T, p *pair) {
	directory := newContext(t, "FROM scratch\nCOPY src /src\n", nil)
	oddTree(t, directory)
	tar, err := exec.Command("tar", "-C", directory, "-cf", "-", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string]string{}
	for _, way := range ways {
		ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
		defer cancel()
		out := filepath.Join(t.TempDir(), "out")
		c := p.home.Command(ctx, "buildx", "build", "--builder", way, "--output", "type=local,dest="+out, "-")
		c.Stdin = bytes.NewReader(tar)
		if told, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", way, err, told)
		}
		lists[way] = p.listing(t, out)
	}
	if lists["sluice"] != lists["straight"] {
		t.Error(fake.FirstDifference(lists["sluice"], lists["straight"]))
	}
}

// A context that the daemon clones: the client sends nothing of it.
func TestContextFromGit(t *testing.T) {
	t.Parallel()
	p := shared(t)
	base := rig.Directory(t)
	repository := filepath.Join(base, "repository")
	putFiles(t, repository, files{"Dockerfile": "FROM scratch\nCOPY src /src\n", "src/f": noise(1000, 2), "src/g": "g"})
	for _, arguments := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."},
		{"-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-q", "-m", "one"}} {
		if out, err := exec.Command("git", append([]string{"-C", repository}, arguments...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", arguments, err, out)
		}
	}
	address := rig.FreeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	// `git daemon` itself goes on as another process; the program below it is the one that is to be stopped.
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := rig.Start(t, filepath.Join(string(bytes.TrimSpace(core)), "git-daemon"), "--export-all", "--base-path="+base, "--reuseaddr",
		"--listen="+host, "--port="+port, base)
	server.Await(t, address)
	lists := map[string]string{}
	for _, way := range ways {
		out := filepath.Join(t.TempDir(), "out")
		p.home.MustRun(t, "buildx", "build", "--builder", way, "--output", "type=local,dest="+out, "git://"+address+"/repository#main")
		for _, name := range []string{"src/f", "src/g"} {
			if err := os.Chtimes(filepath.Join(out, name), fixedTime, fixedTime); err != nil { // the time of the clone
				t.Fatal(err)
			}
		}
		lists[way] = p.listing(t, out)
	}
	if lists["sluice"] != lists["straight"] {
		t.Error(fake.FirstDifference(lists["sluice"], lists["straight"]))
	}
}

// A RUN step talks with the client's ssh agent: it sees the key that only the client has.
func TestSSH(t *testing.T) {
	t.Parallel()
	checkSSH(t, shared(t))
}

func checkSSH(t *testing.T, p *pair) {
	keyring := agent.NewKeyring()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.Add(agent.AddedKey{PrivateKey: private, Comment: "the-client's-own"}); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(rig.Directory(t), "agent")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keyring, conn) }()
		}
	}()
	// busybox has no ssh client, so the step runs one made here.
	directory := newContext(t, "FROM scratch\nCOPY src /src\nRUN --mount=type=ssh [\"/src/sshkeys\", \"/keys\"]\n", nil)
	build := exec.Command("go", "build", "-o", filepath.Join(directory, "src/sshkeys"), "./sshkeys")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wanted := ssh.FingerprintSHA256(signer.PublicKey()) + " the-client's-own\n"
	for _, way := range ways {
		out := filepath.Join(t.TempDir(), "out")
		p.home.MustRun(t, "buildx", "build", "--builder", way, "--ssh", "default="+socket, "--output", "type=local,dest="+out, directory)
		if got, err := os.ReadFile(filepath.Join(out, "keys")); err != nil || string(got) != wanted {
			t.Errorf("%s: %v: %q", way, err, got)
		}
	}
}
