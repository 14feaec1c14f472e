package document

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// breaks are characters that YAML takes for the end of a line and no editor shows
// as one: every later line would be counted wrongly.
var breaks = map[rune]string{'\u0085': "a next-line character", '\u2028': "a line separator",
	'\u2029': "a paragraph separator"}

// blanks are characters that look like a space and are none to YAML.
var blanks = map[rune]string{'\u00a0': "a no-break space", '\u202f': "a narrow no-break space",
	'\u3000': "an ideographic space", '\u200b': "a zero-width space", '\ufeff': "a byte order mark"}

// blankPlace matches where such a blank stands for a space of the language: in the
// indentation or beside a mark of it.
var blankPlace = regexp.MustCompile("(?m)(?:^|[:,\\[{-])[ \\t]*([\u00a0\u202f\u3000\u200b\ufeff])")

// characters finds what no policy holds before YAML is read: each with its name,
// at the line and column that editors show. ok is false when the text cannot be used.
func characters(src *source, data []byte) (ps Problems, ok bool) {
	at := func(offset int) *Node {
		before := string(data[:offset])
		last := before[strings.LastIndexByte(before, '\n')+1:]
		return &Node{src: src, Line: strings.Count(before, "\n") + 1, Col: utf8.RuneCountInString(last) + 1}
	}
	text := string(data)
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				p := ProblemAt(at(i), "", CodeSyntax, fmt.Sprintf("the byte 0x%02X is no UTF-8; in Latin-1 it is %c",
					data[i], rune(data[i])))
				return append(ps, p.WithHint("save the file as UTF-8")), false
			}
		}
		if name, odd := breaks[r]; odd {
			ps = append(ps, ProblemAt(at(i), "", CodeSyntax,
				fmt.Sprintf("%s (U+%04X) ends a line here that no editor shows as one", name, r)).WithHint(
				"write a line break, or remove it"))
		}
	}
	first := strings.TrimPrefix(text, "\ufeff") // a byte order mark may begin a file
	for _, m := range blankPlace.FindAllStringSubmatchIndex(first, 1) {
		r, _ := utf8.DecodeRuneInString(first[m[2]:])
		ps = append(ps, ProblemAt(at(m[2]+len(text)-len(first)), "", CodeSyntax,
			fmt.Sprintf("%s (U+%04X) stands where a space is wanted", blanks[r], r)).WithHint("write a plain space"))
	}
	if line, _, _ := strings.Cut(first, "\n"); strings.HasPrefix(line, "%") {
		ps = append(ps, ProblemAt(at(len(text)-len(first)), "", CodeRefused,
			"directives are not part of the language").WithGot(line).WithHint("remove the line, and the --- after it"))
	}
	return ps, len(ps) == 0
}
