//! Step 1: taking connections.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use crate::client::listening::{Deal, Listening};
use crate::client::origin::Origin;
use crate::net::network::Stream;
use crate::net::sockets::Side;
use crate::worker::connection::{Conn, Inspecting};
use crate::worker::mailbox::{Accepted, Command, Listen};
use crate::worker::{FIRST_LISTENER, Worker};

/// Connections taken from one socket before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;

impl Worker {
    pub(crate) fn listen(&mut self, listen: Listen) -> io::Result<()> {
        let entry = self.listening.vacant_entry();
        // Level-triggered would be kinder here, but mio knows edges only: a full turn ends with asking again.
        self.sockets.network().watch_acceptor(&listen.socket, entry.key() as u64 + FIRST_LISTENER)?;
        let key = entry.key();
        entry.insert(Listening {
            socket: listen.socket,
            listener: listen.listener,
            redirected: listen.redirected,
        });
        // What came before it was registered raises no edge.
        self.accept(key);
        Ok(())
    }

    pub(crate) fn unlisten(&mut self, name: Option<&str>) {
        let network = self.sockets.network();
        self.listening.retain(|_, listening| {
            let keep = name.is_some_and(|name| *listening.listener != *name);
            if !keep {
                network.forget_acceptor(&listening.socket);
            }
            keep
        });
    }

    pub(crate) fn accept(&mut self, key: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listening) = self.listening.get(key) else { break };
            let (stream, remote) = match listening.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.hand_out(),
                // The client left while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    self.accept_failed(key, &error);
                    return self.hand_out();
                }
            };
            let (listener, redirected) = (listening.listener.clone(), listening.redirected);
            let accepted = Accepted { stream, remote, listener, redirected };
            let own = self.sockets.clients() + self.exchanges.active();
            match Deal::other(self.index, own, &self.shared.loads) {
                Some(worker) => self.deal.give(worker, accepted, &self.shared.loads),
                None => self.accepted(accepted),
            }
        }
        if self.listening.contains(key) {
            self.accept_more.push(key);
        }
        self.hand_out();
    }

    /// Sends accepted connections to the workers that shall have them: one message and one wake-up each.
    fn hand_out(&mut self) {
        for (worker, accepted) in self.deal.given() {
            if let Some(mailbox) = self.shared.workers.get(worker) {
                mailbox.send(Command::Accepted(accepted));
            }
        }
    }

    /// Connections another worker accepted for this one.
    pub(crate) fn take_accepted(&mut self, all: Vec<Accepted>) {
        if let Some(load) = self.shared.loads.get(self.index) {
            load.received.fetch_add(all.len(), Relaxed);
        }
        for accepted in all {
            self.accepted(accepted);
        }
    }

    /// Tells the workers that accept how much this one has to do.
    pub(crate) fn tell_load(&self) {
        if let Some(load) = self.shared.loads.get(self.index) {
            load.work.store(self.sockets.clients() + self.exchanges.active(), Relaxed);
            load.clients.store(self.sockets.clients(), Relaxed);
        }
    }

    /// Clients' connections of all workers: those of others as of the end of their last turn.
    fn all_clients(&self) -> usize {
        let others = self.shared.loads.iter().enumerate().filter(|(worker, _)| *worker != self.index);
        self.sockets.clients() + others.map(|(_, load)| load.clients.load(Relaxed)).sum::<usize>()
    }

    /// Out of descriptors, most likely: tried again soon, for the edge that told of this connection is gone.
    #[cold]
    fn accept_failed(&mut self, key: usize, error: &io::Error) {
        if self.accept_pause.is_none() {
            (self.shared.log)(&format!("can not accept connections: {error}; trying again"));
        }
        self.accept_pause = Some(self.now.after(std::time::Duration::from_millis(100)));
        self.accept_more.push(key);
    }

    /// Whether the destination is the workload's own: then it leads to the application, not back to us.
    fn is_application(&self, destination: SocketAddr) -> bool {
        let application = self.shared.application.as_ref();
        application.is_some_and(|application| application.addresses.contains(&destination.ip()))
    }

    /// A connection of this worker: which listener is it for, and must its first bytes be seen?
    fn accepted(&mut self, accepted: Accepted) {
        let Accepted { stream, remote, listener: name, redirected } = accepted;
        let snapshot = self.snapshot.clone();
        let Some(met) = snapshot.listener(&name) else { return };
        let destination = match original_destination(&stream, remote, redirected) {
            Ok(destination) => destination,
            // Gone already.
            Err(_) => return,
        };
        let listener = match redirected || met.use_original_dst {
            true => snapshot.listener_for(met, destination),
            false => met,
        };
        stream.set_nodelay();
        let stats = self.chains.listener(listener);
        if self.has_no_room()
            || self.all_clients() >= self.shared.max_clients && !listener.ignore_global_connection_limit
        {
            self.telemetry.shard.inc(stats.downstream_global_cx_overflow);
            return;
        }
        self.telemetry.shard.inc(stats.downstream_cx_total);
        // Nobody watches it for us, for lack of memory or of watches: it is closed.
        let Ok(key) = self.sockets.add(stream, Side::Client) else {
            self.telemetry.shard.inc(stats.downstream_cx_destroy);
            return;
        };
        self.telemetry.shard.shift(stats.downstream_cx_active, 1);
        self.stirred.connection();
        let origin = Origin {
            entry: met.name.clone(),
            protocol: None,
            listener: listener.clone(),
            local: destination,
            leads_back: !redirected && !self.is_application(destination),
            remote,
            server_name: "".into(),
            started: self.now,
            secure: None,
        };
        let inspectors = listener.inspectors(destination.port());
        let inspecting = Box::new(Inspecting { origin, inspectors, bytes: vec![] });
        if inspectors.any() {
            if let Some(timeout) = listener.sniff_timeout {
                self.sockets.set_deadline(key, self.now.after(timeout));
            }
            self.telemetry.shard.shift(stats.downstream_pre_cx_active, 1);
            self.put(key, Conn::Inspecting(inspecting));
        } else {
            self.pick_chain(key, inspecting.origin, None, &[]);
        }
    }
}

/// Whom the client wanted: what the kernel remembers of a redirected connection, else the address it came to.
fn original_destination(stream: &Stream, remote: SocketAddr, redirected: bool) -> io::Result<SocketAddr> {
    match redirected.then(|| stream.original_destination(remote.is_ipv4())) {
        Some(Ok(address)) => Ok(address),
        // Not redirected, or it came straight to the port.
        Some(Err(_)) | None => stream.local_address(),
    }
}
