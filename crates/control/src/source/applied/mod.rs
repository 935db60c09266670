//! Objects that were applied: kept with every revision of them, and read over those of the directories.
//!
//! | module | what |
//! |---|---|
//! | [`revision`] | what is remembered of a change: when, who, what |
//! | [`revisions`] | the embedded store on disk |
//! | [`batch`] | what `apply` and `delete` would change, decided without touching anything |
//! | [`restoration`] | what `rollback` would change |
//! | [`store`] | the objects that are applied now, changed one batch at a time |
//! | [`over`] | applied objects over the directories' as one reading |

pub(crate) mod batch;
pub(crate) mod over;
mod restoration;
pub mod revision;
pub(crate) mod revisions;
pub(crate) mod store;
#[cfg(test)]
mod tests;

pub use store::AppliedError;
