package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far a signature's time may be from the receiver's clock.
const Tolerance = 5 * time.Minute

// ErrSignature is wrapped by every error of Verify.
var ErrSignature = errors.New("webhook: signature not accepted")

// The headers of a signed request, and the version of the signature.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
	version         = "v1,"
)

// Verify is for receivers: it returns nil if body, exactly as it was received, was
// signed with the secret within Tolerance of now. A request that is replayed
// within that time verifies again; a receiver that must not act twice remembers
// the Webhook-Id header, which is the event's id.
func Verify(h http.Header, body []byte, secret string, now time.Time) error {
	key, err := secretKey(secret)
	if err != nil {
		return fmt.Errorf("%w: secret: %w", ErrSignature, err)
	}
	id, at := h.Get(headerID), h.Get(headerTimestamp)
	if id == "" || at == "" {
		return fmt.Errorf("%w: the %s or %s header is missing", ErrSignature, headerID, headerTimestamp)
	}
	if strings.Contains(id, ".") {
		return fmt.Errorf("%w: %s holds a full stop", ErrSignature, headerID)
	}
	secs, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %s is not in Unix seconds", ErrSignature, headerTimestamp)
	}
	// Compared in seconds: a difference of instants saturates, a sum may wrap.
	if age := now.Unix() - secs; age > int64(Tolerance/time.Second) || age < -int64(Tolerance/time.Second) {
		return fmt.Errorf("%w: signed more than %s from now", ErrSignature, Tolerance)
	}
	want := []byte(sign(key, id, at, body))
	for sig := range strings.FieldsSeq(h.Get(headerSignature)) {
		if got, ok := strings.CutPrefix(sig, version); ok && hmac.Equal([]byte(got), want) {
			return nil
		}
	}
	return fmt.Errorf("%w: no v1 signature in %s matches", ErrSignature, headerSignature)
}

// sign returns the base64 of the HMAC-SHA256 over id, time and body.
func sign(key []byte, id, at string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
