package rollout

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// NewID derives a rollout's id from where its request came from and the key
// that the request has there: the same request is always the same rollout. An
// id has 20 characters of a-z and 2-7.
func NewID(source, key string) string {
	h := sha256.Sum256([]byte(source + "\x00" + key))
	return strings.ToLower(base32.StdEncoding.EncodeToString(h[:])[:20])
}

// hashOf is the SHA-256 of b in hex.
func hashOf(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
