package datascripttest

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// diffContext is how many equal lines are shown around a difference.
	diffContext = 3
	// diffCells bounds the work for a pair of texts. Beyond it, all lines
	// between the first and the last difference count as different.
	diffCells = 4 << 20
)

// diff compares two texts line by line: lines of want alone are marked by "-",
// lines of got alone by "+". Runs of equal lines are shortened. It is empty if
// the texts are equal.
func diff(want, got string) string {
	if want == got {
		return ""
	}
	a, b := splitLines(want), splitLines(got)
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	var out []string
	add := func(mark string, lines []string) {
		for _, line := range lines {
			out = append(out, mark+line)
		}
	}
	add(" ", a[:start])
	out = append(out, editScript(a[start:len(a)-end], b[start:len(b)-end])...)
	add(" ", a[len(a)-end:])
	return shorten(out)
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// editScript marks the lines of a longest common subsequence by " ".
func editScript(a, b []string) []string {
	var out []string
	i, j := 0, 0
	if len(a)*len(b) <= diffCells {
		// common[i][j] is the length of the longest common subsequence of a[i:]
		// and b[j:].
		common := make([][]int32, len(a)+1)
		cells := make([]int32, (len(a)+1)*(len(b)+1))
		for i := range common {
			common[i], cells = cells[:len(b)+1], cells[len(b)+1:]
		}
		for i := range slices.Backward(a) {
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					common[i][j] = common[i+1][j+1] + 1
				} else {
					common[i][j] = max(common[i+1][j], common[i][j+1])
				}
			}
		}
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				out = append(out, " "+a[i])
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				out = append(out, "-"+a[i])
				i++
			default:
				out = append(out, "+"+b[j])
				j++
			}
		}
	}
	for _, line := range a[i:] {
		out = append(out, "-"+line)
	}
	for _, line := range b[j:] {
		out = append(out, "+"+line)
	}
	return out
}

// shorten joins marked lines and leaves out equal ones that are far from any
// difference.
func shorten(lines []string) string {
	near := make([]bool, len(lines))
	for i, line := range lines {
		if line[0] != ' ' {
			for k := max(i-diffContext, 0); k <= min(i+diffContext, len(lines)-1); k++ {
				near[k] = true
			}
		}
	}
	var b strings.Builder
	for i := 0; i < len(lines); {
		if near[i] {
			b.WriteString(lines[i] + "\n")
			i++
			continue
		}
		from := i
		for i < len(lines) && !near[i] {
			i++
		}
		if i-from == 1 {
			b.WriteString(lines[from] + "\n")
		} else {
			fmt.Fprintf(&b, " … %d equal lines\n", i-from)
		}
	}
	return b.String()
}
