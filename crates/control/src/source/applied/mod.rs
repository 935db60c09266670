//! Objects that were applied: kept with every revision of them, and read over those of the directories.
//!
//! | module | what |
//! |---|---|
//! | [`revision`] | what is remembered of a change: when, who, what |
//! | [`revisions`] | the embedded store on disk |
//! | [`batch`] | what `apply` and `delete` would change, decided without touching anything |
//! | [`restoration`] | what `rollback` would change |
//! | [`store`] | the objects that are applied now, changed one batch at a time |
//! | [`source`] | the objects that are applied, as a source |

pub(crate) mod batch;
mod restoration;
pub mod revision;
pub(crate) mod revisions;
pub(crate) mod source;
pub(crate) mod store;
#[cfg(test)]
mod tests;

pub use store::AppliedError;
