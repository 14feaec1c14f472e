// Package unique refuses JSON in which an object has a field twice.
//
// Readers do not agree on which of the two counts: who checks a message may see
// one, who acts on it the other. So neither does.
package unique

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Fields returns an error that names a field which stands twice in one object of
// the first value in data, however deep. With fold, the outermost object's fields
// are the same whatever their case, as encoding/json finds those of a struct. Data
// that is no JSON is an error too.
func Fields(data []byte, fold bool) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // whether a number fits is not its business
	var open []*level
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if name, ok := token.(string); ok && len(open) > 0 && open[len(open)-1].wantsName() {
			if err := open[len(open)-1].name(name, fold && len(open) == 1); err != nil {
				return err
			}
			continue
		}
		switch token {
		case json.Delim('{'):
			open = append(open, &level{names: map[string]bool{}})
			continue
		case json.Delim('['):
			open = append(open, &level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) == 0 {
			return nil
		}
		open[len(open)-1].named = false
	}
}

// A level is an object, or a list, whose names are nil, that has begun.
type level struct {
	names map[string]bool
	// named: the name of the value to come was read.
	named bool
}

func (l *level) wantsName() bool { return l.names != nil && !l.named }

// name takes the name of a field.
func (l *level) name(name string, fold bool) error {
	key := name
	if fold {
		key = strings.Map(smallest, name)
	}
	if l.names[key] {
		return fmt.Errorf("field %.60q stands there twice", name)
	}
	l.names[key], l.named = true, true
	return nil
}

// smallest is the first of the letters that are the same but for their case.
func smallest(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return least
}
