package main

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// pool imports into a resource pool.
type pool struct {
	*simulator.ResourcePool
	vc *vcenter
}

// lease is an import under way. The simulator's never times out, keeps the virtual machine of an aborted import and
// takes uploads of any form.
type lease struct {
	mo.HttpNfcLease // first: what clients read is found there

	vc    *vcenter
	vm    *simulator.VirtualMachine
	files []*file
	timer *time.Timer
}

// ImportVApp is called by its name.
func (p *pool) ImportVApp(ctx *simulator.Context, request *types.ImportVApp) soap.HasFault {
	refuse := func(words string, fault types.BaseMethodFault) soap.HasFault {
		return &methods.ImportVAppBody{Fault_: simulator.Fault(words, fault)}
	}
	spec, ok := request.Spec.(*types.VirtualMachineImportSpec)
	if !ok {
		return refuse("not one virtual machine", &types.InvalidArgument{InvalidProperty: "spec"})
	}
	if request.Folder == nil {
		return refuse("no folder", &types.InvalidArgument{InvalidProperty: "folder"})
	}
	folder, ok := ctx.Map.Get(*request.Folder).(*simulator.Folder)
	if !ok {
		return refuse("no such folder", &types.ManagedObjectNotFound{Obj: *request.Folder})
	}
	if other := ctx.Map.FindByName(spec.ConfigSpec.Name, folder.ChildEntity); other != nil {
		return refuse(fmt.Sprintf("The name '%s' already exists.", spec.ConfigSpec.Name),
			&types.DuplicateName{Name: spec.ConfigSpec.Name, Object: other.Reference()})
	}

	l := &lease{vc: p.vc}
	l.Self.Type = "HttpNfcLease"
	l.State = types.HttpNfcLeaseStateInitializing
	l.Mode = string(types.HttpNfcLeaseModePushOrGet)
	ctx.Session.Put(l)
	simulator.CreateTask(p.ResourcePool, "ImportVAppLRO", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		fault := l.open(ctx, folder, &types.CreateVM_Task{
			This: folder.Self, Config: spec.ConfigSpec, Pool: p.Self, Host: request.Host,
		})
		if fault != nil {
			l.fail(ctx, fault)
			return nil, fault.Fault
		}
		return nil, nil
	}).Run(ctx)
	return &methods.ImportVAppBody{Res: &types.ImportVAppResponse{Returnval: l.Self}}
}

// open makes the virtual machine and says where its files are to be put.
func (l *lease) open(
	ctx *simulator.Context, folder *simulator.Folder, request *types.CreateVM_Task,
) *types.LocalizedMethodFault {
	said := &types.VmConfigSpec{}
	if request.Config.VAppConfig != nil {
		said = request.Config.VAppConfig.GetVmConfigSpec()
	}
	if fault := unsettable(said.Property); fault != nil {
		return fault
	}
	created, ok := folder.CreateVMTask(ctx, request).(*methods.CreateVM_TaskBody)
	if !ok || created.Res == nil {
		return systemError("CreateVM_Task gave no task")
	}
	task, ok := ctx.Map.Get(created.Res.Returnval).(*simulator.Task)
	if !ok {
		return systemError("the task of CreateVM_Task is gone")
	}
	task.Wait()
	if task.Info.Error != nil {
		return task.Info.Error
	}
	made, _ := task.Info.Result.(types.ManagedObjectReference)
	if l.vm, ok = ctx.Map.Get(made).(*simulator.VirtualMachine); !ok {
		return systemError("CreateVM_Task made no virtual machine")
	}
	var devices object.VirtualDeviceList
	ctx.WithLock(l.vm, func() {
		if l.vm.Config.VAppConfig == nil {
			l.vm.Config.VAppConfig = &types.VmConfigInfo{}
		}
		// The simulator takes properties and products only.
		l.vm.Config.VAppConfig.GetVmConfigInfo().OvfEnvironmentTransport = said.OvfEnvironmentTransport
		devices = object.VirtualDeviceList(l.vm.Config.Hardware.Device)
	})
	l.expectFiles(devices)

	info := &types.HttpNfcLeaseInfo{
		Lease: l.Self, Entity: l.vm.Self, LeaseTimeout: int32(l.vc.leaseTimeout / time.Second),
	}
	token := uuid.NewString()
	for _, f := range l.files {
		where := path.Join("/nfc", token, f.target)
		l.vc.host.open(where, f)
		info.TotalDiskCapacityInKB += f.capacity / 1024
		isDisk := !f.item.Create
		info.DeviceUrl = append(info.DeviceUrl, types.HttpNfcLeaseDeviceUrl{
			Key: f.key, ImportKey: f.item.DeviceId, Url: l.vc.host.url + where,
			SslThumbprint: l.vc.host.thumbprint, Disk: &isDisk, TargetId: f.target,
		})
	}
	ctx.WithLock(l, func() {
		l.timer = time.AfterFunc(l.vc.leaseTimeout, l.expire)
		ctx.Update(l, []types.PropertyChange{
			{Name: "info", Val: info},
			{Name: "state", Val: types.HttpNfcLeaseStateReady},
		})
	})
	return nil
}

