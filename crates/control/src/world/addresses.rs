//! Automatic addresses: 240.240.0.0/16, the same for the same set of services.
//!
//! As in Istio's `DNS_AUTO_ALLOCATE`: an FNV-1a hash of `namespace/host` picks the slot, double hashing resolves
//! collisions. Istio shifts every later address when a slot would end in `.0`; such slots are left out here, so that one
//! new service never moves the others.

use std::collections::HashMap;

use super::service::{Resolution, Service, UNSPECIFIED};
use api::hosts::is_wildcard;

const SLOTS: u32 = 256 * 254;
/// The largest prime below [`SLOTS`].
const STEP_PRIME: u32 = 65_011;

/// Whether a service gets one: it has no address, is one host, and its endpoints do not depend on the address called.
pub(super) fn is_eligible(service: &Service) -> bool {
    service.address == UNSPECIFIED
        && !is_wildcard(&service.host)
        && !matches!(service.resolution, Resolution::Passthrough | Resolution::Alias)
}

/// Gives every eligible service its address, in the order given.
pub(super) fn assign(services: &mut [Service]) {
    let mut taken: HashMap<u32, ()> = HashMap::new();
    let mut by_host: HashMap<String, String> = HashMap::new();
    for service in services.iter_mut().filter(|service| is_eligible(service)) {
        if let Some(address) = by_host.get(&service.host) {
            service.automatic_address = Some(address.clone());
            continue;
        }
        let key = format!("{}/{}", service.namespace, service.host);
        let Some(slot) = free_slot(fnv1a(key.as_bytes()), &taken) else { continue };
        taken.insert(slot, ());
        let number = slot + 1;
        let address = format!("240.240.{}.{}", number / 255, number % 255);
        by_host.insert(service.host.clone(), address.clone());
        service.automatic_address = Some(address);
    }
}

fn free_slot(hash: u32, taken: &HashMap<u32, ()>) -> Option<u32> {
    let step = STEP_PRIME - hash % STEP_PRIME;
    (0..SLOTS)
        .map(|attempt| hash.wrapping_add(attempt.wrapping_mul(step)) % SLOTS)
        .find(|slot| !taken.contains_key(slot) && (slot + 1) % 255 != 0)
}

fn fnv1a(bytes: &[u8]) -> u32 {
    // Istio uses Go's fnv.New32a.
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
