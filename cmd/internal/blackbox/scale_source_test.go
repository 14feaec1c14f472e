package blackbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// sourceEnv makes a process of the tests' program a Prometheus of many endpoints.
	sourceEnv = "SCALE_SOURCE"
	// scraped is how often that Prometheus has samples, and pace how many requests and
	// plays a second a deployment has.
	scraped, pace = 5 * time.Second, 100.0
)

// A source answers belayd's merged questions about any number of endpoints, and counts
// them. Its counters are functions of the time, so that it stores no samples.
type source struct {
	began time.Time

	mu sync.Mutex
	// broken is since when an endpoint's candidate fails half of its requests.
	broken map[string]time.Time
	seen   seen
}

// seen is what a source was asked since it was last looked at.
type seen struct {
	Queries, Bytes int64
	// Asked are the endpoints whose samples were asked for.
	Asked map[string]bool
	// Answers are when the last bytes of answers about a broken endpoint were written.
	Answers map[string][]time.Time
}

func newSeen() seen { return seen{Asked: map[string]bool{}, Answers: map[string][]time.Time{}} }

// runSource prints its address and serves until the standard input ends.
func runSource() int {
	s := &source{began: time.Now().Add(-time.Hour), broken: map[string]time.Time{}, seen: newSeen()}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/query", s.query)
	mux.HandleFunc("POST /break", s.fail)
	mux.HandleFunc("POST /seen", s.look)
	fmt.Println(l.Addr())
	go func() { _ = http.Serve(l, mux) }() //nolint:gosec // on loopback, for one benchmark
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// fail breaks the candidates of the endpoints in the body.
func (s *source) fail(w http.ResponseWriter, r *http.Request) {
	var names []string
	if err := json.NewDecoder(r.Body).Decode(&names); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.broken[n] = time.Now()
	}
}

// look answers with what was seen and, with forget, begins anew.
func (s *source) look(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer(w, s.seen)
	if r.FormValue("forget") != "" {
		s.seen = newSeen()
	}
}

var (
	asked   = regexp.MustCompile(`^(?:group by \([^)]*\) \()?(\w+)\{(.*?)\}(?:\[(\d+)ms\])?\)?$`)
	matched = regexp.MustCompile(`(\w+)=~?("(?:[^"\\]|\\.)*")`)
)

func (s *source) query(w http.ResponseWriter, r *http.Request) {
	m := asked.FindStringSubmatch(r.FormValue("query"))
	at, err := strconv.ParseFloat(r.FormValue("time"), 64)
	if m == nil || err != nil {
		http.Error(w, "not a question of these: "+r.FormValue("query"), http.StatusBadRequest)
		return
	}
	want := map[string][]string{}
	for _, x := range matched.FindAllStringSubmatch(m[2], -1) {
		text, _ := strconv.Unquote(x[2])
		want[x[1]] = strings.Split(strings.ReplaceAll(text, `\`, ""), "|")
	}
	reach, _ := strconv.Atoi(m[3])
	w.Header().Set("Content-Type", "application/json")
	c := &counted{w: w}
	a := &answering{s: s, w: bufio.NewWriterSize(c, 1<<16), name: m[1], want: want, at: at, reach: float64(reach) / 1000}
	s.mu.Lock()
	a.broken = map[string]float64{}
	for _, n := range want["endpoint"] {
		if t, ok := s.broken[n]; ok {
			a.broken[n] = seconds(t)
		}
	}
	s.mu.Unlock()
	a.write()
	_ = http.NewResponseController(w).Flush()
	done := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Queries++
	s.seen.Bytes += c.n
	for _, n := range want["endpoint"] {
		if reach > 0 {
			s.seen.Asked[n] = true
		}
		if _, ok := a.broken[n]; ok {
			s.seen.Answers[n] = append(s.seen.Answers[n], done)
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// counted counts the bytes of an answer.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// An answering is one answer as it is written: samples where reach, in seconds, is not
// 0, else one value of each series.
type answering struct {
	s         *source
	w         *bufio.Writer
	name      string
	want      map[string][]string
	at, reach float64
	broken    map[string]float64
	several   bool
}

func (a *answering) write() {
	kind := "vector"
	if a.reach > 0 {
		kind = "matrix"
	}
	fmt.Fprintf(a.w, `{"status":"success","data":{"resultType":%q,"result":[`, kind)
	for _, e := range a.want["endpoint"] {
		deployments := a.want["deployment"]
		if deployments == nil {
			deployments = []string{"blue", "green"}
		}
		for _, d := range deployments {
			a.deployment(e, d)
		}
	}
	_, _ = a.w.WriteString("]}}")
	_ = a.w.Flush()
}

// bounds are the buckets, each with the part of the requests that are as fast.
var bounds = []struct {
	le   string
	part float64
}{{"0.1", 0.5}, {"0.25", 0.9}, {"0.4", 0.98}, {"0.5", 0.99}, {"1", 0.999}, {"+Inf", 1}}

func (a *answering) deployment(e, d string) {
	bad := func(t float64) float64 {
		n := 0.001 * pace * (t - seconds(a.s.began))
		if from, ok := a.broken[e]; ok && d == "green" && t > from {
			n += pace / 2 * (t - from)
		}
		return n
	}
	all := func(t float64) float64 { return pace * (t - seconds(a.s.began)) }
	switch a.name {
	case "http_requests_total":
		a.series(e, d, `,"code":"200"`, func(t float64) float64 { return all(t) - bad(t) })
		a.series(e, d, `,"code":"500"`, bad)
	case "plays_started_total":
		a.series(e, d, "", all)
	case "plays_completed_total":
		a.series(e, d, "", func(t float64) float64 { return 0.8 * all(t) })
	case "http_request_duration_seconds_bucket":
		for _, b := range bounds {
			if les := a.want["le"]; les == nil || strings.Contains("|"+strings.Join(les, "|")+"|", "|"+b.le+"|") {
				a.series(e, d, `,"le":"`+b.le+`"`, func(t float64) float64 { return b.part * all(t) })
			}
		}
	}
}

func (a *answering) series(e, d, more string, value func(t float64) float64) {
	if a.several {
		_ = a.w.WriteByte(',')
	}
	a.several = true
	fmt.Fprintf(a.w, `{"metric":{"__name__":%q,"endpoint":%q,"deployment":%q,"instance":"%s-0"%s},`, a.name, e, d, d, more)
	if a.reach == 0 {
		fmt.Fprintf(a.w, `"value":[%.3f,"%d"]}`, a.at, int64(value(a.at)))
		return
	}
	_, _ = a.w.WriteString(`"values":[`)
	step := scraped.Seconds()
	for t, first := float64(int64((a.at-a.reach)/step)+1)*step, true; t <= a.at; t, first = t+step, false {
		if !first {
			_ = a.w.WriteByte(',')
		}
		fmt.Fprintf(a.w, `[%.3f,"%d"]`, t, int64(value(t)))
	}
	_, _ = a.w.WriteString("]}")
}
