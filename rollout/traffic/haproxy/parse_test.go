package haproxy

import (
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
)

// Keys go where they must and stay where they can: over random ladders each
// deployment has as many keys as its weight, and no more keys move than have to.
func TestAssign(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // A seed makes the test repeatable.
	names := []string{"blue", "green", "red"}
	draw := func() map[string]int {
		a, b := random.IntN(101), random.IntN(101)
		return map[string]int{"blue": min(a, b), "green": max(a, b) - min(a, b), "red": 100 - max(a, b)}
	}
	var now [slots]string
	now = assign(now, map[string]int{"blue": 100})
	old := map[string]int{"blue": 100}
	for range 1000 {
		want := draw()
		next := assign(now, want)
		got, moved := map[string]int{"blue": 0, "green": 0, "red": 0}, 0
		for key, name := range next {
			got[name]++
			if name != now[key] {
				moved++
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("assign(%v): got %v", want, got)
		}
		least := 0
		for _, name := range names {
			least += max(want[name]-old[name], 0)
		}
		if moved != least {
			t.Fatalf("assign from %v to %v: moved %d keys, want %d", old, want, moved, least)
		}
		now, old = next, want
	}
}

// A user who saw the candidate at one step sees it at every later one.
func TestAssignKeepsUsers(t *testing.T) {
	now := assign([slots]string{}, map[string]int{"blue": 100})
	for _, green := range []int{5, 25, 60, 100} {
		next := assign(now, map[string]int{"blue": 100 - green, "green": green})
		for key := range next {
			if now[key] == "green" && next[key] != "green" {
				t.Errorf("at %d%%: key %d left green", green, key)
			}
		}
		now = next
	}
}

// Whatever the socket writes, reading it ends in an error or in something that
// adds up.
func FuzzParse(f *testing.F) {
	f.Add("1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n4 recs 1 blue 127.0.0.1 2 0 100 100\n")
	f.Add("# pxname,svname,status,act,bck,slim,type,check_desc,\nrecs,blue,UP,1,0,64,2,\"a \"\"b\"\"\",\n")
	f.Add("0x555f90ea8f90 0 m-blue\n")
	f.Add("No such proxy.\n\n")
	var whole strings.Builder
	for key := range slots {
		whole.WriteString("0x1 " + string(rune('0'+key/10)) + string(rune('0'+key%10)) + " blue\n")
	}
	f.Add(whole.String())
	f.Fuzz(func(t *testing.T, out string) {
		if servers, err := parseState(out); err == nil {
			weights := make(map[string]int)
			for name, s := range servers {
				if s.weight < 0 {
					t.Errorf("parseState(%q): got weight %d", out, s.weight)
				}
				weights[name] = min(s.weight, 256)
			}
			sum := 0
			for _, w := range percent(weights) {
				sum += w
			}
			if sum != 0 && sum != 100 {
				t.Errorf("percent(%v): sums to %d", weights, sum)
			}
		}
		if entries, err := parseMap(out); err == nil {
			for key, name := range entries {
				if name == "" {
					t.Errorf("parseMap(%q): key %d leads nowhere", out, key)
				}
			}
		}
		_, _ = parseStat(out)
	})
}