// expectFiles finds the devices whose files the import specification asked for.
func (l *lease) expectFiles(devices object.VirtualDeviceList) {
	count := map[string]int{}
	for _, device := range devices {
		backing, ok := device.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo)
		if !ok {
			continue
		}
		kind := devices.Type(device)
		number := count[kind]
		count[kind]++
		item, ok := l.vc.expected(fmt.Sprintf("/%s/%s:%d", l.vm.Name, kind, number))
		if !ok {
			continue // blank
		}
		var place object.DatastorePath
		place.FromString(backing.GetVirtualDeviceFileBackingInfo().FileName)
		f := &file{
			vm: l.vm.Name, target: path.Base(place.Path), item: item,
			key: fmt.Sprintf("/%s/%s:%d", l.vm.Self.Value, kind, number),
		}
		if disk, ok := device.(*types.VirtualDisk); ok {
			f.capacity = disk.CapacityInBytes
		}
		l.files = append(l.files, f)
	}
}

// unsettable is the fault of a value for a property that users must not set.
func unsettable(properties []types.VAppPropertySpec) *types.LocalizedMethodFault {
	for _, property := range properties {
		p := property.Info
		settable := p.UserConfigurable != nil && *p.UserConfigurable
		if settable || p.Value == "" || p.Value == p.DefaultValue {
			continue
		}
		return &types.LocalizedMethodFault{
			Fault: &types.NotUserConfigurableProperty{VAppPropertyFault: types.VAppPropertyFault{
				Id: p.Id, Category: p.Category, Label: p.Label, Type: p.Type, Value: p.Value,
			}},
			LocalizedMessage: fmt.Sprintf("Property '%s' is not user configurable.", propertyKey(p)),
		}
	}
	return nil
}

func systemError(words string) *types.LocalizedMethodFault {
	return &types.LocalizedMethodFault{Fault: &types.SystemError{}, LocalizedMessage: words}
}

// fail ends the lease with an error.
func (l *lease) fail(ctx *simulator.Context, fault *types.LocalizedMethodFault) {
	ctx.WithLock(l, func() {
		ctx.Update(l, []types.PropertyChange{
			{Name: "error", Val: fault},
			{Name: "state", Val: types.HttpNfcLeaseStateError},
		})
	})
}

// expire ends an import that has not moved for too long.
func (l *lease) expire() {
	ctx := l.vc.internal()
	ctx.WithLock(l, func() {
		if l.State != types.HttpNfcLeaseStateReady {
			return
		}
		l.vc.complain("the import of %s timed out: no progress for %s", l.vm.Name, l.vc.leaseTimeout)
		l.fail(ctx, &types.LocalizedMethodFault{Fault: &types.Timedout{}, LocalizedMessage: "The lease timed out."})
		l.undo(ctx)
	})
}

// undo removes what was made.
func (l *lease) undo(ctx *simulator.Context) {
	l.closeFiles()
	body, ok := l.vm.DestroyTask(ctx, &types.Destroy_Task{This: l.vm.Self}).(*methods.Destroy_TaskBody)
	if !ok || body.Res == nil {
		return
	}
	if task, ok := ctx.Map.Get(body.Res.Returnval).(*simulator.Task); ok {
		task.Wait()
	}
}

