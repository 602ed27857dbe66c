//! The encoding of a field of each type, and the macro that makes a message of fields.

use prost::DecodeError;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{self, DecodeContext, WireType};

/// A field of a message. One with its type's default value is not written, as proto3 has it.
pub(crate) trait Field: Default {
    /// Its type in a `.proto` file.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "it is what the test against the file looks at")
    )]
    const PROTO: &'static str;
    fn write(&self, tag: u32, into: &mut impl BufMut);
    fn merge(
        &mut self,
        wire: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError>;
    fn length(&self, tag: u32) -> usize;
}

/// Implements a field of a type for which the encoding has a module.
macro_rules! scalar {
    ($type:ty, $module:ident, $proto:literal) => {
        impl Field for $type {
            const PROTO: &'static str = $proto;

            fn write(&self, tag: u32, into: &mut impl BufMut) {
                if *self != <$type>::default() {
                    encoding::$module::encode(tag, self, into);
                }
            }

            fn merge(
                &mut self,
                wire: WireType,
                from: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                encoding::$module::merge(wire, self, from, context)
            }

            fn length(&self, tag: u32) -> usize {
                if *self == <$type>::default() {
                    0
                } else {
                    encoding::$module::encoded_len(tag, self)
                }
            }
        }
    };
}

scalar!(u64, uint64, "uint64");
scalar!(bool, bool, "bool");
scalar!(i32, int32, "enum");
scalar!(String, string, "string");
scalar!(Vec<u8>, bytes, "bytes");

/// Any number of them.
macro_rules! repeated {
    ($type:ty, $module:ident, $proto:literal) => {
        impl $crate::field::Field for Vec<$type> {
            const PROTO: &'static str = $proto;

            fn write(&self, tag: u32, into: &mut impl prost::bytes::BufMut) {
                prost::encoding::$module::encode_repeated(tag, self, into);
            }

            fn merge(
                &mut self,
                wire: prost::encoding::WireType,
                from: &mut impl prost::bytes::Buf,
                context: prost::encoding::DecodeContext,
            ) -> Result<(), prost::DecodeError> {
                prost::encoding::$module::merge_repeated(wire, self, from, context)
            }

            fn length(&self, tag: u32) -> usize {
                prost::encoding::$module::encoded_len_repeated(tag, self)
            }
        }
    };
}
pub(crate) use repeated;

repeated!(String, string, "repeated string");

/// A message that may be missing.
macro_rules! optional {
    ($type:ty, $proto:literal) => {
        impl $crate::field::Field for Option<$type> {
            const PROTO: &'static str = $proto;

            fn write(&self, tag: u32, into: &mut impl prost::bytes::BufMut) {
                if let Some(message) = self {
                    prost::encoding::message::encode(tag, message, into);
                }
            }

            fn merge(
                &mut self,
                wire: prost::encoding::WireType,
                from: &mut impl prost::bytes::Buf,
                context: prost::encoding::DecodeContext,
            ) -> Result<(), prost::DecodeError> {
                prost::encoding::message::merge(wire, self.get_or_insert_default(), from, context)
            }

            fn length(&self, tag: u32) -> usize {
                self.as_ref()
                    .map_or(0, |message| prost::encoding::message::encoded_len(tag, message))
            }
        }
    };
}
pub(crate) use optional;

/// A message: each field's number, name and type. Fields that are not known are skipped.
macro_rules! message {
    ($(#[$about:meta])* $name:ident { $($(#[$of:meta])* $tag:literal $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$of])* pub $field: $type,)*
        }

        impl $name {
            /// Its fields: number, name, type.
            #[cfg(test)]
            #[allow(dead_code, reason = "only those in the .proto file are compared with it")]
            pub(crate) const FIELDS: &'static [(u32, &'static str, &'static str)] =
                &[$(($tag, stringify!($field), <$type as $crate::field::Field>::PROTO)),*];
        }

        impl prost::Message for $name {
            fn encode_raw(&self, into: &mut impl prost::bytes::BufMut) {
                $($crate::field::Field::write(&self.$field, $tag, into);)*
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire: prost::encoding::WireType,
                from: &mut impl prost::bytes::Buf,
                context: prost::encoding::DecodeContext,
            ) -> Result<(), prost::DecodeError> {
                match tag {
                    $($tag => $crate::field::Field::merge(&mut self.$field, wire, from, context),)*
                    _ => prost::encoding::skip_field(wire, tag, from, context),
                }
            }

            fn encoded_len(&self) -> usize {
                0 $(+ $crate::field::Field::length(&self.$field, $tag))*
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}
pub(crate) use message;
