package config

import (
	"context"
	"log/slog"

	"github.com/belayd/belay/store"
	"github.com/belayd/belay/store/bolt"
)

// StoreConfig says where the records are kept; exactly one kind.
type StoreConfig struct {
	Bolt *BoltConfig `yaml:"bolt" oneof:"store" doc:"One file on a local disk, for one belayd."`
}

// BoltConfig is the store in one file.
type BoltConfig struct {
	Path string `yaml:"path" required:"true" doc:"The file; created when missing."`
}

// A Store is where belayd keeps its records, and who may act for them.
type Store interface {
	store.Store
	store.Leaser
	// Err is why the store can no longer be trusted, or takes nothing; nil when it does.
	Err() error
	// Needs is what somebody must do before the store surely takes what a rollback leads
	// to; "" when it does.
	Needs() (string, error)
	// Backup writes a consistent copy to a file that must not exist.
	Backup(ctx context.Context, to string) error
}

// A storeKind is one row: what the kind is called, whether the configuration is of it,
// its file, and how it is opened, to be read only or not.
type storeKind struct {
	kind string
	is   func(StoreConfig) bool
	file func(StoreConfig) string
	open func(file string, readOnly bool, log *slog.Logger) (Store, error)
}

// stores is the list of the stores there are.
var stores = []storeKind{
	{"bolt", func(c StoreConfig) bool { return c.Bolt != nil && c.Bolt.Path != "" },
		func(c StoreConfig) string { return c.Bolt.Path }, openBolt},
}

// row is the store's row; nil where no kind is given.
func (c StoreConfig) row() *storeKind {
	for i := range stores {
		if stores[i].is(c) {
			return &stores[i]
		}
	}
	return nil
}

// given reports whether it is said where the records are kept.
func (c StoreConfig) given() bool { return c.row() != nil }

// StoreFile is the store's file.
func (c *Config) StoreFile() string { return c.Path(c.Store.row().file(c.Store)) }

// OpenStore opens the store; the error says what and which file.
func (c *Config) OpenStore(readOnly bool, log *slog.Logger) (Store, error) {
	return c.OpenCopy(c.StoreFile(), readOnly, log)
}

// OpenCopy opens a file that is a store of the same kind.
func (c *Config) OpenCopy(file string, readOnly bool, log *slog.Logger) (Store, error) {
	return c.Store.row().open(file, readOnly, log)
}

// onBolt is a store in one file.
type onBolt struct{ *bolt.Store }

// Needs is what must be done for the reserve, which a full disk would need.
func (s onBolt) Needs() (string, error) {
	space, err := s.Space()
	if err != nil || space.Reserved {
		return "", err
	}
	return space.Needs(), nil
}

func openBolt(file string, readOnly bool, log *slog.Logger) (Store, error) {
	s, err := bolt.Open(file, bolt.Options{ReadOnly: readOnly, Logger: log})
	if err != nil {
		return nil, err
	}
	return onBolt{s}, nil
}
