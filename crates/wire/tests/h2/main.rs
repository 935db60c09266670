//! The HTTP/2 codec from outside: every rule by its section, abuse, conversion, and properties under any split.

mod abuse;
mod convert;
mod cuts;
mod differential;
mod differential_resets;
mod exchange;
mod held;
mod hop;
mod late;
mod properties;
mod rules;
mod support;
mod websocket;
