package main

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// Resource types of hardware items, as in CIM_ResourceAllocationSettingData.
const (
	scsiController = 6
	networkCard    = 10
	diskDrive      = 17
)

// ovfManager makes import specifications as vCenter does. The simulator's are poor: no firmware, no extra
// configuration, no annotation, no transport, wrong categories, and every disk is thin.
type ovfManager struct {
	*simulator.OvfManager
	vc *vcenter
}

// CreateImportSpec is called by its name.
func (o *ovfManager) CreateImportSpec(ctx *simulator.Context, request *types.CreateImportSpec) (answer soap.HasFault) {
	defer func() {
		// The simulator dereferences what a descriptor may leave out. A panic would leave this object locked for ever.
		if reason := recover(); reason != nil {
			o.vc.complain("CreateImportSpec: the descriptor is beyond this simulator: %v", reason)
			fault := simulator.Fault(fmt.Sprint(reason), &types.SystemError{})
			answer = &methods.CreateImportSpecBody{Fault_: fault}
		}
	}()
	answer = o.OvfManager.CreateImportSpec(ctx, request)
	body, ok := answer.(*methods.CreateImportSpecBody)
	if !ok || body.Res == nil {
		return answer
	}
	result := &body.Res.Returnval
	envelope, err := ovf.Unmarshal(strings.NewReader(request.OvfDescriptor))
	if err == nil {
		err = o.complete(result, envelope, request.Cisp.GetOvfCreateImportSpecParams())
	}
	if err != nil {
		result.ImportSpec = nil
		result.Error = append(result.Error, types.LocalizedMethodFault{
			Fault:            &types.OvfInvalidPackage{},
			LocalizedMessage: err.Error(),
		})
	}
	for i := range result.FileItem {
		// What is no disk is created by its upload.
		item := &result.FileItem[i]
		item.Create = item.CimType != diskDrive
	}
	o.vc.expect(result.FileItem)
	return answer
}

// complete adds what the simulator left out.
func (o *ovfManager) complete(
	result *types.OvfCreateImportSpecResult, envelope *ovf.Envelope, params *types.OvfCreateImportSpecParams,
) error {
	spec, ok := result.ImportSpec.(*types.VirtualMachineImportSpec)
	if !ok || envelope.VirtualSystem == nil || len(envelope.VirtualSystem.VirtualHardware) == 0 {
		return nil
	}
	system, hardware := envelope.VirtualSystem, envelope.VirtualSystem.VirtualHardware[0]
	said, err := envelope.ToConfigSpecWithOptions(
		ovf.ToConfigSpecOptions{DeploymentConfiguration: params.DeploymentOption})
	if err != nil {
		return err
	}
	config := &spec.ConfigSpec
	config.Firmware, config.BootOptions = said.Firmware, said.BootOptions
	config.Flags, config.Tools, config.NestedHVEnabled = said.Flags, said.Tools, said.NestedHVEnabled
	config.CpuHotAddEnabled, config.MemoryHotAddEnabled = said.CpuHotAddEnabled, said.MemoryHotAddEnabled
	config.ExtraConfig = said.ExtraConfig // and not the properties, which the simulator puts there
	if system.Annotation != nil {
		config.Annotation = system.Annotation.Annotation
	}
	app := &types.VmConfigSpec{}
	if said.VAppConfig != nil {
		app = said.VAppConfig.GetVmConfigSpec()
	}
	if hardware.Transport != nil {
		app.OvfEnvironmentTransport = strings.Fields(*hardware.Transport)
	}
	config.VAppConfig = app

	o.setProperties(app, system, params.PropertyMapping)
	o.checkNetworks(envelope, params.NetworkMapping)
	o.checkRequired(hardware)
	if boot := config.BootOptions; boot != nil && boot.EfiSecureBootEnabled != nil && *boot.EfiSecureBootEnabled &&
		config.Firmware != string(types.GuestOsDescriptorFirmwareTypeEfi) {
		o.vc.complain("CreateImportSpec: Secure Boot without EFI firmware")
	}
	setProvisioning(config.DeviceChange, types.OvfCreateImportSpecParamsDiskProvisioningType(params.DiskProvisioning))
	return setSlots(config.DeviceChange, hardware.Item)
}

