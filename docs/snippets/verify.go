// Package webhook verifies webhook signatures. It needs only the standard library.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const toleranceSeconds = 300

var decimal = regexp.MustCompile(`^[0-9]{1,11}$`)

// secretKey returns the key of a whsec_ secret: 24 to 64 bytes. It returns nil for any other string.
func secretKey(secret string) []byte {
	if !strings.HasPrefix(secret, "whsec_") {
		return nil
	}
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil
	}
	return key
}

// VerifyStandard reports whether webhook-signature is valid. body is the raw bytes of the request.
func VerifyStandard(secret string, header http.Header, body []byte, now time.Time) bool {
	key := secretKey(secret)
	timestamp := header.Get("webhook-timestamp")
	if key == nil || !decimal.MatchString(timestamp) {
		return false
	}
	sent, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return false
	}
	age := now.Unix() - sent
	if age > toleranceSeconds || age < -toleranceSeconds {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(header.Get("webhook-id") + "." + timestamp + "."))
	mac.Write(body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, given := range strings.Split(header.Get("webhook-signature"), " ") {
		if hmac.Equal(expected, []byte(given)) {
			return true
		}
	}
	return false
}

// VerifyReference reports whether X-Webhook-Signature is valid.
func VerifyReference(secret string, header http.Header, body []byte) bool {
	if secretKey(secret) == nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	expected := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(expected), []byte(header.Get("X-Webhook-Signature")))
}
