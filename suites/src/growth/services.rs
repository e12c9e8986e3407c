//! Growth with the number of services that a sidecar knows.

use std::ops::Range;

use meshproof::istio::upstream;
use meshproof::{Error, Verdict, Workload};
use serde_json::{Value, json};

use super::new_sidecar::costs_little;

/// Numbers of services.
const SIZES: [u32; 3] = [10, 100, 1_000];

const PORT: u16 = 8080;

/// What a new sidecar costs with 10, 100 and 1,000 services: memory, configuration, and istiod's time to make it.
///
/// Red if: a service has twenty ports (25.5 KiB of configuration and 650 KiB of memory each).
async fn one_more_service_costs_little() -> Verdict {
    costs_little("services", SIZES, services, lacks).await
}

/// The first or the last of `size` services, if the sidecar does not know it.
async fn lacks(workload: &Workload, size: u32) -> Result<Option<String>, Error> {
    for host in [host(0), host(size - 1)] {
        if upstream(workload, PORT, &host).await?.is_none() {
            return Ok(Some(host));
        }
    }
    Ok(None)
}

fn host(index: u32) -> String {
    format!("s{index}.growth.example")
}

/// Services outside of the mesh, which nobody calls. 192.0.2.0/24 is for documentation (RFC 5737).
fn services(namespace: &str, indices: Range<u32>) -> Vec<Value> {
    let service = |index: u32| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": { "name": format!("s{index}"), "namespace": namespace },
            "spec": {
                "hosts": [host(index)], "exportTo": ["."], "location": "MESH_EXTERNAL", "resolution": "STATIC",
                "ports": [{ "number": PORT, "name": "http", "protocol": "HTTP" }],
                "endpoints": [{ "address": "192.0.2.1" }],
            },
        })
    };
    indices.map(service).collect()
}

crate::trials! {
    one_more_service_costs_little,
}
