// charts: draws what perf/results/*.json holds, as docs/charts/*.svg, and writes the tables of docs/performance.md between its
// markers. The numbers in the document are therefore those that were measured, or none.
//
//	charts [--results perf/results] [--into docs]
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"sluice.dev/sluice/perf/table"
)

// A results file is a list of what a C program measured, or rows of package table.
type entry map[string]any

func (e entry) text(name string) string {
	text, _ := e[name].(string)
	return text
}

func (e entry) number(name string) (float64, bool) {
	value, found := e[name].(float64)
	return value, found
}

// Measures of C programs, the first that is there is drawn: name, unit, and what one unit is of it.
var measures = []struct{ name, unit string }{
	{"gb_s", "GB/s"}, {"cpu_s_gb_min", "CPU s/GB"}, {"cpu_s_gb", "CPU s/GB"}, {"wall_ms_min", "ms"}, {"ms_min", "ms"}, {"seconds_min", "s"},
	{"value", ""},
}

func main() {
	results := flag.String("results", "perf/results", "where the JSON is")
	into := flag.String("into", "docs", "where performance.md and charts/ are")
	flag.Parse()
	files, err := filepath.Glob(filepath.Join(*results, "*.json"))
	if err != nil {
		fail(err)
	}
	sort.Strings(files)
	sections := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			fail(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		charts, text, err := read(name, data)
		if err != nil {
			fail(fmt.Errorf("%s: %w", file, err))
		}
		for _, chart := range charts {
			if err := os.WriteFile(filepath.Join(*into, "charts", chart.name+".svg"), chart.svg(), 0o644); err != nil {
				fail(err)
			}
		}
		sections[name] = text
	}
	if err := fill(filepath.Join(*into, "performance.md"), sections); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "charts:", err)
	os.Exit(1)
}

func read(name string, data []byte) ([]chart, string, error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		var entries []entry
		if err := json.Unmarshal(data, &entries); err != nil {
			return nil, "", err
		}
		charts, text := ofEntries(name, entries)
		states := states{}
		for _, e := range entries {
			states.add(e.text("state"), e.text("group"))
		}
		return charts, states.text() + strings.TrimLeft(text, "\n"), nil
	}
	var servers struct{ Rows []serverRow }
	if json.Unmarshal(data, &servers) == nil && len(servers.Rows) > 0 && servers.Rows[0].Runs != nil {
		charts, text := ofServers(name, servers.Rows)
		states := states{}
		for _, row := range servers.Rows {
			states.add(row.State, row.Row)
		}
		return charts, states.text() + strings.TrimLeft(text, "\n"), nil
	}
	var told struct{ Rows []table.Row }
	if err := json.Unmarshal(data, &told); err != nil {
		return nil, "", err
	}
	charts, text := ofRows(name, told.Rows)
	states := states{}
	for _, row := range told.Rows {
		states.add(row.State, row.Name)
	}
	return charts, states.text() + strings.TrimLeft(text, "\n"), nil
}

// states are those of the sources that results of one file are of, in their order, each with what was measured in it.
type states []struct {
	state string
	what  []string
}

func (s *states) add(state, what string) {
	if state == "" {
		state = "in a state that was not noted"
	}
	for i := range *s {
		if known := &(*s)[i]; known.state == state {
			if !slices.Contains(known.what, what) {
				known.what = append(known.what, what)
			}
			return
		}
	}
	*s = append(*s, struct {
		state string
		what  []string
	}{state, []string{what}})
}

// text is a line a state; what was measured in it is named when there are several.
func (s states) text() string {
	text := ""
	for _, one := range s {
		text += "Measured " + one.state
		if len(s) > 1 {
			text += ": " + strings.Join(one.what, "; ")
		}
		text += ".\n\n"
	}
	return text
}

// ---- lists of C programs ----

func ofEntries(name string, entries []entry) ([]chart, string) {
	groups, order := map[string][]entry{}, []string{}
	for _, e := range entries {
		group := e.text("group")
		if groups[group] == nil {
			order = append(order, group)
		}
		groups[group] = append(groups[group], e)
	}
	c := chart{name: name, title: name}
	text := "| what | how | value | of the first |\n|---|---|---|---|\n"
	for _, group := range order {
		panel := panel{title: group}
		first := 0.0
		for _, e := range groups[group] {
			value, unit := measured(e)
			if first == 0 {
				first = value
			}
			panel.unit = unit
			panel.bars = append(panel.bars, bar{label: e.text("name"), value: value, ours: !isPeer(e.text("name"))})
			text += fmt.Sprintf("| %s | %s | %s %s | %s |\n", group, e.text("name"), short(value), unit, ratio(value, first))
		}
		c.panels = append(c.panels, panel)
	}
	return []chart{c}, text
}

