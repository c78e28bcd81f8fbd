//! A harness that boots what ships, in two kinds of hosts: the image's tree as a *system container* (real systemd in
//! about a second, for the many cases) and the image's disk in *QEMU* (firmware, kernel, partitions, for what a container
//! cannot show). Both stand in networks of the harness's own; the machine that runs the tests gets no address, no mount
//! and no process that outlives them.
//!
//! | module | is |
//! |---|---|
//! | [`prerequisites`] | what a test needs, and the loud line when it is not there |
//! | [`image`] | the build under test: its tree, kernel and disk |
//! | [`fabric`] | network namespaces, bridges, DHCP and DNS, ports that can be unplugged |
//! | [`container`] | a tree booted as a system container |
//! | [`qemu`] | a disk booted as a virtual machine |
//! | [`ssh`] | what an administrator's SSH client sees |
//! | [`ovfenv`] | OVF environment documents as the various platforms write them |
//! | [`status`] | what `gatewright-firstboot status --json` says |
//! | [`run`] | names, scratch folders, slots, and the sweeping of what a killed run left |
//! | [`bench`] | boot to SSH, for `make bench` |
//! | [`host`] | a container with the daemon in it, and what is asked of it |
//! | [`vcenter`] | a vCenter to import into, and the clients that import |
//! | [`project`] | a copy of the project, to build from |
//! | [`oci_layout`] | container images to put there |
//! | [`registry`] | a container registry to push to, and the clients that read it |
//! | [`kubernetes`] | a Kubernetes node in a container |
//! | [`cases`] | many cases of one test, several at a time |

pub mod bench;
pub mod cases;
pub mod container;
pub mod fabric;
pub mod figures;
pub mod host;
pub mod image;
pub mod kubernetes;
pub mod oci_layout;
pub mod ovfenv;
pub mod prerequisites;
pub mod process;
pub mod project;
pub mod qemu;
pub mod registry;
pub mod run;
pub mod seed;
pub mod ssh;
pub mod status;
pub mod vcenter;