func (l *lease) closeFiles() {
	l.timer.Stop()
	for _, f := range l.files {
		l.vc.host.close(f)
	}
}

// over is the fault of a call to a lease that is not ready, or nil.
func (l *lease) over() *soap.Fault {
	switch {
	case l.State == types.HttpNfcLeaseStateReady:
		return nil
	case l.Error != nil:
		return simulator.Fault(l.Error.LocalizedMessage, l.Error.Fault)
	default:
		return simulator.Fault(fmt.Sprintf("the lease is %s", l.State), &types.InvalidState{})
	}
}

// HttpNfcLeaseProgress is called by its name. It is what keeps a lease.
func (l *lease) HttpNfcLeaseProgress(_ *simulator.Context, request *types.HttpNfcLeaseProgress) soap.HasFault {
	if fault := l.over(); fault != nil {
		return &methods.HttpNfcLeaseProgressBody{Fault_: fault}
	}
	if request.Percent < 0 || request.Percent > 100 {
		fault := simulator.Fault("not from 0 to 100", &types.InvalidArgument{InvalidProperty: "percent"})
		return &methods.HttpNfcLeaseProgressBody{Fault_: fault}
	}
	l.timer.Reset(l.vc.leaseTimeout)
	l.TransferProgress = request.Percent
	return &methods.HttpNfcLeaseProgressBody{Res: &types.HttpNfcLeaseProgressResponse{}}
}

// HttpNfcLeaseGetManifest is called by its name.
func (l *lease) HttpNfcLeaseGetManifest(*simulator.Context, *types.HttpNfcLeaseGetManifest) soap.HasFault {
	if fault := l.over(); fault != nil {
		return &methods.HttpNfcLeaseGetManifestBody{Fault_: fault}
	}
	answer := &types.HttpNfcLeaseGetManifestResponse{}
	for _, f := range l.files {
		if content, ok := l.vc.host.content(f); ok {
			answer.Returnval = append(answer.Returnval, types.HttpNfcLeaseManifestEntry{
				Key: f.key, Sha1: content.sha1, Checksum: content.sha256, ChecksumType: "sha256",
				Size: content.size, Disk: !f.item.Create, Capacity: f.capacity,
			})
		}
	}
	return &methods.HttpNfcLeaseGetManifestBody{Res: answer}
}

// HttpNfcLeaseComplete is called by its name.
func (l *lease) HttpNfcLeaseComplete(ctx *simulator.Context, _ *types.HttpNfcLeaseComplete) soap.HasFault {
	if fault := l.over(); fault != nil {
		return &methods.HttpNfcLeaseCompleteBody{Fault_: fault}
	}
	var missing []string
	for _, f := range l.files {
		if _, ok := l.vc.host.content(f); !ok {
			missing = append(missing, f.target)
		}
	}
	if len(missing) > 0 {
		words := "the import is not complete without " + strings.Join(missing, ", ")
		l.vc.complain("HttpNfcLeaseComplete: %s", words)
		return &methods.HttpNfcLeaseCompleteBody{Fault_: simulator.Fault(words, &types.InvalidState{})}
	}
	l.closeFiles()
	ctx.Update(l, []types.PropertyChange{{Name: "state", Val: types.HttpNfcLeaseStateDone}})
	return &methods.HttpNfcLeaseCompleteBody{Res: &types.HttpNfcLeaseCompleteResponse{}}
}

// HttpNfcLeaseAbort is called by its name. The virtual machine goes with the import.
func (l *lease) HttpNfcLeaseAbort(ctx *simulator.Context, request *types.HttpNfcLeaseAbort) soap.HasFault {
	if fault := l.over(); fault != nil {
		return &methods.HttpNfcLeaseAbortBody{Fault_: fault}
	}
	fault := request.Fault
	if fault == nil {
		fault = &types.LocalizedMethodFault{Fault: &types.RequestCanceled{}, LocalizedMessage: "The import was aborted."}
	}
	l.fail(ctx, fault)
	l.undo(ctx)
	return &methods.HttpNfcLeaseAbortBody{Res: &types.HttpNfcLeaseAbortResponse{}}
}
