// Package table is what the measured tables have in common: samples, interleaved runs, limits, and how rows are printed. A row
// whose reference runs spread too far (minimum to median) is void: the machine was busy.
package table

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
)

const spreadMax = 1.5

// Sample is one measured build, or what stands for one.
type Sample struct {
	Wall    float64 `json:"wall"`              // seconds of the step or command in question
	Command float64 `json:"command,omitempty"` // seconds of the whole command
	Client  float64 `json:"client_cpu"`        // CPU seconds of each
	Edge    float64 `json:"edge_cpu,omitempty"`
	Gateway float64 `json:"gateway_cpu"`
	Daemon  float64 `json:"daemon_cpu"`
	Up      int64   `json:"up,omitempty"` // bytes over the line, from the client and to it
	Down    int64   `json:"down,omitempty"`
}

// Series are the samples of one way of doing a row.
type Series []Sample

// Column is one number of each sample, sorted.
func (s Series) Column(of func(Sample) float64) []float64 {
	values := make([]float64, 0, len(s))
	for _, one := range s {
		values = append(values, of(one))
	}
	sort.Float64s(values)
	return values
}

// Least of sorted values; NaN when there are none, which no limit lets pass.
func Least(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[0]
}

// Median of sorted values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[len(values)/2]
}

// Most of sorted values.
func Most(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[len(values)-1]
}

func Wall(s Sample) float64    { return s.Wall }
func Client(s Sample) float64  { return s.Client }
func Edge(s Sample) float64    { return s.Edge }
func Gateway(s Sample) float64 { return s.Gateway }
func Daemon(s Sample) float64  { return s.Daemon }
func Bytes(s Sample) float64   { return float64(s.Up + s.Down) }

// Ratio of two ways' minima.
func Ratio(ways map[string]Series, way, to string, of func(Sample) float64) float64 {
	return Least(ways[way].Column(of)) / Least(ways[to].Column(of))
}

// Interleave runs each way in turn, `pairs` times, another one first each time.
func Interleave(pairs int, ways []string, run func(way string) Sample) map[string]Series {
	result := map[string]Series{}
	for round := range pairs {
		for i := range ways {
			way := ways[(round+i)%len(ways)]
			result[way] = append(result[way], run(way))
		}
	}
	return result
}

// Limit is one thing that a row must show.
type Limit struct {
	What  string  `json:"what"`
	Value float64 `json:"value"`
	Most  float64 `json:"most"`
}

// AtMost makes one.
func AtMost(what string, value, most float64) Limit { return Limit{what, value, most} }

// Figure is one number of a row that is told and not judged.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Row is one as it was measured.
type Row struct {
	Name   string            `json:"name"`
	State  string            `json:"state,omitempty"` // of the sources: scripts/state
	Ways   map[string]Series `json:"ways"`
	Limits []Limit           `json:"limits"`
	Void   bool              `json:"void,omitempty"`
	Notes  []string          `json:"notes,omitempty"`
	// What is not in samples: percentiles, fits.
	Figures []Figure `json:"figures,omitempty"`
	// Of what, and how: the tree, the settings of the run that measured it.
	About map[string]any `json:"about,omitempty"`
}

// Table is all rows of a run.
type Table struct {
	Rows   []Row
	Failed bool
	about  map[string]any // of each row
	notes  []string
	// of the next row
	figures []Figure
}

// Note is a line under the next row.
func (t *Table) Note(format string, arguments ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, arguments...))
}

// Figure is a number of the next row.
func (t *Table) Figure(name string, value float64, unit string) {
	t.figures = append(t.figures, Figure{name, value, unit})
}

var order = []string{"straight", "before", "sluice", "edge", "rsync", "tar", "casync", "walk", "floor"}

// What is compared with: the first of these that a row has is its reference, whose spread tells how busy the machine was.
var references = []string{"straight", "rsync", "tar", "casync", "floor"}

// spread of a row's reference, minimum to median; without one, or without runs of it, there is nothing to be told.
func spread(ways map[string]Series) (reference string, times float64) {
	for _, way := range references {
		if s := ways[way]; len(s) > 0 {
			walls := s.Column(Wall)
			return way, Median(walls) / Least(walls)
		}
	}
	return "", 1
}

