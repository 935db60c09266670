//! Who shares what: proxies of which translation asked the same and was answered alike get the same resources, made once.
//!
//! A class is not named by a key that somebody keeps in step with the code. Whatever translation asks a proxy is noted
//! ([`crate::proxy::Facts`]); a proxy that answers alike is of the class. Whatever translation reads of the world is noted,
//! too ([`crate::world::View`]); a change drops what was made from it, nothing else.
//!
//! | module | what |
//! |---|---|
//! | `dependents` | who was made from which read |
//! | `part` | a thing that is made, with what it was made from |
//! | `outbound`, `inbound` | the two sides of a proxy, in parts |
//! | `index` | the class of a proxy, by its answers |
//! | `encode` | resources as shared bytes, equal ones once |
//! | `references` | what rules name that is not there |

mod dependents;
mod encode;
mod inbound;
mod index;
mod outbound;
mod part;
mod references;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use xds::delta_server::Layer;

use crate::proxy::{Answers, Facts, Profile, Proxy, ProxyKind};

use crate::translate::Options;
use crate::world::{Changes, Delta, Note, Reads, World};
use dependents::{Dependent, Dependents, KeptReads, Who};
use encode::Interner;
use inbound::Inbound;
use index::Index;
use outbound::Outbound;
use part::Maker;
use references::References;

/// Identifies a proxy: its stream.
pub type MemberId = u64;
type ClassId = u64;

/// What one proxy is to hold.
#[derive(Debug, Clone)]
pub struct Layers {
    /// What its class shares.
    pub outbound: Arc<Layer>,
    /// Hides what is shared under the same name.
    pub inbound: Arc<Layer>,
}

/// The world, the proxies that are connected, and what each of them is to hold.
pub struct Classes {
    world: World,
    options: Options,
    interner: Interner,
    members: BTreeMap<MemberId, Member>,
    classes: HashMap<ClassId, Class>,
    index: Index,
    references: References,
    dependents: Dependents,
    next: ClassId,
    notes_changed: bool,
}

struct Member {
    proxy: Arc<Proxy>,
    profile: Profile,
    /// Both are there once it has joined.
    outbound: Option<Place>,
    inbound: Option<Place>,
    /// What it was last said to hold.
    holds: Option<Layers>,
}

/// The class of one side of a proxy, and what its answers depend on.
struct Place {
    class: ClassId,
    /// Kept for what its drop does.
    _reads: KeptReads,
}

/// What all members of a class have in common before anything is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Outbound,
    Inbound,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    side: Side,
    kind: ProxyKind,
    namespace: String,
    profile: Profile,
}

struct Class {
    group: Group,
    /// Whatever was asked of its members, and answered by each of them.
    answers: Answers,
    members: BTreeSet<MemberId>,
    made: Made,
}

enum Made {
    Outbound(Box<Outbound>),
    Inbound(Inbound),
}

impl Made {
    fn layer(&self) -> &Arc<Layer> {
        match self {
            Self::Outbound(made) => &made.layer,
            Self::Inbound(made) => &made.0.value,
        }
    }

    /// Takes over what a member holds, where it says the same.
    fn reuse(&mut self, held: &Layers) {
        let (layer, held) = match self {
            Self::Outbound(made) => (&mut made.layer, &held.outbound),
            Self::Inbound(made) => (&mut made.0.value, &held.inbound),
        };
        let reusing = layer.reusing(held);
        *layer = if reusing.is(held) { held.clone() } else { Arc::new(reusing) };
    }
}

