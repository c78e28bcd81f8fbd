package main

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	vcenterAddress = "127.0.0.1"
	// Another host name than vCenter's, as in reality: cookies for one are not for the other.
	hostAddress = "127.0.0.2"
	user        = "administrator@vsphere.local"
)

// access is what a client needs.
type access struct {
	URL         string `json:"url"`
	User        string `json:"user"`
	Password    string `json:"password"`
	Certificate string `json:"certificate"` // the path of vCenter's, PEM
	Control     string `json:"control"`     // the URL of the control endpoint, without TLS
}

// vcenter is the whole: the simulator, the host that takes uploads, and what both have seen.
type vcenter struct {
	records
	access       access
	model        *simulator.Model
	server       *simulator.Server
	host         *host
	control      *http.Server
	folder       string // for all files of this process
	leaseTimeout time.Duration

	mu    sync.Mutex
	items map[string]types.OvfFileItem // of all import specifications, by device
}

// start brings up an empty inventory: a datacenter with one cluster, one host, one datastore, the network "VM Network"
// and a distributed port group.
func start(leaseTimeout time.Duration) (vc *vcenter, err error) {
	vc = &vcenter{
		records: records{calls: map[string]int{}}, leaseTimeout: leaseTimeout, items: map[string]types.OvfFileItem{},
	}
	defer func() {
		if err != nil {
			vc.close()
		}
	}()
	if vc.folder, err = os.MkdirTemp("", "gatewright-vcenter-"); err != nil {
		return vc, err
	}
	// The simulator makes folders there for its datastores.
	if err = os.Setenv("TMPDIR", vc.folder); err != nil {
		return vc, err
	}
	own, err := newIdentity("vcenter", vcenterAddress)
	if err != nil {
		return vc, err
	}
	vc.access = access{User: user, Password: rand.Text(), Certificate: filepath.Join(vc.folder, "vcenter.pem")}
	if err = os.WriteFile(vc.access.Certificate, own.pem, 0o644); err != nil {
		return vc, err
	}
	if vc.host, err = newHost(vc); err != nil {
		return vc, err
	}

	model := simulator.VPX()
	model.Host, model.ClusterHost, model.Machine = 0, 1, 0
	about := &model.ServiceContent.About
	about.ApiVersion, about.Version, about.Build = "8.0.3.0", "8.0.3", "24022515"
	about.FullName = "VMware vCenter Server 8.0.3 build-24022515"
	if err = model.Create(); err != nil {
		return vc, err
	}
	vc.model = model
	service := model.Service
	service.Context.Map.Handler = vc.handle
	service.TLS = own.tls
	// Without a user, any would do.
	service.Listen = &url.URL{Host: vcenterAddress + ":0", User: url.UserPassword(user, vc.access.Password)}
	vc.server = service.NewServer()
	simulated := vc.server.Config.Handler
	vc.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The simulator's own place for uploads ends the process on HEAD and on parallel ones.
		if strings.HasPrefix(r.URL.Path, "/nfc/") {
			http.NotFound(w, r)
			return
		}
		simulated.ServeHTTP(w, r)
	})
	vc.access.URL = "https://" + vc.server.Listener.Addr().String() + "/sdk"

	listener, err := net.Listen("tcp", vcenterAddress+":0")
	if err != nil {
		return vc, err
	}
	vc.control = &http.Server{Handler: vc.controlHandler()}
	vc.access.Control = "http://" + listener.Addr().String()
	go serve(vc.control, listener)
	return vc, nil
}

func serve(server *http.Server, listener net.Listener) {
	_ = server.Serve(listener) // it always ends with an error: that it was closed
}

// close ends what was started, however far that came.
func (vc *vcenter) close() {
	if vc.control != nil {
		_ = vc.control.Close()
	}
	if vc.host != nil {
		_ = vc.host.server.Close()
	}
	if vc.server != nil {
		// Not Close: it waits for requests, and a client may wait for an update that never comes.
		_ = vc.server.Config.Close()
	}
	if vc.model != nil {
		vc.model.Remove()
	}
	if vc.folder != "" {
		_ = os.RemoveAll(vc.folder)
	}
}

// handle is called before each method. What it returns stands in for the object that is called.
func (vc *vcenter) handle(ctx *simulator.Context, method *simulator.Method) (mo.Reference, types.BaseMethodFault) {
	vc.call(method.Name)
	for _, option := range extraConfig(method.Body) {
		// An order to the simulator, not a key; one that it does not know ends the process.
		if key := option.GetOptionValue().Key; strings.HasPrefix(key, "SET.") {
			vc.complain("%s: the key %q of the extra configuration is not for a real vCenter", method.Name, key)
			return nil, &types.InvalidArgument{InvalidProperty: "extraConfig"}
		}
	}
	if ctx.Session == nil {
		return nil, nil
	}
	var instead mo.Reference
	switch object := ctx.Map.Get(method.This).(type) {
	case *simulator.OvfManager:
		instead = &ovfManager{object, vc}
	case *simulator.ResourcePool:
		if method.Name == "ImportVApp" {
			instead = &pool{object, vc}
		}
	}
	if instead != nil {
		// Else the simulator looks once more, and takes its own.
		method.This = types.ManagedObjectReference{}
	}
	return instead, nil
}

func extraConfig(body types.AnyType) []types.BaseOptionValue {
	switch request := body.(type) {
	case *types.CreateVM_Task:
		return request.Config.ExtraConfig
	case *types.ReconfigVM_Task:
		return request.Spec.ExtraConfig
	case *types.CloneVM_Task:
		if request.Spec.Config != nil {
			return request.Spec.Config.ExtraConfig
		}
	case *types.ImportVApp:
		if spec, ok := request.Spec.(*types.VirtualMachineImportSpec); ok {
			return spec.ConfigSpec.ExtraConfig
		}
	}
	return nil
}

// internal is a context of our own, for work that no request waits for.
func (vc *vcenter) internal() *simulator.Context {
	ctx := *vc.model.Service.Context
	ctx.Context = context.Background()
	return &ctx
}

// expect remembers the files that an import specification asks for: the import itself does not say them again.
func (vc *vcenter) expect(items []types.OvfFileItem) {
	vc.mu.Lock()
	defer vc.mu.Unlock()
	for _, item := range items {
		vc.items[item.DeviceId] = item
	}
}

func (vc *vcenter) expected(device string) (types.OvfFileItem, bool) {
	vc.mu.Lock()
	defer vc.mu.Unlock()
	item, ok := vc.items[device]
	return item, ok
}
