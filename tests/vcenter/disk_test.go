package main

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// smallVMDK has a header, a sector of something, and an end: as much as is looked at. Capacity in sectors.
func smallVMDK(capacity uint64) []byte {
	vmdk := make([]byte, 3*sector)
	copy(vmdk, vmdkMagic)
	binary.LittleEndian.PutUint32(vmdk[versionOffset:], oldestVersion)
	binary.LittleEndian.PutUint32(vmdk[flagsOffset:], streamFlags|1)
	binary.LittleEndian.PutUint64(vmdk[capacityOffset:], capacity)
	vmdk[sector] = 1
	return vmdk
}

func TestDisksAreLookedInto(t *testing.T) {
	for _, test := range []struct {
		name, words string
		spoil       func([]byte) []byte
	}{
		{"good", "", func(vmdk []byte) []byte { return vmdk }},
		{"empty", "no header", func([]byte) []byte { return nil }},
		{"raw", "no VMDK", func(vmdk []byte) []byte { vmdk[0] = 0; return vmdk }},
		{"old", "version 1", func(vmdk []byte) []byte { vmdk[versionOffset] = 1; return vmdk }},
		{"sparse", "not stream-optimised", func(vmdk []byte) []byte { vmdk[flagsOffset+2] = 0; return vmdk }},
		{"large", "2049 sectors", func(vmdk []byte) []byte { return smallVMDK(2049) }},
		{"long", "no whole sectors", func(vmdk []byte) []byte { return append(vmdk, 0) }},
		{"cut", "end-of-stream", func(vmdk []byte) []byte { return vmdk[:2*sector] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			vmdk := test.spoil(smallVMDK(2048))
			err := checkDisk(bytes.NewReader(vmdk), int64(len(vmdk)), 1<<20)
			if got := errorText(err); !strings.Contains(got, test.words) || (test.words == "") != (err == nil) {
				t.Errorf("got %q, want %q", got, test.words)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
