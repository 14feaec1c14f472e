package demo

import "testing"

// A page that is told anew, because a hold became a rollback, is one page; when
// it is resolved nothing is left open.
func TestCountPages(t *testing.T) {
	for _, tt := range []struct {
		name             string
		pages            []Page
		opened, resolved int
	}{
		{"none", nil, 0, 0},
		{"told anew and resolved", []Page{{Key: "a"}, {Key: "a"}, {Key: "a", Resolve: true}}, 1, 1},
		{"one of two is open", []Page{{Key: "a"}, {Key: "a", Resolve: true}, {Key: "b"}}, 2, 1},
		{"opened again", []Page{{Key: "a"}, {Key: "a", Resolve: true}, {Key: "a"}}, 1, 0},
	} {
		if opened, resolved := countPages(tt.pages); opened != tt.opened || resolved != tt.resolved {
			t.Errorf("%s: got %d opened, %d resolved, want %d and %d", tt.name, opened, resolved, tt.opened, tt.resolved)
		}
	}
}
