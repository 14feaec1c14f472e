// Package document reads YAML that people write: policies, their tests and belayd's
// config. It is strict and says everything that is wrong at once, with file, line,
// column, path and remedy.
//
// The rules of the package:
//   - It is pure: bytes in, values and problems out. Every input is bounded.
//   - YAML's anchors, aliases, merge keys and tags are refused: what a reviewer reads is
//     what runs.
//   - What may be written is said by the types that are read into, in their tags, and
//     by nothing else: decoder, schema and reference all go by them.
//   - Every value of a tree knows where it came from.
//
// Lines are parsed by go.yaml.in/yaml/v3. Its own decoder with KnownFields, tried on
// policies/testdata/bad/ten-mistakes.yaml, names one of the ten mistakes, without a
// place; this package has all ten with theirs.
//
// The package does not know what any document means.
package document

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Decode reads one YAML document into out, a pointer to a struct, as strictly
// as policies are read; belayd's config uses it. Fields are described by tags:
//
//	yaml:"name"       the key; a field without it is left alone
//	required:"true"   the key must stand there
//	default:"15s"     YAML for the value when the key is missing; the keys of a
//	                  mapping here also complete a mapping that stands there
//	enum:"a,b"        the values that a string may have
//	oneof:"group"     exactly one of the fields with the same group must stand there
//	doc:"…"           what it means, for the JSON Schema
//
// Of what stands in the document its problems show places, names of fields and
// reasons, never a line or a value: it may hold secrets.
//
// Fields may be structs (also embedded), pointers, slices, maps with string
// keys, strings, booleans, whole numbers, floats, time.Duration (the unit is
// needed), Raw, and what implements encoding.TextUnmarshaler. Values that
// implement Validator check themselves.
func Decode(file string, data []byte, out any) Problems {
	tree, ps := Read(file, data, MaxNodes)
	if tree == nil {
		return ps.discreet()
	}
	_, more := DecodeTree(tree, out, false)
	return append(ps, more...).Sorted().discreet()
}

// ReadFile reads a bounded file.
func ReadFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", Cause(err))
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read: %w", Cause(err))
	}
	return data, nil
}

// Cause is the cause of a file error without the operation and the path.
func Cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// The bounds of input.
const (
	// MaxBytes is the largest file that is read.
	MaxBytes = 256 << 10
	// MaxDepth is how deep mappings and lists may be nested.
	MaxDepth = 32
	// MaxNodes is how many values, and lines, a config may have.
	MaxNodes = 20_000
)
