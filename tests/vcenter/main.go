// A vCenter for tests: govmomi's simulator, made as strict as the real one where OVAs meet it.
//
// It listens on loopback addresses only: the vCenter on 127.0.0.1, and on 127.0.0.2 the ESXi host that takes uploads,
// each with a certificate of its own. The first line of its standard output is what a client needs, as JSON. It ends,
// and leaves nothing behind, when its standard input is closed, as when the process that holds the other end dies.
//
//	file             is
//	vcenter.go       the simulator and what stands in for its objects
//	spec.go          from descriptor to import specification
//	lease.go         from import specification to virtual machine, and back if the import fails
//	upload.go        the ESXi host: takes, judges and keeps uploads
//	disk.go          a look into an uploaded VMDK
//	records.go       what was seen
//	control.go       tells a test what was seen
//	certificate.go   certificates, made at start
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	// Deferred calls tidy up: they must have run before the program exits.
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	timeout := flag.Duration("lease-timeout", 300*time.Second, "the time after which an import without progress ends")
	flag.Parse()
	log.SetFlags(log.Ltime | log.Lmicroseconds)

	vc, err := start(*timeout)
	if err != nil {
		return err
	}
	defer vc.close()
	if err := json.NewEncoder(os.Stdout).Encode(vc.access); err != nil {
		return err
	}

	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end <- syscall.SIGTERM
	}()
	<-end
	return nil
}