// What is there to be compared with, by the beginning of its name.
var peers = []string{"memcpy", "XXH3", "xxh", "openssl", "OpenSSL", "fastcdc-rs", "cut + OpenSSL", "readdir", "2 threads", "stat", "nginx"}

func isPeer(name string) bool {
	for _, peer := range peers {
		if strings.HasPrefix(name, peer) {
			return true
		}
	}
	return false
}

func measured(e entry) (float64, string) {
	for _, measure := range measures {
		if value, found := e.number(measure.name); found {
			unit := measure.unit
			if unit == "" {
				unit = e.text("unit")
			}
			return value, unit
		}
	}
	return 0, ""
}

func ratio(value, first float64) string {
	if first == 0 {
		return ""
	}
	return fmt.Sprintf("%.2fx", value/first)
}

// ---- servers beside each other: perf/ingest ----

// serverRow is one load on several servers; numbers are for a GB.
type serverRow struct {
	Row    string
	State  string
	Runs   map[string][]struct{ CPU, Wall float64 }
	Limits []struct {
		To, What    string // What: "CPU", as where nothing is said, or "wall"
		Value, Most float64
	}
}

func ofServers(name string, rows []serverRow) ([]chart, string) {
	c := chart{name: name, title: name}
	text := "| row | server | CPU s/GB, least | median | most | wall s/GB, least |\n|---|---|---|---|---|---|\n"
	limits := "\n| row | of | seen | at most | |\n|---|---|---|---|---|\n"
	for _, row := range rows {
		p, names := panel{title: row.Row + ": CPU of the server", unit: "s/GB"}, []string{}
		for server := range row.Runs {
			names = append(names, server)
		}
		sort.Slice(names, func(i, k int) bool { return names[i] == "sluice" || (names[k] != "sluice" && names[i] < names[k]) })
		for _, server := range names {
			values, walls := []float64{}, []float64{}
			for _, run := range row.Runs[server] {
				values, walls = append(values, run.CPU), append(walls, run.Wall)
			}
			sort.Float64s(values)
			b := bar{label: server, value: table.Least(values), median: table.Median(values), most: table.Most(values), ours: server == "sluice"}
			p.bars = append(p.bars, b)
			text += fmt.Sprintf("| %s | %s | %.3f | %.3f | %.3f | %.3f |\n", row.Row, server, b.value, b.median, b.most, table.Least(walls))
		}
		for _, limit := range row.Limits {
			what := "the CPU"
			if limit.What == "wall" {
				what = "the wall"
			}
			limits += fmt.Sprintf("| %s | %s of %s | %.3f | %.3f | %s |\n", row.Row, what, limit.To, limit.Value, limit.Most, verdict(limit.Value, limit.Most))
		}
		c.panels = append(c.panels, p)
	}
	return []chart{c}, text + limits
}

func verdict(value, most float64) string {
	if !(value <= most) || value < 0 {
		return "**missed**"
	}
	return "ok"
}

// ---- rows of package table ----

// ways in the order in which they are drawn, by the names that readers know.
var ways = []struct{ name, shown string }{
	{"sluice", "sluice"}, {"edge", "sluice edge"}, {"rsync", "rsync"}, {"tar", "tar | zstd"}, {"casync", "casync"},
	{"straight", "buildx, straight"}, {"walk", "stat walk, 2 threads"}, {"nginx", "nginx"}, {"floor", "floor"},
}

func ofRows(name string, rows []table.Row) ([]chart, string) {
	walls, lines := chart{name: name, title: name}, chart{name: name + "-growth", title: name + ": growth", logarithmic: true}
	text := ""
	for _, row := range rows {
		text += rowText(row)
		wall, bytes := panel{title: row.Name, unit: "s"}, panel{title: row.Name + ": bytes over the line", unit: "MB"}
		for _, way := range ways {
			s, found := row.Ways[way.name]
			if !found {
				continue
			}
			ours := way.name == "sluice" || way.name == "edge"
			wall.bars = append(wall.bars, bar{label: way.shown, value: table.Least(s.Column(table.Wall)), median: table.Median(s.Column(table.Wall)),
				most: table.Most(s.Column(table.Wall)), ours: ours})
			if least := table.Least(s.Column(table.Bytes)); least > 0 {
				bytes.bars = append(bytes.bars, bar{label: way.shown, value: least / 1e6, ours: ours})
			}
		}
		for _, panel := range []panel{wall, bytes, latencies(row)} {
			if len(panel.bars) > 0 {
				walls.panels = append(walls.panels, panel)
			}
		}
		lines.panels = append(lines.panels, growth(row)...)
	}
	charts := []chart{}
	for _, c := range []chart{walls, lines} {
		if len(c.panels) > 0 {
			charts = append(charts, c)
		}
	}
	return charts, text
}

