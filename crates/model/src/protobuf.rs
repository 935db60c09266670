//! Reading a protobuf message field by field, without decoding it.

/// One field of a message as it stands on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'b> {
    pub(crate) number: u32,
    pub(crate) value: Value<'b>,
    /// Tag and value together, for copying the field elsewhere.
    pub(crate) whole: &'b [u8],
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'b> {
    Varint,
    Bytes(&'b [u8]),
    Fixed,
}

/// The fields of a message in their order; ends with one `Err` where the bytes are no message.
pub(crate) struct Fields<'b> {
    rest: &'b [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAMessage;

pub(crate) fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<Field<'b>, NotAMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(NotAMessage))
    }
}

impl<'b> Fields<'b> {
    fn read(&mut self) -> Option<Field<'b>> {
        let all = self.rest;
        let (tag, rest) = varint(all)?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0)?;
        let (value, rest) = match tag & 7 {
            0 => (Value::Varint, varint(rest)?.1),
            1 => (Value::Fixed, rest.get(8..)?),
            2 => {
                let (length, rest) = varint(rest)?;
                let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                (Value::Bytes(value), rest)
            }
            5 => (Value::Fixed, rest.get(4..)?),
            // Groups are proto2's, and long gone.
            _ => return None,
        };
        self.rest = rest;
        Some(Field { number, value, whole: all.get(..all.len() - rest.len())? })
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(i).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(i + 1..)?));
        }
    }
    None
}
