package policytest

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// JUnit writes the reports as JUnit XML.
func JUnit(w io.Writer, reports []*Report) error {
	type failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Name    string   `xml:"name,attr"`
		Class   string   `xml:"classname,attr"`
		Failure *failure `xml:"failure,omitempty"`
	}
	type suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	type suites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite
	}
	var out suites
	for _, r := range reports {
		s := suite{Name: r.File}
		add := func(name string, failures []string, timeline []Decided) {
			tc := testcase{Name: name, Class: r.Policy}
			if len(failures) > 0 {
				var lines []string
				for _, d := range timeline {
					lines = append(lines, d.String())
				}
				tc.Failure = &failure{Message: failures[0], Text: strings.Join(slices.Concat(failures, lines), "\n")}
				s.Failures++
			}
			s.Tests++
			s.Cases = append(s.Cases, tc)
		}
		for _, c := range r.Cases {
			add(c.Name, c.Failures, c.Timeline)
		}
		for _, p := range r.Properties {
			var failures []string
			if p.Failure != "" {
				failures = []string{p.Failure}
			}
			add(p.Name, failures, nil)
		}
		out.Suites = append(out.Suites, s)
	}
	b, err := xml.MarshalIndent(out, "", "  ")
	if err == nil {
		_, err = io.WriteString(w, xml.Header+string(b)+"\n")
	}
	if err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	return nil
}
