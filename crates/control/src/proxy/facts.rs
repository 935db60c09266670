//! A proxy as translation sees it: whatever is asked of it is noted with the answer.
//!
//! Two proxies that answer alike what was asked of one of them get the same resources: what was asked is the key of the
//! class, and no list of what matters has to be kept beside the code that reads it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Proxy, ProxyKind, flag};
use crate::world::{Asker, Target, View, targets};

/// What can be asked of a proxy, beside its kind and namespace, which every class has one of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// The value of a label, as it counts for selectors.
    Label(String),
    /// A value of the node's metadata, by Istio's name.
    Metadata(&'static str),
    Locality,
    /// Whether all of its addresses are of IPv6.
    Ipv6,
    /// Its first address.
    Address,
    /// The same, if a service that is called by its endpoints' addresses has one there.
    HeadlessAddress,
    /// The services it stands behind.
    Targets,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Text(Option<String>),
    Json(Option<Json>),
    Flag(bool),
    Targets(Arc<Vec<Target>>),
}

/// What was asked and answered.
pub type Answers = BTreeMap<Question, Answer>;

pub struct Facts<'p> {
    proxy: &'p Proxy,
    /// What it answers with depends on the world, too.
    view: View<'p>,
    /// What its workload registered, completed by its Deployment; else what it says itself.
    labels: &'p BTreeMap<String, String>,
    noted: RefCell<Answers>,
}

impl<'p> Facts<'p> {
    /// What answers depend on is noted by the view.
    pub fn new(proxy: &'p Proxy, view: View<'p>) -> Self {
        let registered = view.registered(&proxy.namespace, proxy.address());
        let labels = registered.map_or(&proxy.labels, |instance| &*instance.labels);
        Self { proxy, view, labels, noted: RefCell::default() }
    }

    /// Whatever has been asked so far.
    pub fn noted(&self) -> Answers {
        self.noted.borrow().clone()
    }

    pub fn kind(&self) -> ProxyKind {
        self.proxy.kind
    }

    pub fn namespace(&self) -> &'p str {
        &self.proxy.namespace
    }

    pub fn label(&self, key: &str) -> Option<String> {
        self.text(Question::Label(key.to_owned()))
    }

    /// Whether it has all of these labels. Each is asked for, whatever the others are, so that all proxies are asked the same.
    pub fn has_labels(&self, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().fold(true, |all, (key, value)| (self.label(key).as_ref() == Some(value)) & all)
    }

    pub fn metadata(&self, key: &'static str) -> Option<String> {
        match self.ask(Question::Metadata(key)) {
            Answer::Json(Some(Json::String(text))) => Some(text),
            _ => None,
        }
    }

    /// A boolean, written `true` or `"true"`.
    pub fn metadata_flag(&self, key: &'static str) -> bool {
        match self.ask(Question::Metadata(key)) {
            Answer::Json(Some(value)) => flag(&value),
            _ => false,
        }
    }

    /// `region/zone/subzone`.
    pub fn locality(&self) -> String {
        self.text(Question::Locality).unwrap_or_default()
    }

    pub fn is_ipv6(&self) -> bool {
        self.ask(Question::Ipv6) == Answer::Flag(true)
    }

    pub fn address(&self) -> String {
        self.text(Question::Address).unwrap_or_default()
    }

    pub fn headless_address(&self) -> Option<String> {
        self.text(Question::HeadlessAddress)
    }

    pub fn targets(&self) -> Arc<Vec<Target>> {
        match self.ask(Question::Targets) {
            Answer::Targets(targets) => targets,
            _ => Arc::default(),
        }
    }

    fn text(&self, question: Question) -> Option<String> {
        match self.ask(question) {
            Answer::Text(text) => text,
            _ => None,
        }
    }

    /// The answer to a question.
    pub fn ask(&self, question: Question) -> Answer {
        if let Some(known) = self.noted.borrow().get(&question) {
            return known.clone();
        }
        let answer = self.answer(&question);
        self.noted.borrow_mut().insert(question, answer.clone());
        answer
    }

    fn answer(&self, question: &Question) -> Answer {
        let proxy = self.proxy;
        match question {
            Question::Label(key) => Answer::Text(self.labels.get(key).cloned()),
            Question::Metadata(key) => Answer::Json(proxy.metadata.get(*key).cloned()),
            Question::Locality => Answer::Text(Some(proxy.locality.clone())),
            Question::Ipv6 => Answer::Flag(proxy.is_ipv6()),
            Question::Address => Answer::Text(Some(proxy.address().to_owned())),
            Question::HeadlessAddress => {
                let own = Some(proxy.address()).filter(|address| self.view.is_headless_endpoint(address));
                Answer::Text(own.map(str::to_owned))
            }
            Question::Targets => Answer::Targets(Arc::new(targets(
                self.view,
                &Asker {
                    pod: proxy.id.split_once('.').filter(|(name, _)| !name.is_empty()),
                    namespace: &proxy.namespace,
                    labels: self.labels,
                    addresses: proxy.addresses(),
                },
            ))),
        }
    }
}

impl Hash for Answer {
    fn hash<H: Hasher>(&self, to: &mut H) {
        match self {
            Self::Text(text) => text.hash(to),
            Self::Json(value) => value.as_ref().map(ToString::to_string).hash(to),
            Self::Flag(flag) => flag.hash(to),
            // Equal ones are of equal hosts and ports, which is enough to tell most others from them.
            Self::Targets(all) => {
                all.iter().for_each(|one| (&one.service.host, one.port.number, one.target_port).hash(to));
            }
        }
    }
}
