package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice.dev/sluice/tests/interop/rig"
)

// Two Dockerfiles of one length and time, as a fresh checkout may have them: each target is built by its own, be it that the other
// was built before or is built at the same time.
func TestDockerfilesThatLookTheSame(t *testing.T) {
	everyWay(t, checkLookAlikes)
}

func checkLookAlikes(t *testing.T, p *pair) {
	directory := newContext(t, "FROM nothing-like-it\n", files{"src/a": "a", "src/b": "b"})
	when := time.Unix(1_700_000_000, 123_456_789)
	out, bake := t.TempDir(), ""
	for _, name := range []string{"a", "b"} {
		putFiles(t, directory, files{name + "/Dockerfile": fmt.Sprintf("FROM scratch\nCOPY src/%s /made\n", name)})
		if err := os.Chtimes(filepath.Join(directory, name, "Dockerfile"), when, when); err != nil {
			t.Fatal(err)
		}
		bake += fmt.Sprintf("target %q {\n  context = %q\n  dockerfile = \"%s/Dockerfile\"\n  output = [\"type=local,dest=%s/bake-%s\"]\n}\n",
			name, directory, name, out, name)
	}
	check := func(how, name string) {
		if made, err := os.ReadFile(filepath.Join(out, how+"-"+name, "made")); err != nil || string(made) != name {
			t.Errorf("%s %s: made %q: %v", how, name, made, err)
		}
	}
	for _, name := range []string{"a", "b"} {
		p.home.MustRun(t, "buildx", "build", "--builder", "sluice", "-f", filepath.Join(directory, name, "Dockerfile"),
			"--output", "type=local,dest="+filepath.Join(out, "build-"+name), directory)
		check("build", name)
	}
	file := filepath.Join(rig.Directory(t), "bake.hcl")
	if err := os.WriteFile(file, []byte(bake), 0o644); err != nil {
		t.Fatal(err)
	}
	p.home.MustRun(t, "buildx", "bake", "--builder", "sluice", "--allow", "fs=*", "-f", file, "a", "b")
	check("bake", "a")
	check("bake", "b")
}
