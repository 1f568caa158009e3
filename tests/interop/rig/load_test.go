package rig

import (
	"os/exec"
	"strings"
	"testing"
)

// What a load tells is read to its end, or said not to be; and its exit has to agree with it.
func TestLoadIsRead(t *testing.T) {
	const result = `{"builds": 3, "failed": 1}` + "\n"
	reached := 0
	told, err := readLoad(strings.NewReader("running 3\n"+result), func() { reached++ })
	if err != nil || told.Builds != 3 || told.Failed != 1 || reached != 1 {
		t.Errorf("%+v, %v, reached %d times", told, err, reached)
	}
	for what, out := range map[string]string{"a line without an end": strings.Repeat("x", 1<<20), "no JSON": "{oh}\n" + result} {
		if told, err := readLoad(strings.NewReader(out), nil); err == nil {
			t.Errorf("%s was read as %+v", what, told)
		}
	}
}

func TestLoadEndsAsItTold(t *testing.T) {
	for _, row := range []struct {
		told   Load
		exit   string
		agrees bool
	}{
		{Load{Builds: 3}, "exit 0", true},
		{Load{Builds: 3, Failed: 1}, "exit 1", true},
		{Load{Builds: 3}, "exit 1", false},
		{Load{Builds: 3}, "kill -9 $$", false},
		{Load{Builds: 3, Failed: 1}, "exit 0", false},
		{Load{Builds: 3, Failed: 1}, "exit 2", false},
		{Load{}, "exit 0", false},
	} {
		if err := row.told.agrees(exec.Command("sh", "-c", row.exit).Run()); (err == nil) != row.agrees {
			t.Errorf("%+v and %q: %v", row.told, row.exit, err)
		}
	}
}
