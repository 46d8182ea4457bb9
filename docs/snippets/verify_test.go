package webhook

import (
	"encoding/json"
	"net/http"
	"os"
	"testing"
	"time"
)

type testCase struct {
	Name                string
	Secret, Body        *string
	Headers             map[string]string
	Now                 *int64
	Standard, Reference bool
}

// TestVector runs verify.go against vector.json:
// go test docs/snippets/verify.go docs/snippets/verify_test.go
func TestVector(t *testing.T) {
	text, err := os.ReadFile("vector.json")
	if err != nil {
		t.Fatal(err)
	}
	var vector struct {
		Secret, Body string
		Headers      map[string]string
		Now          int64
		Cases        []testCase
	}
	if err := json.Unmarshal(text, &vector); err != nil {
		t.Fatal(err)
	}
	for _, c := range vector.Cases {
		secret, body, now := vector.Secret, vector.Body, vector.Now
		if c.Secret != nil {
			secret = *c.Secret
		}
		if c.Body != nil {
			body = *c.Body
		}
		if c.Now != nil {
			now = *c.Now
		}
		header := http.Header{}
		for name, value := range vector.Headers {
			header.Set(name, value)
		}
		for name, value := range c.Headers {
			header.Set(name, value)
		}
		if VerifyStandard(secret, header, []byte(body), time.Unix(now, 0)) != c.Standard {
			t.Errorf("%s: standard is not %v", c.Name, c.Standard)
		}
		if VerifyReference(secret, header, []byte(body)) != c.Reference {
			t.Errorf("%s: reference is not %v", c.Name, c.Reference)
		}
	}
}
