package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// machine is a virtual machine as a test asks about it.
type machine struct {
	Name        string            `json:"name"`
	Hardware    string            `json:"hardware"` // its version, as in vmx-15
	Guest       string            `json:"guest"`
	CPUs        int32             `json:"cpus"`
	MemoryMiB   int32             `json:"memory_mib"`
	Firmware    string            `json:"firmware"`
	SecureBoot  bool              `json:"secure_boot"`
	Annotation  string            `json:"annotation"`
	Transports  []string          `json:"transports"`
	ExtraConfig map[string]string `json:"extra_config"`
	Products    []product         `json:"products"`
	Properties  []property        `json:"properties"`
	Networks    []network         `json:"networks"`
	Disks       []disk            `json:"disks"`
}

type product struct {
	Name        string `json:"name"`
	Vendor      string `json:"vendor"`
	Version     string `json:"version"`
	FullVersion string `json:"full_version"`
}

type property struct {
	Key      string `json:"key"`
	Category string `json:"category"`
	Label    string `json:"label"`
	Type     string `json:"type"`
	Default  string `json:"default"`
	Value    string `json:"value"`
}

type network struct {
	Adapter string `json:"adapter"` // its class, as in VirtualVmxnet3
	Network string `json:"network"`
	Slot    int32  `json:"slot"` // PCI, 0 if it is left to the host
}

type disk struct {
	Capacity   int64  `json:"capacity"`   // bytes
	Controller string `json:"controller"` // its class, as in ParaVirtualSCSIController
	Unit       int32  `json:"unit"`
	Thin       bool   `json:"thin"`
	Slot       int32  `json:"slot"` // of the controller
}

// controlHandler answers GET requests with JSON.
func (vc *vcenter) controlHandler() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, answer func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(answer()) // an asker who has gone needs no answer
		})
	}
	get("/machines", func() any { return vc.machines() })
	get("/calls", func() any { return vc.allCalls() })
	get("/complaints", func() any { return vc.allComplaints() })
	get("/uploads", func() any { return vc.allUploads() })
	return mux
}

// machines lists the inventory by name.
func (vc *vcenter) machines() []machine {
	ctx := vc.internal()
	list := []machine{}
	for _, entity := range ctx.Map.All("VirtualMachine") {
		if vm, ok := entity.(*simulator.VirtualMachine); ok {
			ctx.WithLock(vm, func() { list = append(list, describe(ctx, vm)) })
		}
	}
	slices.SortFunc(list, func(a, b machine) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func describe(ctx *simulator.Context, vm *simulator.VirtualMachine) machine {
	config := vm.Config
	m := machine{
		Name: config.Name, Hardware: config.Version, Guest: config.GuestId, CPUs: config.Hardware.NumCPU,
		MemoryMiB: config.Hardware.MemoryMB, Firmware: config.Firmware, Annotation: config.Annotation,
		Transports: []string{}, ExtraConfig: map[string]string{}, Products: []product{}, Properties: []property{},
		Networks: []network{}, Disks: []disk{},
	}
	if boot := config.BootOptions; boot != nil && boot.EfiSecureBootEnabled != nil {
		m.SecureBoot = *boot.EfiSecureBootEnabled
	}
	for _, option := range config.ExtraConfig {
		value := option.GetOptionValue()
		if value.Key != "govcsim" { // the simulator's own
			m.ExtraConfig[value.Key] = fmt.Sprint(value.Value)
		}
	}
	if config.VAppConfig != nil {
		app := config.VAppConfig.GetVmConfigInfo()
		m.Transports = append(m.Transports, app.OvfEnvironmentTransport...)
		for _, p := range app.Product {
			m.Products = append(m.Products, product{p.Name, p.Vendor, p.Version, p.FullVersion})
		}
		for _, p := range app.Property {
			m.Properties = append(m.Properties, property{
				Key: propertyKey(&p), Category: p.Category, Label: p.Label, Type: p.Type,
				Default: p.DefaultValue, Value: p.Value,
			})
		}
	}
	devices := object.VirtualDeviceList(config.Hardware.Device)
	for _, device := range devices {
		switch d := device.(type) {
		case *types.VirtualDisk:
			m.Disks = append(m.Disks, describeDisk(devices, d))
		case types.BaseVirtualEthernetCard:
			m.Networks = append(m.Networks, network{
				Adapter: object.VirtualDeviceList{}.TypeName(device),
				Network: networkName(ctx, device.GetVirtualDevice().Backing),
				Slot:    slot(device),
			})
		}
	}
	return m
}

func describeDisk(devices object.VirtualDeviceList, d *types.VirtualDisk) disk {
	shown := disk{Capacity: d.CapacityInBytes}
	if d.UnitNumber != nil {
		shown.Unit = *d.UnitNumber
	}
	if backing, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok && backing.ThinProvisioned != nil {
		shown.Thin = *backing.ThinProvisioned
	}
	if controller := devices.FindByKey(d.ControllerKey); controller != nil {
		shown.Controller = devices.TypeName(controller)
		shown.Slot = slot(controller)
	}
	return shown
}

func slot(device types.BaseVirtualDevice) int32 {
	if info, ok := device.GetVirtualDevice().SlotInfo.(*types.VirtualDevicePciBusSlotInfo); ok {
		return info.PciSlotNumber
	}
	return 0
}

func networkName(ctx *simulator.Context, backing types.BaseVirtualDeviceBackingInfo) string {
	switch b := backing.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		return b.DeviceName
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		for _, entity := range ctx.Map.All("DistributedVirtualPortgroup") {
			if group, ok := entity.(*simulator.DistributedVirtualPortgroup); ok && group.Key == b.Port.PortgroupKey {
				return group.Name
			}
		}
	}
	return ""
}
