package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// descriptor is a small virtual machine with a disk of 1 MiB, of which the parts given are replaced.
func descriptor(replace ...string) string {
	const whole = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
  xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References><File ovf:id="file1" ovf:href="small.vmdk" ovf:size="1536"/></References>
  <DiskSection><Info/><Disk ovf:diskId="disk1" ovf:fileRef="file1" ovf:capacity="1048576" ovf:capacityAllocationUnits="byte"/></DiskSection>
  <NetworkSection><Info/><Network ovf:name="outside"/></NetworkSection>
  <VirtualSystem ovf:id="small"><Info/>
    <VirtualHardwareSection ovf:transport="com.vmware.guestInfo iso"><Info/>
      <System><vssd:ElementName>family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-15</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
      <Item><rasd:ElementName>memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>scsi</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:Connection>outside</rasd:Connection><rasd:ElementName>card</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
        <vmw:Config ovf:required="false" vmw:key="slotInfo.pciSlotNumber" vmw:value="192"/></Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
      <vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>
      <vmw:ExtraConfig ovf:required="false" vmw:key="disk.enableUUID" vmw:value="TRUE"/>
    </VirtualHardwareSection>
    <ProductSection><Info/><Product>Small</Product>
      <Category>First</Category>
      <Property ovf:key="name" ovf:type="string" ovf:value="nobody" ovf:userConfigurable="true"/>
      <Category>Second</Category>
      <Property ovf:key="fixed" ovf:type="string" ovf:value="1" ovf:userConfigurable="false"/>
    </ProductSection>
    <AnnotationSection><Info/><Annotation>Words</Annotation></AnnotationSection>
  </VirtualSystem>
</Envelope>`
	return strings.NewReplacer(replace...).Replace(whole)
}

// bench is a vCenter and a client of it.
type bench struct {
	*testing.T
	vc     *vcenter
	ctx    context.Context
	client *vim25.Client
	pool   *object.ResourcePool
	folder *object.Folder
	store  *object.Datastore
	group  object.NetworkReference
}

func newBench(t *testing.T, timeout time.Duration) *bench {
	t.Setenv("TMPDIR", t.TempDir())
	vc, err := start(timeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(vc.close)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	b := &bench{T: t, vc: vc, ctx: ctx}
	client := must(b.login(vc.access.Password))(t)
	t.Cleanup(func() { _ = client.Logout(context.Background()) })
	finder := find.NewFinder(client.Client)
	finder.SetDatacenter(must(finder.DefaultDatacenter(ctx))(t))
	b.client = client.Client
	b.pool = must(finder.DefaultResourcePool(ctx))(t)
	b.folder = must(finder.DefaultFolder(ctx))(t)
	b.store = must(finder.DefaultDatastore(ctx))(t)
	b.group = must(finder.Network(ctx, "DC0_DVPG0"))(t)
	return b
}

// must ends the test where there is an error.
func must[V any](value V, err error) func(*testing.T) V {
	return func(t *testing.T) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func (b *bench) login(password string) (*govmomi.Client, error) {
	address, err := url.Parse(b.vc.access.URL)
	if err != nil {
		return nil, err
	}
	transport := soap.NewClient(address, false)
	if err := transport.SetRootCAs(b.vc.access.Certificate); err != nil {
		return nil, err
	}
	client, err := vim25.NewClient(b.ctx, transport)
	if err != nil {
		return nil, err
	}
	full := &govmomi.Client{Client: client, SessionManager: session.NewManager(client)}
	return full, full.Login(b.ctx, url.UserPassword(b.vc.access.User, password))
}

func (b *bench) spec(descriptor string, properties ...types.KeyValue) (*types.OvfCreateImportSpecResult, error) {
	return ovf.NewManager(b.client).CreateImportSpec(b.ctx, descriptor, b.pool, b.store, &types.OvfCreateImportSpecParams{
		EntityName:       "small",
		DiskProvisioning: string(types.OvfCreateImportSpecParamsDiskProvisioningTypeThin),
		PropertyMapping:  properties,
		NetworkMapping:   []types.OvfNetworkMapping{{Name: "outside", Network: b.group.Reference()}},
	})
}

// lease begins an import, to the point where the uploads are due.
func (b *bench) lease(spec *types.OvfCreateImportSpecResult) (*nfc.Lease, *nfc.LeaseInfo) {
	b.Helper()
	if len(spec.Error) > 0 {
		b.Fatal(spec.Error[0].LocalizedMessage)
	}
	lease := must(b.pool.ImportVApp(b.ctx, spec.ImportSpec, b.folder, nil))(b.T)
	return lease, must(lease.Wait(b.ctx, spec.FileItem))(b.T)
}

func (b *bench) begin() (*nfc.Lease, *nfc.LeaseInfo) {
	b.Helper()
	return b.lease(must(b.spec(descriptor()))(b.T))
}

// send makes a request of the host, as bad as the test wants it.
func (b *bench) send(method string, info *nfc.LeaseInfo, body io.Reader, change func(*http.Request)) int {
	b.Helper()
	request := must(http.NewRequestWithContext(b.ctx, method, info.DeviceUrl[0].Url, body))(b.T)
	request.Header.Set("Content-Type", diskContentType)
	if change != nil {
		change(request)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// complained fails where the complaints are not as many as the words, each with its words.
func (b *bench) complained(words ...string) {
	b.Helper()
	found := b.vc.allComplaints()
	matches := len(found) == len(words)
	for i := 0; matches && i < len(words); i++ {
		matches = strings.Contains(found[i], words[i])
	}
	if !matches {
		b.Fatalf("complaints are %q, want %q", found, words)
	}
}

func (b *bench) eventually(what string, so func() bool) {
	b.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("no %s", what)
		}
	}
}

func (b *bench) isEmpty() {
	b.Helper()
	if left := b.vc.machines(); len(left) > 0 {
		b.Fatalf("%s is left", left[0].Name)
	}
}

func TestAnImportKeepsWhatItSays(t *testing.T) {
	b := newBench(t, time.Minute)
	lease, info := b.lease(must(b.spec(descriptor(), types.KeyValue{Key: "name", Value: "somebody"}))(t))
	vmdk := smallVMDK(2048)
	updater := lease.StartUpdater(b.ctx, info)
	defer updater.Done()
	if err := lease.Upload(b.ctx, info.Items[0], bytes.NewReader(vmdk), soap.Upload{ContentLength: int64(len(vmdk))}); err != nil {
		t.Fatal(err)
	}
	manifest := must(lease.GetManifest(b.ctx))(t)
	if len(manifest) != 1 || manifest[0].Key != info.DeviceUrl[0].Key || manifest[0].Size != 1536 || manifest[0].ChecksumType != "sha256" {
		t.Errorf("the manifest is %+v", manifest)
	}
	if err := lease.Complete(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.complained()

	want := machine{
		Name: "small", Hardware: "vmx-15", Guest: "otherGuest", CPUs: 2, MemoryMiB: 64, Firmware: "efi", SecureBoot: true,
		Annotation: "Words", Transports: []string{"com.vmware.guestInfo", "iso"},
		ExtraConfig: map[string]string{"disk.enableUUID": "TRUE"},
		Products:    []product{{Name: "Small"}},
		Properties: []property{
			{Key: "name", Category: "First", Type: "string", Default: "nobody", Value: "somebody"},
			{Key: "fixed", Category: "Second", Type: "string", Default: "1"},
		},
		Networks: []network{{Adapter: "VirtualVmxnet3", Network: "DC0_DVPG0", Slot: 192}},
		Disks:    []disk{{Capacity: 1 << 20, Controller: "ParaVirtualSCSIController", Thin: true}},
	}
	if got, want := fmt.Sprintf("%+v", b.vc.machines()), fmt.Sprintf("%+v", []machine{want}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	uploads := b.vc.allUploads()
	if len(uploads) != 1 || uploads[0].Status != http.StatusCreated || uploads[0].SHA256 != manifest[0].Checksum {
		t.Fatalf("the uploads are %+v", uploads)
	}
	if kept := must(os.ReadFile(uploads[0].Path))(t); !bytes.Equal(kept, vmdk) {
		t.Error("the bytes kept are others")
	}
	if calls := b.vc.allCalls(); calls["ImportVApp"] != 1 || calls["HttpNfcLeaseComplete"] != 1 {
		t.Errorf("the calls are %v", calls)
	}
}

func TestUploadsAreJudged(t *testing.T) {
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	for _, test := range []struct {
		name, method string
		size         int
		change       func(*http.Request)
		status       int
		words        []string
	}{
		{"good", "POST", 1536, nil, 201, nil},
		{"wrong method", "PUT", 1536, nil, 405, []string{"method PUT, not POST"}},
		{"HEAD", "HEAD", 0, nil, 405, []string{"method HEAD", "no Content-Length"}},
		{"DELETE", "DELETE", 0, nil, 405, []string{"method DELETE", "no Content-Length"}},
		{"chunked", "POST", 1536, chunked, 411, []string{"transfer encoding [chunked]"}},
		{"nothing", "POST", 0, nil, 500, []string{"Content-Length 0", "no header"}},
		{"other size", "POST", 2048, nil, 201, []string{"Content-Length 2048, the descriptor says 1536"}},
		{"content type", "POST", 1536, func(r *http.Request) { r.Header.Del("Content-Type") }, 201, []string{"content type"}},
		{"cookie", "POST", 1536, func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: soap.SessionCookieName, Value: "secret"})
		}, 201, []string{"session cookie"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, time.Minute)
			_, info := b.begin()
			vmdk := append(smallVMDK(2048), make([]byte, 2*sector)...)[:test.size]
			if status := b.send(test.method, info, bytes.NewReader(vmdk), test.change); status != test.status {
				t.Errorf("the status is %d, want %d", status, test.status)
			}
			b.complained(test.words...)
		})
	}
}

func TestAFileIsCreatedByPut(t *testing.T) {
	item := types.OvfFileItem{Create: true, Size: 3}
	request := must(http.NewRequest("PUT", "/", strings.NewReader("iso")))(t)
	request.Header.Set("Content-Length", "3")
	if found := judge(request, item); len(found) != 1 || !strings.Contains(found[0].words, "Overwrite") {
		t.Errorf("%v", found)
	}
	request.Header.Set("Overwrite", "t")
	if found := judge(request, item); len(found) != 0 {
		t.Errorf("%v", found)
	}
}

func TestABrokenUploadIsNone(t *testing.T) {
	b := newBench(t, time.Minute)
	lease, info := b.begin()
	reader, writer := io.Pipe()
	go func() {
		_, _ = writer.Write(make([]byte, sector))
		_ = writer.CloseWithError(io.ErrClosedPipe)
	}()
	b.send("POST", info, reader, func(r *http.Request) { r.ContentLength = 1536 })
	b.eventually("complaint", func() bool { return len(b.vc.allComplaints()) > 0 })
	if err := lease.Complete(b.ctx); err == nil {
		t.Error("an import without its disk was completed")
	}
	b.complained("broke off after 512 of 1536 bytes", "not complete without disk-0.vmdk")
}

// Also with the race detector.
func TestParallelUploadsAreNoRace(t *testing.T) {
	b := newBench(t, time.Minute)
	_, info := b.begin()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			status := b.send("POST", info, bytes.NewReader(smallVMDK(2048)), nil)
			if status != http.StatusCreated && status != http.StatusConflict {
				t.Errorf("the status is %d", status)
			}
		})
	}
	all.Wait()
}

func TestAnAbortedImportLeavesNothing(t *testing.T) {
	b := newBench(t, time.Minute)
	lease, info := b.begin()
	if len(b.vc.machines()) != 1 {
		t.Fatal("the virtual machine comes with the lease")
	}
	if err := lease.Abort(b.ctx, nil); err != nil {
		t.Fatal(err)
	}
	b.isEmpty()
	if status := b.send("POST", info, bytes.NewReader(smallVMDK(2048)), nil); status != http.StatusNotFound {
		t.Errorf("the URL is still open: %d", status)
	}
	if lease.Complete(b.ctx) == nil || lease.Progress(b.ctx, 100) == nil {
		t.Error("the lease is still good")
	}
	b.complained("closed or busy")
	b.begin() // and the name is free
}

func TestALeaseWithoutProgressTimesOut(t *testing.T) {
	b := newBench(t, 2500*time.Millisecond)
	lease, _ := b.begin()
	for range 6 {
		time.Sleep(500 * time.Millisecond)
		if err := lease.Progress(b.ctx, 1); err != nil {
			t.Fatal(err)
		}
	}
	b.eventually("end", func() bool { return len(b.vc.machines()) == 0 })
	if err := lease.Progress(b.ctx, 1); !fault.Is(err, &types.Timedout{}) {
		t.Errorf("the error is %v", err)
	}
	if now := must(lease.Properties(b.ctx))(t); now.State != types.HttpNfcLeaseStateError {
		t.Errorf("the state is %s", now.State)
	}
	b.complained("timed out")
}

func TestANameIsTakenOnce(t *testing.T) {
	b := newBench(t, time.Minute)
	b.begin()
	spec := must(b.spec(descriptor()))(t)
	if _, err := b.pool.ImportVApp(b.ctx, spec.ImportSpec, b.folder, nil); !fault.Is(err, &types.DuplicateName{}) {
		t.Errorf("the error is %v", err)
	}
}

func TestWhatGetsLostIsComplainedAbout(t *testing.T) {
	for _, test := range []struct {
		name    string
		replace []string
		key     string
		words   []string
	}{
		{"no such property", nil, "nmae", []string{`no property has the key "nmae"`}},
		{"no such network", []string{`ovf:name="outside"`, `ovf:name="inside"`}, "name", []string{`no network "outside"`}},
		{"required", []string{`<vmw:ExtraConfig ovf:required="false"`, `<vmw:ExtraConfig`}, "name", []string{"disk.enableUUID has no"}},
		{"empty class", []string{`<ProductSection>`, `<ProductSection ovf:class="">`}, "name", []string{"empty ovf:class"}},
		{"no EFI", []string{`"efi"`, `"bios"`}, "name", []string{"Secure Boot without EFI"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, time.Minute)
			must(b.spec(descriptor(test.replace...), types.KeyValue{Key: test.key, Value: "x"}))(t)
			b.complained(test.words...)
		})
	}
}

func TestAFixedPropertyCannotBeSet(t *testing.T) {
	b := newBench(t, time.Minute)
	spec := must(b.spec(descriptor(), types.KeyValue{Key: "fixed", Value: "2"}))(t)
	lease := must(b.pool.ImportVApp(b.ctx, spec.ImportSpec, b.folder, nil))(t)
	if _, err := lease.Wait(b.ctx, spec.FileItem); !fault.Is(err, &types.NotUserConfigurableProperty{}) {
		t.Errorf("the error is %v", err)
	}
	b.isEmpty()
}

// What ends the simulator, or hangs it.
func TestItDoesNotDie(t *testing.T) {
	b := newBench(t, time.Minute)
	if _, err := b.spec(descriptor(`ovf:fileRef="file1" `, "")); err == nil {
		t.Error("a disk without a file is not beyond the simulator any more")
	}
	if _, err := b.spec("<Envelope"); err == nil {
		t.Error("that is no descriptor")
	}
	spec := must(b.spec(descriptor()))(t)
	config := &spec.ImportSpec.(*types.VirtualMachineImportSpec).ConfigSpec
	good := slices.Clone(config.ExtraConfig)
	config.ExtraConfig = append(config.ExtraConfig, &types.OptionValue{Key: "SET.no.such.thing", Value: "x"})
	if _, err := b.pool.ImportVApp(b.ctx, spec.ImportSpec, b.folder, nil); err == nil {
		t.Error("an order to the simulator was taken")
	}
	config.ExtraConfig = good
	for _, method := range []string{"HEAD", "DELETE"} {
		request := must(http.NewRequest(method, strings.TrimSuffix(b.vc.access.URL, "sdk")+"nfc/a/b", nil))(t)
		response := must(b.client.Client.Client.Do(request))(t)
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: the status is %d", method, response.StatusCode)
		}
		_ = response.Body.Close()
	}
	b.lease(spec)
}

func TestOnlyTheUserGetsIn(t *testing.T) {
	b := newBench(t, time.Minute)
	if _, err := b.login("wrong"); !fault.Is(err, &types.InvalidLogin{}) {
		t.Errorf("the error is %v", err)
	}
	address := must(url.Parse(b.vc.access.URL))(t)
	stranger := must(vim25.NewClient(b.ctx, soap.NewClient(address, true)))(t)
	_, err := methods.CreateImportSpec(b.ctx, stranger, &types.CreateImportSpec{
		This: *stranger.ServiceContent.OvfManager, Cisp: &types.OvfCreateImportSpecParams{},
	})
	if !fault.Is(err, &types.NotAuthenticated{}) {
		t.Errorf("the error is %v", err)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	vc, err := start(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	vc.close()
	if left := must(os.ReadDir(folder))(t); len(left) > 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}
