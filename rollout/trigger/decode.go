package trigger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"

	"github.com/belayd/belay/analysis/unique"
	"github.com/belayd/belay/store"
)

// bodyMax bounds a message, in bytes.
const bodyMax = 256 << 10

// An event is what a message says.
type event struct {
	// source and id are the event's key.
	source, id string
	// digest is the SHA-256, in hex, of what the event says. The time, the
	// extensions and the encoding are not part of it: a producer that repeats
	// itself may change those.
	digest string
	// doc is the event as JSON.
	doc map[string]any
	// cloud: the event is a CloudEvent, not plain JSON.
	cloud bool
}

// implied is where a field stands when the map does not say.
func (e event) implied(field string) string {
	switch {
	case !e.cloud:
		return field
	case field == "requestedBy":
		return "source"
	}
	return "data." + field
}

// decode reads a message: a CloudEvent in binary mode (ce- headers) or
// structured mode, or plain JSON, whose source is the trigger's name.
func decode(name string, header nats.Header, body []byte) (event, error) {
	if len(body) > bodyMax {
		return event{}, fmt.Errorf("the body has %d bytes, at most %d are read", len(body), bodyMax)
	}
	header = lowered(header)
	kind := strings.ToLower(header.Get("content-type"))
	switch {
	case strings.HasPrefix(kind, "application/cloudevents-batch"):
		return event{}, errors.New("the message is a batch of CloudEvents; send one event a message")
	case header.Get("ce-specversion") != "":
		return decodeCloud(header, body)
	}
	doc, err := decodeObject(body)
	if err != nil {
		return event{}, err
	}
	if _, ok := doc["specversion"]; ok || strings.HasPrefix(kind, "application/cloudevents") {
		return decodeCloud(nil, body)
	}
	return decodePlain(name, header, doc)
}

// decodePlain takes the id out of the body, else Nats-Msg-Id.
func decodePlain(name string, header nats.Header, doc map[string]any) (event, error) {
	e := event{source: name, doc: doc}
	switch id, err := asText(doc["id"]); {
	case doc["id"] == nil:
		e.id = header.Get(strings.ToLower(nats.MsgIdHdr))
	case err != nil:
		return event{}, fmt.Errorf("id: %w", err)
	default:
		e.id = id
	}
	if e.id == "" {
		return event{}, errors.New("the event has no key: neither an id in the body nor a Nats-Msg-Id header")
	}
	var err error
	if e.digest, err = digest(doc); err != nil {
		return event{}, err
	}
	return e, e.check()
}

// decodeCloud reads a CloudEvent; without ce- headers it is a structured one.
func decodeCloud(header nats.Header, body []byte) (event, error) {
	ce, err := binding.ToEvent(context.Background(), nats_jetstream.NewMessage(&nats.Msg{Header: header, Data: body}))
	if err != nil {
		return event{}, fmt.Errorf("decode CloudEvent: %w", err)
	}
	if err := ce.Validate(); err != nil {
		return event{}, fmt.Errorf("decode CloudEvent: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	e := event{source: ce.Source(), id: ce.ID(), cloud: true, doc: map[string]any{
		"specversion": ce.SpecVersion(), "id": ce.ID(), "source": ce.Source(), "type": ce.Type(),
	}}
	for name, value := range map[string]string{
		"subject": ce.Subject(), "datacontenttype": ce.DataContentType(), "dataschema": ce.DataSchema(),
	} {
		if value != "" {
			e.doc[name] = value
		}
	}
	for name, value := range ce.Extensions() {
		if s, ok := value.(string); ok {
			e.doc[name] = s
		}
	}
	var said any = ce.Data()
	if isJSON(ce) {
		data, err := decodeJSON(ce.Data())
		if err != nil {
			return event{}, fmt.Errorf("data: %w", err)
		}
		e.doc["data"], said = data, data
	}
	if e.digest, err = digest(map[string]any{"type": ce.Type(), "subject": ce.Subject(), "data": said}); err != nil {
		return event{}, err
	}
	return e, e.check()
}

// isJSON: an event without a content type has JSON data.
func isJSON(ce *cloudevent.Event) bool {
	kind, _, _ := strings.Cut(strings.ToLower(ce.DataContentType()), ";")
	kind = strings.TrimSpace(kind)
	return len(ce.Data()) > 0 && (kind == "" || kind == "application/json" || strings.HasSuffix(kind, "+json") ||
		kind == "text/json")
}

// check refuses a key that cannot name a record.
func (e event) check() error {
	for what, s := range map[string]string{"source": e.source, "id": e.id} {
		if _, err := asText(s); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return store.CheckKey(recordKey(e.source, e.id))
}

// lowered returns the headers with lower-case names: producers differ.
func lowered(h nats.Header) nats.Header {
	out := nats.Header{}
	for k, v := range h {
		if len(v) > 0 {
			out[strings.ToLower(k)] = v
		}
	}
	return out
}

// decodeObject reads exactly one JSON object.
func decodeObject(body []byte) (map[string]any, error) {
	v, err := decodeJSON(body)
	if err != nil {
		return nil, err
	}
	doc, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the body is %s, want a JSON object", kindOf(v))
	}
	return doc, nil
}

// decodeJSON reads exactly one JSON value, no object of which has a field twice;
// numbers keep their digits.
func decodeJSON(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("the body is not JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the body is not JSON: something follows the first value")
	}
	if err := unique.Fields(body, false); err != nil {
		return nil, fmt.Errorf("the body is ambiguous: %w", err)
	}
	return v, nil
}

// digest is the SHA-256 of v as JSON with sorted keys, in hex.
func digest(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode event: %w", err) // unreachable: it was decoded from JSON
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}