impl Classes {
    pub fn new(world: World, options: Options) -> Self {
        Self {
            world,
            options,
            interner: Interner::default(),
            members: BTreeMap::new(),
            classes: HashMap::new(),
            index: Index::default(),
            references: References::default(),
            dependents: Dependents::default(),
            next: 1,
            notes_changed: true,
        }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn len(&self) -> usize {
        self.classes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// What a proxy is to hold: what its classes have made.
    pub fn layers(&self, id: MemberId) -> Option<Layers> {
        let member = self.members.get(&id)?;
        let layer = |place: &Option<Place>| {
            let class = self.classes.get(&place.as_ref()?.class)?;
            Some(class.made.layer().clone())
        };
        Some(Layers { outbound: layer(&member.outbound)?, inbound: layer(&member.inbound)? })
    }

    /// A proxy has connected.
    pub fn join(&mut self, id: MemberId, proxy: Arc<Proxy>, profile: Profile) {
        let member = Member { proxy, profile, outbound: None, inbound: None, holds: None };
        self.members.insert(id, member);
        for side in [Side::Outbound, Side::Inbound] {
            self.place(id, side);
        }
        self.hold(id);
    }

    /// Notes what a member is to hold. Whether that is other than before.
    fn hold(&mut self, id: MemberId) -> bool {
        let now = self.layers(id);
        let Some(member) = self.members.get_mut(&id) else { return false };
        let same = match (&member.holds, &now) {
            // Classes that come to say the same do not come to share.
            (Some(held), Some(now)) => {
                held.outbound.same_as(&now.outbound) && held.inbound.same_as(&now.inbound)
            }
            _ => false,
        };
        member.holds = now;
        !same
    }

    /// A proxy is gone.
    pub fn leave(&mut self, id: MemberId) {
        if let Some(member) = self.members.remove(&id) {
            for place in [member.outbound, member.inbound].into_iter().flatten() {
                self.leave_class(id, place.class);
            }
        }
        self.interner.sweep();
    }

    /// Takes a change in. Says who is to hold something else than before.
    pub fn change(&mut self, delta: Delta) -> BTreeSet<MemberId> {
        let changes = self.world.change(delta);
        self.notes_changed = true;
        self.references.update(&self.world, &changes);
        let mut concerned = BTreeSet::new();
        if changes.is_everything() {
            concerned = self.make_all_anew();
        } else if !changes.is_empty() {
            let dependents = self.dependents.concerned(&changes);
            // First all who may be of another class now leave theirs, so that whoever stands for a class is of it.
            for dependent in &dependents {
                if let Who::Member(id, side) = dependent.who() {
                    self.move_member(id, side, &mut concerned);
                }
            }
            for dependent in &dependents {
                if let Who::Class(id) = dependent.who() {
                    self.update_class(id, &changes, &mut concerned);
                }
            }
        }
        concerned.retain(|id| self.hold(*id));
        self.interner.sweep();
        concerned
    }

    fn make_all_anew(&mut self) -> BTreeSet<MemberId> {
        self.classes.clear();
        self.index = Index::default();
        let all: BTreeSet<MemberId> = self.members.keys().copied().collect();
        for id in &all {
            for side in [Side::Outbound, Side::Inbound] {
                self.place(*id, side);
            }
        }
        all
    }

    fn move_member(&mut self, id: MemberId, side: Side, concerned: &mut BTreeSet<MemberId>) {
        let place = self.members.get(&id).and_then(|member| member.place(side).as_ref());
        if let Some(before) = place.map(|place| place.class) {
            self.leave_class(id, before);
        }
        self.place(id, side);
        concerned.insert(id);
    }

    /// Makes again what of a class was made from what changed, if it is still there.
    fn update_class(&mut self, class_id: ClassId, changes: &Changes, concerned: &mut BTreeSet<MemberId>) {
        let Some(class) = self.classes.get_mut(&class_id) else { return };
        let Some(member) = class.members.first().and_then(|id| self.members.get(id)) else { return };
        let reads = Reads::default();
        let facts = Facts::new(&member.proxy, self.world.view(&reads));
        let options = Options { profile: member.profile, ..self.options.clone() };
        let keeping = (&self.dependents, Dependent::class(class_id));
        let maker = Maker { world: &self.world, facts: &facts, options: &options, keeping };
        let differs = match &mut class.made {
            Made::Outbound(made) => made.update(maker, changes, &mut self.interner),
            Made::Inbound(made) => made.update(maker, &mut self.interner),
        };
        if differs {
            concerned.extend(class.members.iter().copied());
        }
        let asked = facts.noted();
        let more = asked.keys().any(|question| !class.answers.contains_key(question));
        if more {
            self.split(class_id, asked, concerned);
        }
    }

    /// More was asked of a class than before: those of its members that answer otherwise are of another.
    fn split(&mut self, class_id: ClassId, asked: Answers, concerned: &mut BTreeSet<MemberId>) {
        let Some(class) = self.classes.get_mut(&class_id) else { return };
        self.index.remove(&class.group, &class.answers, class_id);
        class.answers.extend(asked);
        self.index.insert(&class.group, &class.answers, class_id);
        let side = class.group.side;
        let members: Vec<MemberId> = class.members.iter().copied().collect();
        for id in members {
            self.move_member_within(id, side, class_id, concerned);
        }
    }

    /// As [`Classes::move_member`], but it may well stay where it is.
    fn move_member_within(
        &mut self,
        id: MemberId,
        side: Side,
        class_id: ClassId,
        concerned: &mut BTreeSet<MemberId>,
    ) {
        let Some(member) = self.members.get(&id) else { return };
        let reads = Reads::default();
        let facts = Facts::new(&member.proxy, self.world.view(&reads));
        let stays = self.classes.get(&class_id).is_some_and(|class| {
            class.answers.iter().all(|(question, answer)| facts.ask(question.clone()) == *answer)
        });
        if stays {
            let reads = self.dependents.keep(Dependent::member(id, side), reads.into_sorted());
            if let Some(member) = self.members.get_mut(&id) {
                *member.place_mut(side) = Some(Place { class: class_id, _reads: reads });
            }
        } else {
            self.move_member(id, side, concerned);
        }
    }

    fn leave_class(&mut self, id: MemberId, class_id: ClassId) {
        let Some(class) = self.classes.get_mut(&class_id) else { return };
        class.members.remove(&id);
        if class.members.is_empty()
            && let Some(class) = self.classes.remove(&class_id)
        {
            self.index.remove(&class.group, &class.answers, class_id);
            self.notes_changed = true;
        }
    }

    /// Finds the class of a proxy's side, or makes it.
    fn place(&mut self, id: MemberId, side: Side) {
        let Some(member) = self.members.get(&id) else { return };
        let (proxy, profile) = (&member.proxy, member.profile);
        let group = Group { side, kind: proxy.kind, namespace: proxy.namespace.clone(), profile };
        let reads = Reads::default();
        let facts = Facts::new(proxy, self.world.view(&reads));
        let found = self.index.find(&group, &facts);
        let class_id = match found {
            Some(class_id) => class_id,
            None => {
                // What is asked to find a class is more than what is asked to make one.
                let facts = Facts::new(proxy, self.world.view(&reads));
                let options = Options { profile, ..self.options.clone() };
                let class_id = self.next;
                self.next += 1;
                let keeping = (&self.dependents, Dependent::class(class_id));
                let maker = Maker { world: &self.world, facts: &facts, options: &options, keeping };
                let mut made = match side {
                    Side::Outbound => Made::Outbound(Box::new(Outbound::make(maker, &mut self.interner))),
                    Side::Inbound => Made::Inbound(Inbound::make(maker, &mut self.interner)),
                };
                member.holds.iter().for_each(|held| made.reuse(held));
                let answers = facts.noted();
                self.index.insert(&group, &answers, class_id);
                self.classes.insert(class_id, Class { group, answers, members: BTreeSet::new(), made });
                self.notes_changed = true;
                class_id
            }
        };
        let reads = self.dependents.keep(Dependent::member(id, side), reads.into_sorted());
        if let Some(class) = self.classes.get_mut(&class_id) {
            class.members.insert(id);
        }
        if let Some(member) = self.members.get_mut(&id) {
            *member.place_mut(side) = Some(Place { class: class_id, _reads: reads });
        }
    }

    /// Panics unless all members are to hold what they are to hold there. For tests.
    #[doc(hidden)]
    pub fn assert_same(&self, other: &Self) {
        for (id, member) in &self.members {
            let (own, others) = (self.layers(*id), other.layers(*id));
            let (Some(own), Some(others)) = (own, others) else { panic!("{id} is a member of one only") };
            for (own, others) in [(&own.outbound, &others.outbound), (&own.inbound, &others.inbound)] {
                for (own, others) in own.types().iter().zip(others.types()) {
                    let differing = own.changed_names(others);
                    assert!(differing.is_empty(), "{:?} differ for {:?}", differing, member.proxy);
                }
            }
        }
    }

    /// What is not done as written, for anybody; `None` if that is as when last asked.
    pub fn take_notes(&mut self) -> Option<BTreeSet<Note>> {
        if !std::mem::take(&mut self.notes_changed) {
            return None;
        }
        let mut notes: BTreeSet<Note> = self.world.notes().chain(self.references.notes()).cloned().collect();
        for class in self.classes.values() {
            match &class.made {
                Made::Outbound(made) => notes.extend(made.notes().cloned()),
                Made::Inbound(made) => notes.extend(made.0.notes.iter().cloned()),
            }
        }
        Some(notes)
    }
}

impl Member {
    fn place(&self, side: Side) -> &Option<Place> {
        match side {
            Side::Outbound => &self.outbound,
            Side::Inbound => &self.inbound,
        }
    }

    fn place_mut(&mut self, side: Side) -> &mut Option<Place> {
        match side {
            Side::Outbound => &mut self.outbound,
            Side::Inbound => &mut self.inbound,
        }
    }
}
