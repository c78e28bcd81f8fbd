"""Imports an OVA as an administrator's script does, with pyVmomi.

Standard input is a JSON object: url, user, password and certificate of the vCenter, the path of the ova, the name of the
virtual machine, provisioning, and networks and properties by name. Standard output is the id of the virtual machine.
"""

import hashlib
import http.client
import json
import re
import ssl
import sys
import tarfile
import time
import urllib.parse

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

PROGRESS_INTERVAL = 2  # seconds; a lease without progress ends


class Reported:
    """A file that tells the lease how much of it was read."""

    def __init__(self, file, size, lease):
        self.file, self.size, self.lease = file, size, lease
        self.read_bytes, self.last = 0, 0.0

    def read(self, count):
        if time.monotonic() - self.last > PROGRESS_INTERVAL:
            self.lease.HttpNfcLeaseProgress(100 * self.read_bytes // self.size)
            self.last = time.monotonic()
        block = self.file.read(count)
        self.read_bytes += len(block)
        return block


def upload(device, file, size, lease):
    """Sends a disk to its host, whose certificate is pinned by the lease."""
    url = urllib.parse.urlsplit(device.url)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, blocksize=1 << 20)
    connection.connect()
    thumbprint = hashlib.sha1(connection.sock.getpeercert(binary_form=True)).hexdigest()
    if thumbprint.upper() != device.sslThumbprint.replace(":", ""):
        raise RuntimeError(f"{url.hostname} has another certificate than the lease says")
    connection.request(
        "POST",
        url.path,
        Reported(file, size, lease),
        {"Content-Length": str(size), "Content-Type": "application/x-vnd.vmware-streamVmdk"},
    )
    response = connection.getresponse()
    if response.status not in (200, 201):
        raise RuntimeError(f"the host answers {response.status} {response.reason}")
    connection.close()


def check(lease, device, digest):
    """Compares what has come with what the OVA's manifest says."""
    entry = next(entry for entry in lease.HttpNfcLeaseGetManifest() if entry.key == device.key)
    if entry.checksumType.lower() != "sha256" or entry.checksum != digest:
        raise RuntimeError(f"the host has {entry.checksumType} {entry.checksum}, not {digest}")


def import_ova(content, order):
    datacenter = content.rootFolder.childEntity[0]
    cluster = datacenter.hostFolder.childEntity[0]
    networks = {network.name: network for network in cluster.network}
    archive = tarfile.open(order["ova"])
    members = {member.name: member for member in archive}
    name = next(name for name in members if name.endswith(".ovf"))
    descriptor = archive.extractfile(name).read().decode()
    manifest = archive.extractfile(name.removesuffix(".ovf") + ".mf").read().decode()
    digests = dict(re.findall(r"^SHA256\((.+)\)= ([0-9a-f]{64})$", manifest, re.MULTILINE))
    if digests[name] != hashlib.sha256(descriptor.encode()).hexdigest():
        raise RuntimeError("the descriptor is not the manifest's")

    params = vim.OvfManager.CreateImportSpecParams(
        locale="",
        deploymentOption="",
        entityName=order["name"],
        diskProvisioning=order["provisioning"],
        networkMapping=[
            vim.OvfManager.NetworkMapping(name=inner, network=networks[outer])
            for inner, outer in order["networks"].items()
        ],
        propertyMapping=[vim.KeyValue(key=key, value=value) for key, value in order["properties"].items()],
    )
    result = content.ovfManager.CreateImportSpec(descriptor, cluster.resourcePool, cluster.datastore[0], params)
    if result.error or result.warning:
        raise RuntimeError(f"the descriptor is not taken as it is: {result.error} {result.warning}")
    lease = cluster.resourcePool.ImportVApp(result.importSpec, datacenter.vmFolder)
    while lease.state == vim.HttpNfcLease.State.initializing:
        time.sleep(0.05)
    if lease.state != vim.HttpNfcLease.State.ready:
        raise RuntimeError(f"the lease is {lease.state}: {lease.error}")
    try:
        devices = {device.importKey: device for device in lease.info.deviceUrl}
        for item in result.fileItem:
            device = devices[item.deviceId]
            upload(device, archive.extractfile(item.path), members[item.path].size, lease)
            check(lease, device, digests[item.path])
        machine = lease.info.entity
        lease.HttpNfcLeaseComplete()
    except Exception:
        lease.HttpNfcLeaseAbort()
        raise
    return machine._GetMoId()


def main():
    order = json.load(sys.stdin)
    url = urllib.parse.urlsplit(order["url"])
    service = SmartConnect(
        host=url.hostname,
        port=url.port,
        user=order["user"],
        pwd=order["password"],
        sslContext=ssl.create_default_context(cafile=order["certificate"]),
    )
    try:
        print(import_ova(service.RetrieveContent(), order))
    finally:
        Disconnect(service)


main()
