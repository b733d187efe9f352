// Package suggest finds the word that a misspelt one was perhaps meant to be.
package suggest

import (
	"iter"
	"unicode/utf8"
)

// Nearest returns the candidate that a word is nearest to, or "": the
// [Distance] is at most 1 for a word of up to 4 letters, 2 for one of up to 10
// and 3 for a longer one, and no other candidate is as near.
func Nearest(word string, candidates iter.Seq[string]) string {
	if word == "" {
		return ""
	}
	limit := 4
	switch n := utf8.RuneCountInString(word); {
	case n <= 4:
		limit = 2
	case n <= 10:
		limit = 3
	}
	nearest, tie := "", false
	for c := range candidates {
		switch d := Distance(word, c, limit+1); {
		case d < limit:
			limit, nearest, tie = d, c, false
		case d == limit && nearest != "" && c != nearest:
			tie = true
		}
	}
	if tie {
		return ""
	}
	return nearest
}

// Distance is the number of letters to insert, remove, replace or swap with
// their neighbour that makes b of a; limit if it is that or more.
func Distance(a, b string, limit int) int {
	from, to := []rune(a), []rune(b)
	if d := len(from) - len(to); d >= limit || -d >= limit {
		return limit
	}
	var before, last []int
	row := make([]int, len(to)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(from); i++ {
		before, last, row = last, row, make([]int, len(to)+1)
		row[0] = i
		for j := 1; j <= len(to); j++ {
			replace := last[j-1]
			if from[i-1] != to[j-1] {
				replace++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && from[i-1] == to[j-2] && from[i-2] == to[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return min(row[len(to)], limit)
}
