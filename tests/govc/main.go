// govc, with the few commands that importing an OVA takes. The tests and a pipeline need it on machines without
// network access to release archives, and since govc became a module of its own with a replace directive,
// `go install` cannot build it at a chosen version; its commands are packages of the root module, though, so a main
// function with the ones that are used gives the same program.
//
// Build: CGO_ENABLED=0 go build -trimpath -ldflags=-s -o govc .
package main

import (
	"os"

	"github.com/vmware/govmomi/cli"
	_ "github.com/vmware/govmomi/cli/about"
	_ "github.com/vmware/govmomi/cli/importx"
	_ "github.com/vmware/govmomi/cli/version"
	_ "github.com/vmware/govmomi/cli/vm"
)

func main() { os.Exit(cli.Run(os.Args[1:])) }
