//! Automatic addresses: 240.240.0.0/16, the same for the same set of services.
//!
//! As in Istio's `DNS_AUTO_ALLOCATE`: an FNV-1a hash of `namespace/host` picks the slot, double hashing resolves
//! collisions. Istio shifts every later address when a slot would end in `.0`; such slots are left out here, so that one
//! new service never moves the others.

use std::collections::{HashMap, HashSet};

use super::service::{Resolution, Service, UNSPECIFIED};
use api::hosts::is_wildcard;

const SLOTS: u32 = 256 * 254;
/// The largest prime below [`SLOTS`].
const STEP_PRIME: u32 = 65_011;

/// Whether a service gets one: it has no address, is one host, and its endpoints do not depend on the address called.
fn is_eligible(service: &Service) -> bool {
    service.address == UNSPECIFIED
        && !is_wildcard(&service.host)
        && !matches!(service.resolution, Resolution::Passthrough | Resolution::Alias)
}

/// The address of every eligible service, in the order given; those of one host share it.
pub(super) fn assign<'s>(services: impl Iterator<Item = &'s Service>) -> Vec<Option<String>> {
    let mut taken: HashSet<u32> = HashSet::new();
    let mut by_host: HashMap<&str, Option<String>> = HashMap::new();
    let mut address = |service: &'s Service| {
        let known = by_host.entry(&service.host).or_insert_with(|| {
            let key = format!("{}/{}", service.namespace, service.host);
            let slot = free_slot(fnv1a(key.as_bytes()), &taken)?;
            taken.insert(slot);
            let number = slot + 1;
            Some(format!("240.240.{}.{}", number / 255, number % 255))
        });
        known.clone()
    };
    services.map(|service| if is_eligible(service) { address(service) } else { None }).collect()
}

fn free_slot(hash: u32, taken: &HashSet<u32>) -> Option<u32> {
    let step = STEP_PRIME - hash % STEP_PRIME;
    (0..SLOTS)
        .map(|attempt| hash.wrapping_add(attempt.wrapping_mul(step)) % SLOTS)
        .find(|slot| !taken.contains(slot) && (slot + 1) % 255 != 0)
}

fn fnv1a(bytes: &[u8]) -> u32 {
    // Istio uses Go's fnv.New32a.
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
