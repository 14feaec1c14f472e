package store

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// The bounds that every store keeps, in bytes. A larger entry or state is
// refused with ErrTooLarge before anything is written.
const (
	KeyMax   = 1 << 10
	ValueMax = 4 << 20
)

// The errors of a call that no retry will mend.
var (
	// ErrKey: the key is empty, too long, not UTF-8 or has a character that is
	// not printable; nothing was written.
	ErrKey = errors.New("store: invalid key")
	// ErrTooLarge: the entry or the state is longer than ValueMax; nothing was
	// written.
	ErrTooLarge = errors.New("store: too large")
)

// CheckKey returns an error that wraps ErrKey and says what is wrong with the
// key, or nil. Every store refuses the same keys, in these words.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > KeyMax:
		return fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrKey, len(key), KeyMax)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w %q: it is not UTF-8", ErrKey, key)
	}
	for i, r := range key {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%w %q: the character %U at byte %d is not printable", ErrKey, key, r, i)
		}
	}
	return nil
}

// CheckAppend returns what is wrong with the arguments of an append whatever
// the store holds: ErrKey, ErrTooLarge, or nil.
func CheckAppend(key string, entry, state []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if len(entry) > ValueMax {
		return fmt.Errorf("%w: the entry has %d bytes, at most %d are allowed", ErrTooLarge, len(entry), ValueMax)
	}
	if len(state) > ValueMax {
		return fmt.Errorf("%w: the state has %d bytes, at most %d are allowed", ErrTooLarge, len(state), ValueMax)
	}
	return nil
}
