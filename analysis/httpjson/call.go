package httpjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/belayd/belay/analysis/internal/fetch"
	"github.com/belayd/belay/analysis/unique"
)

// A call is one request of a Read, whichever questions share it.
type call struct {
	req *http.Request
	doc any
	err error
}

// An asker is the work of one Read.
type asker struct {
	s     *Source
	now   time.Time
	calls map[string]*call
	order []*call
}

// call is the call with these values; a new one only if there is none like it.
func (a *asker) call(vars map[string]string) (*call, error) {
	req, err := a.s.request(vars)
	if err != nil {
		return nil, err
	}
	key := req.URL.String()
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(body)
		if err != nil {
			return nil, err
		}
		key += "\xff" + string(text)
	}
	c := a.calls[key]
	if c == nil {
		c = &call{req: req}
		a.calls[key] = c
		a.order = append(a.order, c)
	}
	return c, nil
}

// run makes the calls, some at a time.
func (a *asker) run(ctx context.Context) {
	free := make(chan struct{}, a.s.cfg.Parallel)
	var wg sync.WaitGroup
	for _, c := range a.order {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			c.doc, c.err = a.s.get(ctx, c.req)
		})
	}
	wg.Wait()
}

func (s *Source) get(ctx context.Context, req *http.Request) (doc any, err error) {
	if err := s.pause.Err(time.Now()); err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "belayd")
	err = fetch.Do(s.cfg.Client, req.WithContext(ctx), s.cfg.Timeout, s.cfg.MaxBytes,
		func(resp *http.Response, body io.Reader) error {
			s.pause.Heed(resp, time.Now())
			if resp.StatusCode < 200 || resp.StatusCode > 299 {
				return fetch.Refused(resp)
			}
			kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
			if err != nil || !isJSON(kind) {
				return errors.New("it did not answer JSON: a login page, or not the API's address")
			}
			var text bytes.Buffer
			dec := json.NewDecoder(io.TeeReader(body, &text))
			dec.UseNumber()
			if err := dec.Decode(&doc); err != nil {
				return errors.New("its answer is no JSON, or was cut off")
			}
			if _, err := dec.Token(); !errors.Is(err, io.EOF) {
				return errors.New("its answer goes on after its end")
			}
			if unique.Fields(text.Bytes(), false) != nil { // whose name is the API's, and stays unsaid
				return errors.New("its answer has a field twice")
			}
			return s.whole(doc)
		})
	return doc, err
}

// isJSON says whether a media type is one of JSON; AWS has its own.
func isJSON(kind string) bool {
	return kind == "application/json" || strings.HasSuffix(kind, "+json") || strings.HasPrefix(kind,
		"application/x-amz-json-")
}

// whole is an error where the document says of itself that it is a part, or none.
func (s *Source) whole(doc any) error {
	for i, p := range s.partial {
		vs, err := p.Select(doc)
		if err != nil {
			return fmt.Errorf("partial: %w", err)
		}
		for _, v := range vs {
			if !empty(v) {
				return fmt.Errorf("the answer may be partial: %s says so", s.cfg.Partial[i])
			}
		}
	}
	return nil
}

// empty says whether a value says nothing: no text, no number but 0, no member.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case json.Number:
		x, err := v.Float64()
		return err == nil && x == 0
	case float64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

// inJSON escapes a value for a JSON string.
func inJSON(_, v string) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	return string(b[1 : len(b)-1]), nil
}
