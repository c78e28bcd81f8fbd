//! The configuration of a gateway, as a person gives it.

use std::fmt;

use ip_pools::PoolSpec;
use protocol::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// All that a gateway is told. Values are as they were typed; [`Configuration::check`] says what is wrong with them.
/// Blank is as not given.
///
/// Serialised, it never holds the password; [`Configuration::expose`] does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, expecting = "an object")]
pub struct Configuration {
    /// The vCenter, and who we are there.
    pub vcenter: Account,
    /// Where in that vCenter.
    pub placement: Placement,
    /// OpenSSH public keys that may log in to the nodes.
    pub ssh_keys: Vec<String>,
    /// Names or addresses of NTP servers; none: the image's own.
    pub ntp_servers: Vec<String>,
    /// Where nodes have their addresses from.
    pub ip_allocation: IpAllocation,
    /// Pools of addresses. The gateway takes its own from the first that is large enough.
    pub ip_pools: Vec<PoolSpec>,
    /// Where the gateway's API server answers. None: a VIP from the pool with static addresses, a HAProxy VM of the
    /// gateway's with DHCP.
    pub control_plane_endpoint: Option<Endpoint>,
    /// Nodes: 1 or 3.
    pub size: u32,
    /// How large a node is.
    pub node_size: NodeSize,
    /// The subnet of pods.
    pub pod_cidr: String,
    /// The subnet of services.
    pub service_cidr: String,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration {
            vcenter: Account::default(),
            placement: Placement::default(),
            ssh_keys: Vec::new(),
            ntp_servers: Vec::new(),
            ip_allocation: IpAllocation::Dhcp,
            ip_pools: Vec::new(),
            control_plane_endpoint: None,
            size: 1,
            node_size: NodeSize::S,
            pod_cidr: "192.168.0.0/16".into(),
            service_cidr: "10.96.0.0/12".into(),
        }
    }
}

impl Configuration {
    /// The configuration as JSON, with the password: for the gateway itself, and for nobody else.
    #[must_use]
    pub fn expose(&self) -> Value {
        let mut json = serde_json::to_value(self).expect("fields have text names, and nothing else can fail");
        if let Some(password) = &self.vcenter.password {
            json["vcenter"]["password"] = password.expose().into();
        }
        json
    }
}

/// A vCenter account.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, expecting = "an object")]
pub struct Account {
    /// Host name or address of the vCenter, with its port unless that is 443.
    pub server: String,
    /// As in `gateway@vsphere.local`.
    pub username: String,
    /// Read from JSON, never written to it.
    #[serde(deserialize_with = "secret", skip_serializing)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, write_only, format = Password))]
    pub password: Option<Secret>,
    /// Takes any certificate for the vCenter's.
    pub insecure: bool,
}

/// A blank password is none.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(Secret::new))
}

/// Where in a vCenter. Parts of a path are parted by `/`; a slash inside a name is written `%2f`, as vCenter does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, expecting = "an object")]
pub struct Placement {
    /// Path of the datacenter.
    pub datacenter: String,
    /// Path of the folder of VMs, below the datacenter's.
    pub folder: String,
    /// Path of the folder that node images are kept in, below the datacenter's.
    pub image_template_folder: String,
    /// The compute cluster.
    pub cluster: String,
    /// Path of the resource pool, below the cluster's own; blank: that one.
    pub resource_pool: String,
    /// The datastore.
    pub datastore: String,
    /// The storage policy; blank: the datastore's.
    pub storage_policy: String,
    /// The port group of the nodes.
    pub network: String,
}

impl Default for Placement {
    fn default() -> Placement {
        Placement {
            datacenter: String::new(),
            folder: String::new(),
            image_template_folder: "gatewright-templates".into(),
            cluster: String::new(),
            resource_pool: String::new(),
            datastore: String::new(),
            storage_policy: String::new(),
            network: String::new(),
        }
    }
}

/// Where nodes have their addresses from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum IpAllocation {
    /// A DHCP server of the network.
    Dhcp,
    /// The pools.
    Static,
}

/// Where the gateway's API server answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(expecting = "an object")]
pub struct Endpoint {
    /// What kind.
    #[serde(rename = "type")]
    pub kind: EndpointKind,
    /// The VIP (blank: one from the pool), or the name or address of the load balancer, or the DNS name.
    #[serde(default)]
    pub host: String,
    /// For `DDNS`: the domain in which nodes find each other.
    #[serde(default)]
    pub ddns_search_domain: String,
}

/// What answers for the API servers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EndpointKind {
    /// An address that the nodes hold among themselves.
    #[serde(rename = "VIP")]
    Vip,
    /// A load balancer of the administrator's.
    External,
    /// A name that DHCP and DNS servers keep for the nodes (dynamic DNS).
    #[serde(rename = "DDNS")]
    Ddns,
}

/// How large a node is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum NodeSize {
    /// 4 processors, 4 GiB of memory, 60 GiB of disk.
    S,
    /// 8 processors, 8 GiB of memory, 100 GiB of disk.
    M,
    /// 16 processors, 16 GiB of memory, 120 GiB of disk.
    L,
}

/// Something that was repaired without asking.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Note {
    /// Which value, by JSON pointer.
    pub at: String,
    /// What was done to it, or what to bear in mind: one sentence.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
