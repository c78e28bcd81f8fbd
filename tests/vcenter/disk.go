package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Of a VMDK's header, in little-endian numbers.
const (
	sector         = 512
	vmdkMagic      = "KDMV"
	versionOffset  = 4
	flagsOffset    = 8
	capacityOffset = 12
	streamFlags    = 1<<16 | 1<<17 // compressed grains, markers
	oldestVersion  = 3             // that hosts of today take
)

// checkDisk looks at what hosts are known to refuse in a stream-optimised VMDK: its header, its capacity against that
// of the disk it fills (bytes), and its end.
func checkDisk(file io.ReaderAt, size, capacity int64) error {
	header := make([]byte, sector)
	if _, err := file.ReadAt(header, 0); err != nil {
		return fmt.Errorf("the VMDK has no header: %w", err)
	}
	if string(header[:len(vmdkMagic)]) != vmdkMagic {
		return errors.New("the upload is no VMDK")
	}
	if version := binary.LittleEndian.Uint32(header[versionOffset:]); version < oldestVersion {
		return fmt.Errorf("the VMDK has version %d, at least %d is wanted", version, oldestVersion)
	}
	if flags := binary.LittleEndian.Uint32(header[flagsOffset:]); flags&streamFlags != streamFlags {
		return fmt.Errorf("the VMDK has flags %#x: it is not stream-optimised", flags)
	}
	if sectors := binary.LittleEndian.Uint64(header[capacityOffset:]); sectors > uint64(capacity)/sector {
		return fmt.Errorf("the VMDK has %d sectors, its disk only %d", sectors, capacity/sector)
	}
	if size%sector != 0 {
		return fmt.Errorf("the VMDK has %d bytes, which are no whole sectors", size)
	}
	end := make([]byte, sector)
	if _, err := file.ReadAt(end, size-sector); err != nil {
		return fmt.Errorf("the VMDK has no end: %w", err)
	}
	for _, b := range end {
		if b != 0 {
			return errors.New("the VMDK does not end with its end-of-stream marker")
		}
	}
	return nil
}
