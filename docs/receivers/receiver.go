// A receiver with net/http, for Go 1.22 or newer.
// go mod init receiver && go mod tidy && SECRET=whsec_... go run receiver.go
package main

import (
	"database/sql"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	_ "modernc.org/sqlite"
)

const table = "CREATE TABLE IF NOT EXISTS inbox (webhook_id TEXT PRIMARY KEY, body BLOB, done INTEGER)"

func main() {
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	database, err := sql.Open("sqlite", "file:inbox.db?_pragma=busy_timeout(3000)")
	if err != nil {
		log.Fatal(err)
	}
	database.SetMaxOpenConns(1)
	if _, err := database.Exec(table); err != nil {
		log.Fatal(err)
	}
	come := make(chan struct{}, 1)
	go workAfterwards(database, come)

	http.HandleFunc("POST /callback", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 2<<20))
		switch {
		case err != nil:
			answer(w, 413, "413", "too large")
			return
		case webhook.Verify(body, r.Header) != nil:
			answer(w, 401, "401", "not signed by our secret")
			return
		case !json.Valid(body):
			answer(w, 400, "400", "not JSON")
			return
		}
		id := r.Header.Get("webhook-id")
		if _, err := database.Exec("INSERT OR IGNORE INTO inbox VALUES (?, ?, 0)", id, body); err != nil {
			answer(w, 500, "500", "not stored")
			return
		}
		select {
		case come <- struct{}{}:
		default:
		}
		answer(w, 200, "000", "成功")
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:9002", nil))
}

func answer(w http.ResponseWriter, status int, code, msg string) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"code": code, "msg": msg})
}

func workAfterwards(database *sql.DB, come <-chan struct{}) {
	for {
		for workOnce(database) {
		}
		select {
		case <-come:
		case <-time.After(10 * time.Second):
		}
	}
}

// workOnce does the work of one event; false where there is none, or it failed.
func workOnce(database *sql.DB) bool {
	transaction, err := database.Begin()
	if err != nil {
		return false
	}
	defer transaction.Rollback() // does nothing after the commit
	var id string
	var body []byte
	row := transaction.QueryRow("SELECT webhook_id, body FROM inbox WHERE NOT done LIMIT 1")
	if row.Scan(&id, &body) != nil {
		return false
	}
	if err := work(body, transaction); err != nil {
		log.Print("not done, once more in 10 s: ", err)
		return false
	}
	if _, err := transaction.Exec("UPDATE inbox SET done = 1 WHERE webhook_id = ?", id); err != nil {
		return false
	}
	return transaction.Commit() == nil
}

// work is your own. What it writes by the transaction is there with the row's mark, or not at all.
func work(body []byte, _ *sql.Tx) error {
	log.Printf("%s", body)
	return nil
}
