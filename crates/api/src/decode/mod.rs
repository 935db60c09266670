//! From a tree to typed values: every kind is declared once, with its fields, and read by the same code.
//!
//! [`message!`] declares a struct together with its decoder, [`names!`] an enumeration written by name.
//! Decoding never stops at the first mistake: each is reported with its path and place, and the rest is read on.

mod context;
mod duration;
mod fields;
mod primitives;

pub(crate) use context::{Context, Finding};
pub(crate) use duration::parse_duration;
pub(crate) use fields::{Fields, Unknown, closest, is_written};
pub(crate) use primitives::{Base64, decode_name};

use crate::yaml::Node;

/// A value that can be read from a tree. `None` means that a problem was reported.
pub(crate) trait Decode: Sized {
    fn decode(node: &Node, context: &mut Context) -> Option<Self>;
}

/// Declares a struct and how it is read.
///
/// A field `mirror_percentage` is written `mirrorPercentage` (or, as proto3 JSON allows, `mirror_percentage`);
/// `= "podIP"` names it otherwise, `@required` reports its absence. Fields that are not declared are errors.
macro_rules! message {
    ($($body:tt)*) => { $crate::decode::declare! { (crate::decode::Unknown::Error) (Default::default) $($body)* } };
}

/// As [`message!`] for kinds of which a part is read: fields that are not declared are passed over
/// (or named as warnings, see [`Context::name_unknown`]). `@base(f)` takes absent fields from `f()`.
macro_rules! partial {
    (@base($base:path) $($body:tt)*) => { $crate::decode::declare! { (crate::decode::Unknown::Passed) ($base) $($body)* } };
    ($($body:tt)*) => { $crate::decode::declare! { (crate::decode::Unknown::Passed) (Default::default) $($body)* } };
}

macro_rules! declare {
    (($unknown:path) ($base:path) $(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident $(@$required:ident)? : $type:ty $(= $json:literal)?),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq)]
        $visibility struct $name {
            $($(#[$field_meta])* $visibility $field: $type,)*
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::yaml::Node, context: &mut $crate::decode::Context) -> Option<Self> {
                const NAMES: &[&str] = &[$($crate::decode::field!(@name $field $($json)?)),*];
                let mut fields = $crate::decode::Fields::open(node, NAMES, context)?;
                let base: Self = $base();
                let value = Self {
                    $($field: fields.take(
                        $crate::decode::field!(@name $field $($json)?),
                        $crate::decode::field!(@required $($required)?),
                        base.$field,
                        context,
                    ),)*
                };
                fields.close($unknown, context);
                Some(value)
            }
        }
    };
}

macro_rules! field {
    (@name $field:ident $json:literal) => {
        $json
    };
    (@name $field:ident) => {
        stringify!($field)
    };
    (@required required) => {
        true
    };
    (@required) => {
        false
    };
}

/// Declares an enumeration and the names its values are written by; the first is the default.
macro_rules! names {
    ($(#[$meta:meta])* pub enum $name:ident {
        $(#[$first_meta:meta])* $first:ident = $first_text:literal
        $(, $(#[$variant_meta:meta])* $variant:ident = $text:literal)* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            #[default]
            $(#[$first_meta])* $first,
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// Every name, in the order of the declaration.
            pub const NAMES: &'static [&'static str] = &[$first_text $(, $text)*];

            /// The name as users write it.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_text,
                    $(Self::$variant => $text,)*
                }
            }

            /// The value of a name, `None` if there is no such name (names are case-sensitive).
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $first_text => Some(Self::$first),
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::yaml::Node, context: &mut $crate::decode::Context) -> Option<Self> {
                $crate::decode::decode_name(node, Self::NAMES, Self::parse, context)
            }
        }
    };
}

pub(crate) use declare;
pub(crate) use field;
pub(crate) use message;
pub(crate) use names;
pub(crate) use partial;
