//! Istio's metadata exchange: who the client is, is remembered for its connection and not passed on; who we are, is told to
//! a client that has introduced itself. (Hosts are told by `edit_for_attempt`, once a connection.)

use model::filter::PeerMetadata;
use wire::HeaderId;

use crate::exchange::Exchange;
use crate::filters::state::Introduced;
use crate::filters::step::{Edit, Step};
use crate::peer::Introduction;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn peer_metadata_in(&mut self, config: PeerMetadata, exchange: &mut Exchange) -> Step {
        let head = exchange.head_storage.request(&exchange.head);
        let told = head.known(HeaderId::XEnvoyPeerMetadata);
        let introduced =
            Introduced { metadata: told.is_some(), id: head.known(HeaderId::XEnvoyPeerMetadataId).is_some() };
        if !introduced.metadata && !introduced.id {
            return Step::Next;
        }
        exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadata);
        exchange.edits.remove_known(&head, HeaderId::XEnvoyPeerMetadataId);
        let down = exchange.client_side.key();
        if let (true, Some(told)) = (config.from_downstream, told)
            && let Some(peer) = self.peers.learn(told)
            && let Some(down) = self.client(down)
        {
            down.peer = Some(peer);
        }
        if config.to_downstream {
            exchange.filter_state().introduced = introduced;
        }
        Step::Next
    }
}

/// What a host says of itself is not for clients.
pub(crate) fn out(
    config: PeerMetadata,
    exchange: &Exchange,
    introduction: Option<&Introduction>,
    edit: &mut dyn FnMut(Edit<'_>),
) {
    edit(Edit::Remove(HeaderId::XEnvoyPeerMetadata));
    edit(Edit::Remove(HeaderId::XEnvoyPeerMetadataId));
    let introduced = exchange.filter_state.as_ref().map(|state| state.introduced).unwrap_or_default();
    let Some(introduction) = introduction.filter(|_| config.to_downstream) else { return };
    if introduced.metadata {
        edit(Edit::Set(HeaderId::XEnvoyPeerMetadata.name(), introduction.metadata.as_bytes()));
    }
    if introduced.id {
        edit(Edit::Set(HeaderId::XEnvoyPeerMetadataId.name(), introduction.id.as_bytes()));
    }
}
