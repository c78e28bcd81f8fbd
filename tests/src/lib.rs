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
//! | [`console`] | a console as a process |
//! | [`https`] | requests to it |
//! | [`postgres`] | a PostgreSQL server for it |
//! | [`machine`] | a machine that pairs with it, message by message |
//! | [`fleet`] | thousands of them, measured |
//! | [`proxy`] | HTTP proxies, and a line that can be made bad |
//! | [`stand_in`] | machines that do nothing but talk to a console |
//! | [`device`] | a machine with facts of a test's choice, which tells what happens |
//! | [`browser`] | a browser that looks at its pages |
//! | [`cases`] | many cases of one test, several at a time |

pub mod bench;
pub mod browser;
pub mod cases;
pub mod console;
pub mod container;
pub mod device;
pub mod fabric;
pub mod figures;
pub mod fleet;
pub mod host;
pub mod https;
pub mod image;
pub mod kubernetes;
pub mod machine;
pub mod oci_layout;
pub mod ovfenv;
pub mod postgres;
pub mod prerequisites;
pub mod process;
pub mod project;
pub mod proxy;
pub mod qemu;
pub mod registry;
pub mod run;
pub mod seed;
pub mod ssh;
pub mod stand_in;
pub mod status;
pub mod vcenter;
