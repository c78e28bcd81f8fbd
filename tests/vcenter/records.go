package main

import (
	"fmt"
	"log"
	"maps"
	"sync"
)

// upload is one request that brought bytes.
type upload struct {
	VM            string `json:"vm"`
	Target        string `json:"target"` // the name of the file on the datastore
	Method        string `json:"method"`
	ContentType   string `json:"content_type"`
	ContentLength int64  `json:"content_length"`
	Received      int64  `json:"received"`
	SHA256        string `json:"sha256"`
	Path          string `json:"path"` // where the bytes are
	Status        int    `json:"status"`
}

// records is what was seen. A complaint is about something that a real vCenter refuses, or drops without a word.
type records struct {
	mu         sync.Mutex
	calls      map[string]int
	complaints []string
	uploads    []upload
}

func (r *records) call(method string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[method]++
}

func (r *records) complain(format string, args ...any) {
	words := fmt.Sprintf(format, args...)
	log.Printf("complaint: %s", words)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complaints = append(r.complaints, words)
}

func (r *records) uploaded(u upload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uploads = append(r.uploads, u)
}

// What is returned is the caller's, and never nil: JSON has a word for that.

func (r *records) allCalls() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.calls)
}

func (r *records) allComplaints() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.complaints...)
}

func (r *records) allUploads() []upload {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]upload{}, r.uploads...)
}