// cell is a text as a cell of a Markdown table has it.
func cell(text string) string {
	return strings.ReplaceAll(text, "|", `\|`)
}

func rowText(row table.Row) string {
	text := "\n**" + row.Name + "**\n\n"
	if row.Void {
		text += "Void: the machine was busy (the runs compared with spread too far).\n\n"
	}
	if len(row.Ways) > 0 {
		text += "| | runs | wall, least | median | most | CPU near | CPU far | bytes |\n|---|---|---|---|---|---|---|---|\n"
	}
	for _, way := range ways {
		s, found := row.Ways[way.name]
		if !found {
			continue
		}
		bytes := ""
		if least := table.Least(s.Column(table.Bytes)); least > 0 {
			bytes = fmt.Sprintf("%.2f MB", least/1e6)
		}
		far := func(one table.Sample) float64 { return one.Gateway + one.Daemon }
		text += fmt.Sprintf("| %s | %d | %.3f s | %.3f s | %.3f s | %.2f s | %.2f s | %s |\n", cell(way.shown), len(s), table.Least(s.Column(table.Wall)),
			table.Median(s.Column(table.Wall)), table.Most(s.Column(table.Wall)), table.Least(s.Column(table.Client)), table.Least(s.Column(far)), bytes)
	}
	text += figuresText(row.Figures)
	if len(row.Limits) > 0 {
		text += "\n| must show | seen | at most | |\n|---|---|---|---|\n"
	}
	for _, limit := range row.Limits {
		says := verdict(limit.Value, limit.Most)
		if row.Void {
			says = "void"
		}
		text += fmt.Sprintf("| %s | %.3f | %.3f | %s |\n", limit.What, limit.Value, limit.Most, says)
	}
	return text
}

// figuresText tells those named "WHAT, COLUMN" as a table with a line for each WHAT, and the others one by one.
func figuresText(figures []table.Figure) string {
	columns, lines, cells, others := []string{}, []string{}, map[string]string{}, ""
	for _, figure := range figures {
		at := strings.LastIndex(figure.Name, ", ")
		if at < 0 {
			others += fmt.Sprintf("- %s: %s %s\n", figure.Name, short(figure.Value), figure.Unit)
			continue
		}
		what, column := cell(figure.Name[:at]), figure.Name[at+2:]
		if figure.Unit != "" {
			what += " (" + figure.Unit + ")"
		}
		if !slices.Contains(lines, what) {
			lines = append(lines, what)
		}
		if !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
		cells[what+"\n"+column] = short(figure.Value)
	}
	text := ""
	if len(lines) > 0 {
		text = "| | " + strings.Join(columns, " | ") + " |\n|---" + strings.Repeat("|---", len(columns)) + "|\n"
	}
	for _, what := range lines {
		text += "| " + what
		for _, column := range columns {
			text += " | " + cells[what+"\n"+column]
		}
		text += " |\n"
	}
	return text + "\n" + others
}

// latencies are the figures in ms, those at the 99th percentile.
func latencies(row table.Row) panel {
	p := panel{title: row.Name + ": p99", unit: "ms"}
	for _, figure := range row.Figures {
		if figure.Unit == "ms" && strings.HasSuffix(figure.Name, ", p99") {
			p.bars = append(p.bars, bar{label: strings.TrimSuffix(figure.Name, ", p99"), value: figure.Value, ours: !strings.HasPrefix(figure.Name, "straight")})
		}
	}
	return p
}

// growth are the figures named "KIND, SIZE".
func growth(row table.Row) []panel {
	p := panel{title: row.Name}
	for _, figure := range row.Figures {
		at := strings.LastIndex(figure.Name, ", ")
		var size float64
		if at < 0 {
			continue
		}
		if n, _ := fmt.Sscanf(figure.Name[at+2:], "%g", &size); n != 1 {
			continue
		}
		kind := figure.Name[:at]
		p.unit = figure.Unit
		if len(p.lines) == 0 || p.lines[len(p.lines)-1].label != kind {
			p.lines = append(p.lines, curve{label: kind})
		}
		last := &p.lines[len(p.lines)-1]
		last.points = append(last.points, [2]float64{size, figure.Value})
	}
	if len(p.lines) == 0 {
		return nil
	}
	return []panel{p}
}

// ---- the document ----

// fill replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
func fill(path string, sections map[string]string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text := string(data)
	for name, section := range sections {
		begin, end := fmt.Sprintf("<!-- %s: begin -->\n", name), fmt.Sprintf("<!-- %s: end -->", name)
		from, to := strings.Index(text, begin), strings.Index(text, end)
		if from < 0 || to < from {
			fmt.Printf("charts: %s has no place for %s\n", path, name)
			continue
		}
		text = text[:from+len(begin)] + strings.TrimLeft(section, "\n") + text[to:]
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
