//! What comes in to a sidecar: small, and alike only for replicas of a workload.

use std::sync::Arc;

use xds::delta_server::{Layer, TypeSet};

use super::encode::Interner;
use super::part::{Maker, Part};
use crate::translate;

pub(super) struct Inbound(pub Part<Arc<Layer>>);

impl Inbound {
    pub fn make(maker: Maker<'_>, interner: &mut Interner) -> Self {
        let made = maker.part(translate::inbound);
        Self(made.map(|resources| {
            let entries = interner.resources(&resources);
            Arc::new(Layer::new(entries.map(|of_kind| Arc::new(TypeSet::new(of_kind)))))
        }))
    }

    /// Makes it again. Whether what the class gets is other than before.
    pub fn update(&mut self, maker: Maker<'_>, interner: &mut Interner) -> bool {
        let made = Self::make(maker, interner);
        let layer = made.0.value.reusing(&self.0.value);
        let differs = !layer.is(&self.0.value);
        let layer = if differs { Arc::new(layer) } else { self.0.value.clone() };
        self.0 = made.0.map(|_| layer);
        differs
    }
}
