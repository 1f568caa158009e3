package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// Two directories whose last names are the same, and so their shared keys, with a file of one name, length and time: each target of
// a bake has its own, as straight.
func TestBakeOfDirectoriesOfOneName(t *testing.T) {
	everyWay(t, checkNamesakes)
}

func checkNamesakes(t *testing.T, p *pair) {
	base, name := rig.Directory(t), fmt.Sprintf("app%d", rand.Uint64())
	when := time.Unix(1_700_000_000, 123_456_789)
	file, out := "", t.TempDir()
	for _, service := range []string{"a", "b"} {
		directory := filepath.Join(base, service, name)
		// As long as both are at work BuildKit keeps them apart.
		putFiles(t, directory, files{"Dockerfile": shell + "COPY install.sh /made\nRUN sleep 4\n", "install.sh": service, "src/nonce": name + service})
		if err := copyFile("/bin/busybox", filepath.Join(directory, "busybox")); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(directory, "install.sh"), when, when); err != nil {
			t.Fatal(err)
		}
		file += fmt.Sprintf("target %q {\n  context = %q\n  output = [\"type=local,dest=%s\"]\n}\n", service, directory, filepath.Join(out, service))
	}
	path := filepath.Join(base, "bake.hcl")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	p.home.MustRun(t, "buildx", "bake", "--builder", "sluice", "--allow", "fs=*", "-f", path, "a", "b")
	for _, service := range []string{"a", "b"} {
		if made, err := os.ReadFile(filepath.Join(out, service, "made")); err != nil || string(made) != service {
			t.Errorf("%s has %q: %v", service, made, err)
		}
	}
}
