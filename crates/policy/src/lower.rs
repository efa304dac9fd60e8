//! Lower case without an allocation where that is possible.

/// Text in lower case, on the stack when it is short.
#[allow(clippy::large_enum_variant, reason = "lives on the stack for one look-up, which is the point")]
pub(crate) enum Lower {
    /// US-ASCII and at most 255 octets, as every domain (RFC 1035 §2.3.4) and local part (RFC 5321 §4.5.3.1.1) is.
    Short([u8; 255], u8),
    /// Anything else.
    Long(String),
}

impl Lower {
    /// `text`, which is US-ASCII, in lower case.
    pub(crate) fn ascii(text: &str) -> Self {
        let mut short = [0; 255];
        match (u8::try_from(text.len()), short.get_mut(..text.len())) {
            (Ok(octets), Some(front)) => {
                front.copy_from_slice(text.as_bytes());
                front.make_ascii_lowercase();
                Self::Short(short, octets)
            }
            _ => Self::Long(text.to_ascii_lowercase()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            // Made from US-ASCII above, so the check never fails.
            Self::Short(octets, len) => std::str::from_utf8(&octets[..usize::from(*len)]).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}
