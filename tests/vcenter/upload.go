package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const diskContentType = "application/x-vnd.vmware-streamVmdk"

// host is the ESXi host of the cluster, as far as it takes uploads. Its URLs hold a token and nothing else admits.
type host struct {
	vc         *vcenter
	server     *http.Server
	url        string
	thumbprint string

	mu    sync.Mutex
	files map[string]*file // by path
	count int
}

// file is one that an import asks for.
type file struct {
	vm       string
	target   string
	key      string // in the manifest
	item     types.OvfFileItem
	capacity int64 // of the disk, bytes

	// Guarded by the host's mutex.
	busy     bool
	received *content
}

// content is what has come.
type content struct {
	size   int64
	sha1   string
	sha256 string
}

// newHost starts the ESXi host.
func newHost(vc *vcenter) (*host, error) {
	own, err := newIdentity("esxi", hostAddress)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", hostAddress+":0")
	if err != nil {
		return nil, err
	}
	h := &host{vc: vc, thumbprint: own.thumbprint, url: "https://" + listener.Addr().String(), files: map[string]*file{}}
	h.server = &http.Server{Handler: h}
	go serve(h.server, tls.NewListener(listener, own.tls))
	return h, nil
}

func (h *host) open(where string, f *file) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files[where] = f
}

func (h *host) close(f *file) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for where, other := range h.files {
		if other == f {
			delete(h.files, where)
		}
	}
}

// content is what a file was given, if it was.
func (h *host) content(f *file) (content, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.received == nil {
		return content{}, false
	}
	return *f.received, true
}

// take begins an upload: nobody else may write the file meanwhile.
func (h *host) take(where string) (f *file, number, status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f, ok := h.files[where]
	switch {
	case !ok:
		return nil, 0, http.StatusNotFound
	case f.busy:
		return nil, 0, http.StatusConflict
	}
	f.busy, f.received = true, nil
	h.count++
	return f, h.count, http.StatusOK
}

func (h *host) release(f *file, received *content) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.busy, f.received = false, received
}

// objection is what a host has against an upload. Without a status it is taken all the same.
type objection struct {
	status int
	words  string
}

// judge looks at the head of an upload.
func judge(r *http.Request, item types.OvfFileItem) (objections []objection) {
	object := func(status int, format string, args ...any) {
		objections = append(objections, objection{status, fmt.Sprintf(format, args...)})
	}
	method, contentType := http.MethodPost, diskContentType
	if item.Create {
		method, contentType = http.MethodPut, ""
	}
	if r.Method != method {
		object(http.StatusMethodNotAllowed, "method %s, not %s", r.Method, method)
	}
	if item.Create && r.Header.Get("Overwrite") != "t" {
		object(0, "no header Overwrite: t")
	}
	switch {
	case len(r.TransferEncoding) > 0:
		object(http.StatusLengthRequired, "transfer encoding %s", slices.Clone(r.TransferEncoding))
	case r.ContentLength < 0 || r.Header.Get("Content-Length") == "" && r.ContentLength == 0:
		object(http.StatusLengthRequired, "no Content-Length")
	case item.Size != 0 && r.ContentLength != item.Size:
		object(0, "Content-Length %d, the descriptor says %d", r.ContentLength, item.Size)
	}
	if found := r.Header.Get("Content-Type"); contentType != "" && found != contentType {
		object(0, "content type %q, not %q", found, contentType)
	}
	if _, err := r.Cookie(soap.SessionCookieName); err == nil {
		object(0, "vCenter's session cookie, which is none of this host's business")
	}
	return objections
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, number, status := h.take(r.URL.Path)
	if f == nil {
		// The path holds a token: it is in no message.
		h.vc.complain("upload: %s to a URL that is closed or busy: %d", r.Method, status)
		w.WriteHeader(status)
		return
	}
	var received *content
	defer func() { h.release(f, received) }()
	record := upload{
		VM: f.vm, Target: f.target, Method: r.Method, ContentType: r.Header.Get("Content-Type"),
		ContentLength: r.ContentLength, Status: http.StatusCreated,
	}
	for _, objection := range judge(r, f.item) {
		h.vc.complain("upload of %s: %s", f.target, objection.words)
		if objection.status != 0 && record.Status == http.StatusCreated {
			record.Status = objection.status
		}
	}
	if record.Status == http.StatusCreated {
		got, err := h.receive(r.Body, f, number, &record)
		if err != nil {
			h.vc.complain("upload of %s: %v", f.target, err)
			record.Status = http.StatusInternalServerError
		} else {
			received = got
		}
	}
	h.vc.uploaded(record)
	w.WriteHeader(record.Status)
}

// receive keeps the bytes and looks at them.
func (h *host) receive(body io.Reader, f *file, number int, record *upload) (*content, error) {
	record.Path = filepath.Join(h.vc.folder, fmt.Sprintf("upload-%d", number))
	kept, err := os.Create(record.Path)
	if err != nil {
		return nil, err
	}
	defer kept.Close()
	weak, strong := sha1.New(), sha256.New()
	record.Received, err = io.Copy(io.MultiWriter(kept, weak, strong), body)
	record.SHA256 = hex.EncodeToString(strong.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("it broke off after %d of %d bytes: %w", record.Received, record.ContentLength, err)
	}
	if !f.item.Create {
		if err := checkDisk(kept, record.Received, f.capacity); err != nil {
			return nil, err
		}
	}
	return &content{record.Received, hex.EncodeToString(weak.Sum(nil)), record.SHA256}, nil
}