// setProperties gives properties their values. vCenter drops a key that it does not find, so that nobody notices.
func (o *ovfManager) setProperties(app *types.VmConfigSpec, system *ovf.VirtualSystem, mapping []types.KeyValue) {
	for _, product := range system.Product {
		if product.Class != nil && *product.Class == "" || product.Instance != nil && *product.Instance == "" {
			o.vc.complain("CreateImportSpec: an empty ovf:class or ovf:instance puts dots round the property keys")
		}
	}
	properties := map[string]*types.VAppPropertyInfo{}
	for _, property := range app.Property {
		properties[propertyKey(property.Info)] = property.Info
	}
	for _, pair := range mapping {
		if property := properties[pair.Key]; property != nil {
			property.Value = pair.Value
		} else {
			o.vc.complain("CreateImportSpec: no property has the key %q, its value is lost", pair.Key)
		}
	}
}

// propertyKey is the name under which the guest finds a property.
func propertyKey(property *types.VAppPropertyInfo) string {
	key := property.Id
	if property.ClassId != "" {
		key = property.ClassId + "." + key
	}
	if property.InstanceId != "" {
		key += "." + property.InstanceId
	}
	return key
}

func (o *ovfManager) checkNetworks(envelope *ovf.Envelope, mapping []types.OvfNetworkMapping) {
	names := map[string]bool{}
	if envelope.Network != nil {
		for _, network := range envelope.Network.Networks {
			names[network.Name] = true
		}
	}
	for _, pair := range mapping {
		if !names[pair.Name] {
			o.vc.complain("CreateImportSpec: the descriptor has no network %q to map", pair.Name)
		}
	}
}

// checkRequired looks for settings that hosts which do not know them must refuse.
func (o *ovfManager) checkRequired(hardware ovf.VirtualHardwareSection) {
	settings := append(append([]ovf.Config{}, hardware.Config...), hardware.ExtraConfig...)
	for _, item := range hardware.Item {
		settings = append(settings, item.Config...)
	}
	for _, setting := range settings {
		if setting.Required == nil || *setting.Required {
			o.vc.complain("CreateImportSpec: %s has no ovf:required=\"false\"", setting.Key)
		}
	}
}

func setProvisioning(
	changes []types.BaseVirtualDeviceConfigSpec, provisioning types.OvfCreateImportSpecParamsDiskProvisioningType,
) {
	for _, change := range changes {
		backing, ok := change.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().
			Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if ok {
			thin := provisioning == types.OvfCreateImportSpecParamsDiskProvisioningTypeThin
			eager := provisioning == types.OvfCreateImportSpecParamsDiskProvisioningTypeEagerZeroedThick
			backing.ThinProvisioned, backing.EagerlyScrub = &thin, &eager
		}
	}
}

// setSlots puts controllers and cards into the PCI slots that the descriptor names; these make names of interfaces.
// Devices of a kind come in the order of their items.
func setSlots(changes []types.BaseVirtualDeviceConfigSpec, items []ovf.ResourceAllocationSettingData) error {
	slots := map[ovf.CIMResourceType][]*types.VirtualDevicePciBusSlotInfo{}
	for _, item := range items {
		if item.ResourceType == nil {
			continue
		}
		var slot *types.VirtualDevicePciBusSlotInfo
		for _, setting := range item.Config {
			if setting.Key == "slotInfo.pciSlotNumber" {
				slot = &types.VirtualDevicePciBusSlotInfo{}
				if _, err := fmt.Sscan(setting.Value, &slot.PciSlotNumber); err != nil {
					return fmt.Errorf("the PCI slot %q of %s is no number", setting.Value, item.ElementName)
				}
			}
		}
		slots[*item.ResourceType] = append(slots[*item.ResourceType], slot)
	}
	for _, change := range changes {
		device := change.GetVirtualDeviceConfigSpec().Device
		var kind ovf.CIMResourceType
		switch device.(type) {
		case types.BaseVirtualSCSIController:
			kind = scsiController
		case types.BaseVirtualEthernetCard:
			kind = networkCard
		}
		if queue := slots[kind]; len(queue) > 0 {
			slots[kind] = queue[1:]
			if queue[0] != nil {
				device.GetVirtualDevice().SlotInfo = queue[0]
			}
		}
	}
	return nil
}
