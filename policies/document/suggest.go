package document

import (
	"slices"
	"strings"
)

func SuggestOrList(name string, known []string) string {
	if s := Suggest(name, known); s != "" {
		return s
	}
	if len(known) == 0 {
		return "there is none"
	}
	return "there is " + oneOfSorted(known)
}

func oneOfSorted(names []string) string {
	names = slices.Sorted(slices.Values(names))
	return strings.Join(names, ", ")
}

// Suggest says "did you mean …" for the candidate nearest to what was written;
// "" when none is near.
func Suggest(written string, candidates []string) string {
	best, bestAt := "", len(written)/3+2
	if len([]rune(written)) <= 3 {
		bestAt = 2
	}
	sorted := slices.Sorted(slices.Values(candidates))
	for _, c := range sorted {
		if d := distance(strings.ToLower(written), strings.ToLower(c)); d < bestAt {
			best, bestAt = c, d
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// OneOf lists alternatives for people.
func OneOf(values []string) string {
	if len(values) < 2 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:len(values)-1], ", ") + " or " + values[len(values)-1]
}

// distance counts the edits (insert, delete, replace, swap neighbours) from a
// to b. Long texts are cut: nobody misspells a key of 64 letters by two.
func distance(a, b string) int {
	const most = 64
	x, y := []rune(a), []rune(b)
	x, y = x[:min(len(x), most)], y[:min(len(y), most)]
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(x)][len(y)]
}
