// A sign-up with Go's standard library: trigger, status, webhook. PORT=… go run signup.go
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	client   = &http.Client{Timeout: 5 * time.Second}
	outcomes sync.Map // a real service has a database
)

// sendCode asks for a code, and tries again with the same key where nobody answered: it is never sent twice.
func sendCode(phone, key string) (int, []byte, error) {
	asked, _ := json.Marshal(map[string]any{"phone": phone, "expires_in": 600})
	for pause := 200 * time.Millisecond; pause < 5*time.Second; pause *= 2 {
		request, err := http.NewRequest("POST", os.Getenv("SENDCODE_URL")+"/v1/codes", bytes.NewReader(asked))
		if err != nil {
			return 0, nil, err
		}
		request.Header.Set("Authorization", "Bearer "+os.Getenv("SENDCODE_TOKEN"))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", key)
		if answer, err := client.Do(request); err == nil {
			body, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err == nil && answer.StatusCode < 500 {
				return answer.StatusCode, body, nil
			}
		}
		time.Sleep(pause)
	}
	return 0, nil, errors.New("sendcode cannot be reached")
}

type payload struct {
	Type string
	Data struct{ Key, State string }
}

// verified returns the payload of a webhook in the Standard Webhooks format, or nil.
func verified(body []byte, headers http.Header) *payload {
	id, at := headers.Get("webhook-id"), headers.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if id == "" || err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return nil
	}
	secret, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("SENDCODE_WEBHOOK_SECRET"), "whsec_"))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + at + "."))
	mac.Write(body)
	expected := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, given := range strings.Fields(headers.Get("webhook-signature")) {
		var found payload
		if hmac.Equal([]byte(given), []byte(expected)) && json.Unmarshal(body, &found) == nil {
			return &found
		}
	}
	return nil
}

func signUp(response http.ResponseWriter, request *http.Request) {
	var form struct{ User, Phone string }
	if json.NewDecoder(request.Body).Decode(&form) != nil {
		response.WriteHeader(http.StatusBadRequest)
		return
	}
	status, body, err := sendCode(form.Phone, "signup-"+form.User)
	switch {
	case err != nil:
		http.Error(response, err.Error(), http.StatusBadGateway)
		return
	case status < 300:
		status = http.StatusAccepted
	}
	response.Header().Set("Content-Type", "application/json")
	response.WriteHeader(status)
	response.Write(body)
}

func code(response http.ResponseWriter, request *http.Request) {
	state, found := outcomes.Load("signup-" + strings.TrimPrefix(request.URL.Path, "/codes/"))
	if !found {
		state = "on its way"
	}
	response.Header().Set("Content-Type", "application/json")
	json.NewEncoder(response).Encode(map[string]any{"state": state})
}

func webhook(response http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	told := verified(body, request.Header)
	if told == nil {
		response.WriteHeader(http.StatusBadRequest)
		return
	}
	if told.Type == "code.ended" {
		outcomes.Store(told.Data.Key, told.Data.State)
	}
	response.WriteHeader(http.StatusNoContent)
}

func main() {
	http.HandleFunc("/signup", signUp)
	http.HandleFunc("/codes/", code)
	http.HandleFunc("/webhooks/sendcode", webhook)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
