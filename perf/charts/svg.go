package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// chart is one picture: panels below each other.
type chart struct {
	name, title string
	panels      []panel
	logarithmic bool // both axes, of lines
}

// panel has bars, or lines.
type panel struct {
	title, unit string
	bars        []bar
	lines       []curve
}

// bar is one value; median and most are 0 when there was one run.
type bar struct {
	label               string
	value, median, most float64
	ours                bool
}

type curve struct {
	label  string
	points [][2]float64
}

// Ours has the colour, the others are there to be compared with.
const (
	colourOurs   = "#2a6fc9"
	colourOthers = "#a8a8a0"
	colourInk    = "#1f1f1c"
	colourFaint  = "#6b6b66"
	colourGrid   = "#e4e4de"
	font         = "font-family=\"system-ui, sans-serif\""
)

const (
	width       = 760
	margin      = 20
	labelWidth  = 290
	valueWidth  = 110
	barHeight   = 16
	barStep     = 24
	titleHeight = 34
	plotHeight  = 300
)

func (c chart) svg() []byte {
	var out bytes.Buffer
	height := margin
	for _, p := range c.panels {
		height += p.height()
	}
	height += margin
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n",
		width, height, width, height, html.EscapeString(c.title))
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	y := margin
	for _, p := range c.panels {
		if len(p.bars) > 0 {
			p.drawBars(&out, y)
		} else {
			p.drawLines(&out, y)
		}
		y += p.height()
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

func (p panel) height() int {
	if len(p.bars) > 0 {
		return titleHeight + len(p.bars)*barStep + margin
	}
	return titleHeight + plotHeight + 2*margin
}

func text(out *bytes.Buffer, x, y int, anchor, colour string, size int, words string) {
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="%s" fill="%s" font-size="%d" %s>%s</text>`+"\n", x, y, anchor, colour, size, font,
		html.EscapeString(words))
}

func (p panel) drawTitle(out *bytes.Buffer, y int) {
	text(out, margin, y+16, "start", colourInk, 14, p.title)
}

// short is a value as a reader wants it: three digits.
func short(value float64) string {
	switch magnitude := math.Abs(value); {
	case magnitude >= 100:
		return fmt.Sprintf("%.0f", value)
	case magnitude >= 10:
		return fmt.Sprintf("%.1f", value)
	case magnitude >= 1:
		return fmt.Sprintf("%.2f", value)
	default:
		return fmt.Sprintf("%.3f", value)
	}
}

// drawBars from nought: the least as a bar, median and most as a thin line behind its end.
func (p panel) drawBars(out *bytes.Buffer, y int) {
	p.drawTitle(out, y)
	most := 0.0
	for _, b := range p.bars {
		most = max(most, b.value, b.most)
	}
	if most == 0 {
		most = 1
	}
	left, room := margin+labelWidth, float64(width-2*margin-labelWidth-valueWidth)
	at := func(value float64) int { return left + int(value/most*room) }
	y += titleHeight
	for _, b := range p.bars {
		colour := colourOthers
		if b.ours {
			colour = colourOurs
		}
		text(out, left-8, y+barHeight-4, "end", colourInk, 12, clip(b.label))
		fmt.Fprintf(out, `<rect x="%d" y="%d" width="%d" height="%d" rx="2" fill="%s"/>`+"\n", left, y, max(1, at(b.value)-left), barHeight, colour)
		end := at(b.value)
		if b.most > b.value {
			middle := y + barHeight/2
			fmt.Fprintf(out, `<path d="M%d %dH%dM%d %dv8M%d %dv8" stroke="%s" fill="none"/>`+"\n", end, middle, at(b.most), at(b.median), middle-4,
				at(b.most), middle-4, colourFaint)
			end = at(b.most)
		}
		text(out, end+6, y+barHeight-4, "start", colourFaint, 12, short(b.value)+" "+p.unit)
		y += barStep
	}
	fmt.Fprintf(out, `<path d="M%d %dV%d" stroke="%s"/>`+"\n", left, y-len(p.bars)*barStep-4, y-barStep+barHeight+4, colourGrid)
}

func clip(label string) string {
	const most = 44
	if runes := []rune(label); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return label
}

// Lines of one hue, from dark to light, each with its name at its end.
var lineColours = []string{"#1d4f91", "#2a6fc9", "#6d9fdc", "#6b6b66", "#a8a8a0"}

// drawLines on logarithmic axes.
func (p panel) drawLines(out *bytes.Buffer, y int) {
	p.drawTitle(out, y)
	y += titleHeight
	xLeast, xMost, yLeast, yMost := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, line := range p.lines {
		for _, point := range line.points {
			xLeast, xMost = min(xLeast, math.Log10(point[0])), max(xMost, math.Log10(point[0]))
			yLeast, yMost = min(yLeast, math.Log10(point[1])), max(yMost, math.Log10(point[1]))
		}
	}
	yLeast, yMost = math.Floor(yLeast), math.Ceil(yMost)
	if xMost == xLeast {
		xMost++
	}
	left, right := margin+70, width-margin-210
	atX := func(value float64) int {
		return left + int((math.Log10(value)-xLeast)/(xMost-xLeast)*float64(right-left))
	}
	atY := func(value float64) int {
		return y + plotHeight - int((math.Log10(value)-yLeast)/max(1, yMost-yLeast)*plotHeight)
	}
	for power := yLeast; power <= yMost; power++ {
		value := math.Pow(10, power)
		fmt.Fprintf(out, `<path d="M%d %dH%d" stroke="%s"/>`+"\n", left, atY(value), right, colourGrid)
		text(out, left-8, atY(value)+4, "end", colourFaint, 12, fmt.Sprintf("%g %s", value, p.unit))
	}
	for power := math.Ceil(xLeast); power <= xMost; power++ {
		value := math.Pow(10, power)
		text(out, atX(value), y+plotHeight+18, "middle", colourFaint, 12, fmt.Sprintf("%g", value))
	}
	taken := []int{}
	for i, line := range p.lines {
		colour, path := lineColours[i%len(lineColours)], ""
		for k, point := range line.points {
			path += fmt.Sprintf("%s%d %d", map[bool]string{true: "M", false: "L"}[k == 0], atX(point[0]), atY(point[1]))
			fmt.Fprintf(out, `<circle cx="%d" cy="%d" r="4" fill="%s"/>`+"\n", atX(point[0]), atY(point[1]), colour)
		}
		fmt.Fprintf(out, `<path d="%s" stroke="%s" stroke-width="2" fill="none"/>`+"\n", path, colour)
		last := line.points[len(line.points)-1]
		where := atY(last[1]) + 4
		for moved := true; moved; {
			moved = false
			for _, other := range taken {
				if where > other-14 && where < other+14 {
					where, moved = other+14, true
				}
			}
		}
		taken = append(taken, where)
		text(out, right+12, where, "start", colour, 12, line.label)
	}
}
