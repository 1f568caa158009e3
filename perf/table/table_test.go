package table

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func series(walls ...float64) Series {
	s := Series{}
	for _, wall := range walls {
		s = append(s, Sample{Wall: wall})
	}
	return s
}

// A row is void when the first of what it is compared with spreads too far, whichever that is; not for what is measured, nor for
// another one that is there as well.
func TestReferenceDecidesWhatIsVoid(t *testing.T) {
	steady, wild := series(1, 1.1, 1.2), series(1, 2, 3)
	for name, c := range map[string]struct {
		ways map[string]Series
		void bool
	}{
		"straight":              {map[string]Series{"straight": wild, "edge": steady}, true},
		"no straight":           {map[string]Series{"rsync": wild, "edge": steady}, true},
		"straight first":        {map[string]Series{"straight": steady, "rsync": wild}, false},
		"straight has no runs":  {map[string]Series{"straight": {}, "rsync": wild}, true},
		"what is measured":      {map[string]Series{"rsync": steady, "edge": wild}, false},
		"nothing to compare to": {map[string]Series{"edge": wild}, false},
	} {
		table := Table{}
		table.Report(name, c.ways)
		if table.Rows[0].Void != c.void || table.Failed != c.void {
			t.Errorf("%s: void %v, failed %v", name, table.Rows[0].Void, table.Failed)
		}
	}
}

// Rows of several runs in one file: each says what its own was measured with.
func TestRowsSayWhatTheyAreOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.json")
	for _, run := range []struct {
		files float64
		rows  string
	}{{50_000, "one,two"}, {1000, "two,three"}} {
		table := &Table{}
		known := map[string]func(*Table){}
		for _, row := range []string{"one", "two", "three"} {
			known[row] = func(table *Table) { table.Report(row, nil) }
		}
		Run("test", table, table, run.rows, known, path, map[string]any{"tree_files": run.files})
	}
	var told struct{ Rows []Row }
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &told); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]float64{"one": 50_000, "two": 1000, "three": 1000}
	if len(told.Rows) != len(wanted) {
		t.Errorf("%d rows", len(told.Rows))
	}
	for _, row := range told.Rows {
		if row.About["tree_files"] != wanted[row.Name] {
			t.Errorf("%s is of %v files", row.Name, row.About["tree_files"])
		}
	}
}