// Report prints a row and judges it.
func (t *Table) Report(name string, ways map[string]Series, limits ...Limit) {
	row := Row{
		Name: name, State: os.Getenv("SLUICE_STATE"), Ways: ways, Limits: limits, Notes: t.notes, Figures: t.figures, About: t.about,
	}
	t.notes, t.figures = nil, nil
	fmt.Printf("\n%s\n", name)
	for _, way := range order {
		s, found := ways[way]
		if !found {
			continue
		}
		walls := s.Column(Wall)
		fmt.Printf("  %-9s n=%d  wall min %.3f s, median %.3f, max %.3f; CPU min: client %.2f s, gateway %.2f, daemon %.2f", way, len(s),
			Least(walls), Median(walls), Most(walls), Least(s.Column(Client)), Least(s.Column(Gateway)), Least(s.Column(Daemon)))
		if edge := Least(s.Column(Edge)); edge > 0 {
			fmt.Printf(", edge %.2f", edge)
		}
		if bytes := s.Column(Bytes); Most(bytes) > 0 {
			fmt.Printf("; bytes min %.0f, median %.0f, max %.0f", Least(bytes), Median(bytes), Most(bytes))
		}
		fmt.Println()
	}
	for _, figure := range row.Figures {
		fmt.Printf("  %-60s %10.3f %s\n", figure.Name, figure.Value, figure.Unit)
	}
	for _, note := range row.Notes {
		fmt.Printf("  %s\n", note)
	}
	if reference, times := spread(ways); times > spreadMax {
		row.Void, t.Failed = true, true
		fmt.Printf("  VOID: runs of %s spread %.2fx from minimum to median: the machine was busy\n", reference, times)
	}
	for _, l := range limits {
		verdict := "ok"
		if !(l.Value <= l.Most) {
			verdict = "MISSED"
			t.Failed = true
		}
		fmt.Printf("  %-60s %10.3f  at most %.3f  %s\n", l.What, l.Value, l.Most, verdict)
	}
	t.Rows = append(t.Rows, row)
}

// merged are the rows of an earlier run, in their order, with this one's in the places of those that it measured again.
func (t *Table) merged(path string) []Row {
	var before struct{ Rows []Row }
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &before) != nil {
		return t.Rows
	}
	rows := before.Rows
	for _, row := range t.Rows {
		at := slices.IndexFunc(rows, func(old Row) bool { return old.Name == row.Name })
		if at < 0 {
			rows = append(rows, row)
		} else {
			rows[at] = row
		}
	}
	return rows
}

// Write keeps the rows as JSON. Rows that are in the file already, and were not measured in this run, stay there.
func (t *Table) Write(path string) error {
	for i := range t.Rows {
		for j := range t.Rows[i].Limits {
			if l := &t.Rows[i].Limits[j]; math.IsNaN(l.Value) || math.IsInf(l.Value, 0) {
				l.Value = -1 // JSON has no such number
			}
		}
	}
	data, err := json.MarshalIndent(map[string]any{"rows": t.merged(path)}, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// Run measures the rows named, in that order, and keeps them after each, with what is said about the run in each of them, since
// a file holds rows of several runs; `results` empty: nowhere. A name that is not known ends the program before anything is
// measured.
func Run[B any](program string, t *Table, bench B, names string, known map[string]func(B), results string, about map[string]any) {
	rows := strings.Split(names, ",")
	for _, row := range rows {
		if known[row] == nil {
			fmt.Fprintf(os.Stderr, "%s: no row %q\n", program, row)
			os.Exit(2)
		}
	}
	t.about = about
	for _, row := range rows {
		known[row](bench)
		if results == "" {
			continue
		}
		if err := t.Write(results); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
			t.Failed = true
		}
	}
}

// ContextSeconds reads raw progress: how long the context's transfer took.
func ContextSeconds(out []byte, _ time.Duration) (float64, error) {
	var began, ended time.Time // the step may be told of several times
	scanner := bufio.NewScanner(bytes.NewReader(out))
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		var update struct {
			Vertexes []struct {
				Name               string
				Started, Completed *time.Time
			}
		}
		if json.Unmarshal(scanner.Bytes(), &update) != nil {
			continue
		}
		for _, vertex := range update.Vertexes {
			if vertex.Name != "[internal] load build context" || vertex.Started == nil || vertex.Completed == nil {
				continue
			}
			if began.IsZero() || vertex.Started.Before(began) {
				began = *vertex.Started
			}
			ended = *vertex.Completed
		}
	}
	if began.IsZero() {
		return 0, fmt.Errorf("no context was loaded")
	}
	return ended.Sub(began).Seconds(), nil
}

// WholeSeconds is the command's own time.
func WholeSeconds(_ []byte, took time.Duration) (float64, error) { return took.Seconds(), nil }
