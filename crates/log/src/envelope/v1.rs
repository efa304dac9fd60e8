//! Stored form of the envelope, version 1. Frozen: a change makes version 2 beside it.
//!
//! rkyv 0.8, little-endian, 32-bit relative pointers, aligned; the root lies at the end. All text is one arena; everything that points into
//! it is a span. No struct has padding, so slices are copied whole.
#![allow(
    unsafe_code,
    reason = "the derive macros of rkyv write unsafe impls; there is no other unsafe code here"
)]

use rkyv::api::low::to_bytes_in_with_alloc;
use rkyv::rancor::{Failure, Fallible};
use rkyv::ser::allocator::SubAllocator;
use rkyv::ser::writer::Buffer;
use rkyv::ser::{Allocator, Positional, Writer};
use rkyv::vec::{ArchivedVec, VecResolver};
use rkyv::with::{ArchiveWith, SerializeWith};
use rkyv::{Archive, Place, Serialize};

use super::{Address, Attribute, BodyFindings, ChunkRef, EnvelopeRef, PhaseTimes, Recipient, Span};
use crate::layout::to_u32;

/// Texts of an envelope that have a span of their own in the root.
pub(super) const TEXTS: usize = 14;

/// Index of each text in [`EnvelopeV1::texts`].
pub(super) mod text {
    pub(in super::super) const HOSTNAME: usize = 0;
    pub(in super::super) const LISTENER: usize = 1;
    pub(in super::super) const PEER_NAME: usize = 2;
    pub(in super::super) const HELO: usize = 3;
    pub(in super::super) const REVERSE_PATH: usize = 4;
    pub(in super::super) const ENVID: usize = 5;
    pub(in super::super) const TLS_VERSION: usize = 6;
    pub(in super::super) const TLS_CIPHER: usize = 7;
    pub(in super::super) const TLS_SNI: usize = 8;
    pub(in super::super) const TLS_CLIENT: usize = 9;
    pub(in super::super) const AUTH_IDENTITY: usize = 10;
    pub(in super::super) const AUTH_MECHANISM: usize = 11;
    // 12 and 13 are free: absent in version 1.
}

/// Bits of [`EnvelopeV1::flags`].
pub(super) mod flag {
    pub(in super::super) const SMTPUTF8: u32 = 1;
    pub(in super::super) const REQUIRETLS: u32 = 1 << 1;
    pub(in super::super) const SIZE_DECLARED: u32 = 1 << 2;
    pub(in super::super) const BARE_CR: u32 = 1 << 3;
    pub(in super::super) const BARE_LF: u32 = 1 << 4;
    pub(in super::super) const NUL: u32 = 1 << 5;
    pub(in super::super) const EIGHT_BIT: u32 = 1 << 6;
    pub(in super::super) const ENDS_WITH_CRLF: u32 = 1 << 7;
    pub(in super::super) const NORMALIZED: u32 = 1 << 8;
}

/// Root of the stored envelope.
#[derive(Archive, Serialize)]
#[rkyv(archived = ArchivedEnvelopeV1)]
pub(super) struct EnvelopeV1<'a> {
    pub(super) times: PhaseTimes,
    pub(super) session: u64,
    pub(super) size_declared: u64,
    pub(super) octets_received: u64,
    pub(super) lines: u64,
    pub(super) dot_lines: u64,
    pub(super) longest_line: u32,
    pub(super) header_octets: u32,
    pub(super) received_count: u32,
    pub(super) flags: u32,
    pub(super) transaction: u32,
    pub(super) protocol: u8,
    pub(super) body_type: u8,
    pub(super) ret: u8,
    pub(super) transfer: u8,
    pub(super) peer: Address,
    pub(super) local: Address,
    pub(super) proxy: Address,
    pub(super) reserved_address: Address,
    pub(super) texts: [Span; TEXTS],
    #[rkyv(with = Copied)]
    pub(super) recipients: &'a [Recipient],
    #[rkyv(with = Copied)]
    pub(super) attributes: &'a [Attribute],
    #[rkyv(with = Listed)]
    pub(super) chunks: ChunkList<'a>,
    #[rkyv(with = Joined)]
    pub(super) text: Texts<'a>,
    pub(super) reserved: [u32; 4],
}

const _: () = assert!(size_of::<ArchivedEnvelopeV1<'static>>() == 368);
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(ArchivedEnvelopeV1<'static>, size_declared) == 72);
    assert!(offset_of!(ArchivedEnvelopeV1<'static>, flags) == 116);
    assert!(offset_of!(ArchivedEnvelopeV1<'static>, transfer) == 127);
    assert!(offset_of!(ArchivedEnvelopeV1<'static>, peer) == 128);
    assert!(offset_of!(ArchivedEnvelopeV1<'static>, texts) == 208);
    assert!(offset_of!(ArchivedEnvelopeV1<'static>, recipients) == 320);
    assert!(offset_of!(ArchivedEnvelopeV1<'static>, text) == 344);
};
const _: () = assert!(size_of::<<Recipient as Archive>::Archived>() == 20);
const _: () = assert!(size_of::<<ChunkRef as Archive>::Archived>() == 16);
const _: () = assert!(size_of::<<Attribute as Archive>::Archived>() == 24);

/// A borrowed slice as an archived vector.
pub(super) struct Copied;

impl<'a, T: Archive> ArchiveWith<&'a [T]> for Copied {
    type Archived = ArchivedVec<T::Archived>;
    type Resolver = VecResolver;

    fn resolve_with(field: &&'a [T], resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_slice(field, resolver, out);
    }
}

impl<'a, T, S> SerializeWith<&'a [T], S> for Copied
where
    T: Serialize<S>,
    S: Fallible + Allocator + Writer + ?Sized,
{
    fn serialize_with(field: &&'a [T], serializer: &mut S) -> Result<VecResolver, S::Error> {
        ArchivedVec::serialize_from_slice(field, serializer)
    }
}

/// Chunks that the session has written, and one more that the appender may add.
#[derive(Clone, Copy)]
pub(super) struct ChunkList<'a> {
    list: &'a [ChunkRef],
    last: Option<ChunkRef>,
}

/// A chunk list as one archived vector.
pub(super) struct Listed;

impl<'a> ArchiveWith<ChunkList<'a>> for Listed {
    type Archived = ArchivedVec<<ChunkRef as Archive>::Archived>;
    type Resolver = VecResolver;

    fn resolve_with(field: &ChunkList<'a>, resolver: VecResolver, out: Place<Self::Archived>) {
        ArchivedVec::resolve_from_len(field.list.len() + usize::from(field.last.is_some()), resolver, out);
    }
}

impl<'a, S> SerializeWith<ChunkList<'a>, S> for Listed
where
    S: Fallible + Allocator + Writer + ?Sized,
{
    fn serialize_with(field: &ChunkList<'a>, serializer: &mut S) -> Result<VecResolver, S::Error> {
        let resolver = ArchivedVec::serialize_from_slice(field.list, serializer)?;
        // The entries have no padding, so that the next slice begins where the first one ends.
        let more: &[ChunkRef] = field.last.as_slice();
        let behind = ArchivedVec::serialize_from_slice(more, serializer)?;
        Ok(if field.list.is_empty() { behind } else { resolver })
    }
}

/// The session's arena, then the single texts that are not part of it.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    arena: &'a [u8],
    single: [&'a [u8]; TEXTS],
}

/// Texts as one archived vector of octets.
pub(super) struct Joined;

impl<'a> ArchiveWith<Texts<'a>> for Joined {
    type Archived = ArchivedVec<u8>;
    type Resolver = VecResolver;

    fn resolve_with(field: &Texts<'a>, resolver: VecResolver, out: Place<Self::Archived>) {
        let octets = field.arena.len() + field.single.iter().map(|text| text.len()).sum::<usize>();
        ArchivedVec::resolve_from_len(octets, resolver, out);
    }
}

impl<'a, S> SerializeWith<Texts<'a>, S> for Joined
where
    S: Fallible + Positional + Writer + ?Sized,
{
    fn serialize_with(field: &Texts<'a>, serializer: &mut S) -> Result<VecResolver, S::Error> {
        let position = serializer.pos();
        serializer.write(field.arena)?;
        for text in field.single {
            serializer.write(text)?;
        }
        Ok(VecResolver::from_pos(position))
    }
}

/// Upper bound of the octets that [`encode`] writes.
pub(crate) fn envelope_octets_max(envelope: &EnvelopeRef<'_>) -> usize {
    let texts: usize = single_texts(envelope).iter().map(|text| text.map_or(0, <[u8]>::len)).sum();
    size_of::<ArchivedEnvelopeV1<'static>>()
        + size_of_val(envelope.recipients)
        + size_of_val(envelope.attributes)
        + size_of_val(envelope.chunks)
        + size_of::<ChunkRef>()
        + envelope.text.len()
        + texts
        // Alignment before each of the vectors and the root.
        + 6 * 8
}

/// Writes the envelope to the front of `out`, whose alignment is 16; says how many octets it took. `None`: `out` is too short.
pub(crate) fn encode(envelope: &EnvelopeRef<'_>, last: Option<ChunkRef>, out: &mut [u8]) -> Option<usize> {
    let (texts, single) = place_texts(envelope);
    let root = EnvelopeV1 {
        times: envelope.times,
        session: envelope.session,
        size_declared: envelope.size_declared.unwrap_or_default(),
        octets_received: envelope.findings.octets_received,
        lines: envelope.findings.lines,
        dot_lines: envelope.findings.dot_lines,
        longest_line: envelope.findings.longest_line,
        header_octets: envelope.findings.header_octets,
        received_count: envelope.findings.received_count,
        flags: flags(envelope, &envelope.findings),
        transaction: envelope.transaction,
        protocol: envelope.protocol as u8,
        body_type: envelope.body_type as u8,
        ret: envelope.ret as u8,
        transfer: envelope.transfer as u8,
        peer: Address::new(envelope.peer),
        local: Address::new(envelope.local),
        proxy: Address::new(envelope.proxy),
        reserved_address: Address::default(),
        texts,
        recipients: envelope.recipients,
        attributes: envelope.attributes,
        chunks: ChunkList { list: envelope.chunks, last },
        text: Texts { arena: envelope.text, single },
        reserved: [0; 4],
    };
    // The scratch allocator is empty on purpose: every element is copied as it is, nothing is resolved later.
    let written =
        to_bytes_in_with_alloc::<_, _, Failure>(&root, Buffer::from(out), SubAllocator::empty()).ok()?;
    Some(written.len())
}

fn flags(envelope: &EnvelopeRef<'_>, findings: &BodyFindings) -> u32 {
    let bits = [
        (envelope.smtputf8, flag::SMTPUTF8),
        (envelope.requiretls, flag::REQUIRETLS),
        (envelope.size_declared.is_some(), flag::SIZE_DECLARED),
        (findings.bare_cr, flag::BARE_CR),
        (findings.bare_lf, flag::BARE_LF),
        (findings.nul, flag::NUL),
        (findings.eight_bit, flag::EIGHT_BIT),
        (findings.ends_with_crlf, flag::ENDS_WITH_CRLF),
        (findings.normalized, flag::NORMALIZED),
    ];
    bits.into_iter().fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
}

fn single_texts<'a>(envelope: &EnvelopeRef<'a>) -> [Option<&'a [u8]>; TEXTS] {
    let mut texts = [None; TEXTS];
    texts[text::HOSTNAME] = Some(envelope.hostname);
    texts[text::LISTENER] = Some(envelope.listener);
    texts[text::PEER_NAME] = envelope.peer_name;
    texts[text::HELO] = Some(envelope.helo);
    texts[text::REVERSE_PATH] = Some(envelope.reverse_path);
    texts[text::ENVID] = envelope.envid;
    texts[text::TLS_VERSION] = envelope.tls_version;
    texts[text::TLS_CIPHER] = envelope.tls_cipher;
    texts[text::TLS_SNI] = envelope.tls_sni;
    texts[text::TLS_CLIENT] = envelope.tls_client;
    texts[text::AUTH_IDENTITY] = envelope.auth_identity;
    texts[text::AUTH_MECHANISM] = envelope.auth_mechanism;
    texts
}

/// Spans of the single texts in the joined arena, and the texts that must be written behind the session's own.
fn place_texts<'a>(envelope: &EnvelopeRef<'a>) -> ([Span; TEXTS], [&'a [u8]; TEXTS]) {
    let mut spans = [Span::ABSENT; TEXTS];
    let mut behind: [&[u8]; TEXTS] = [&[]; TEXTS];
    let arena = envelope.text.as_ptr_range();
    let mut end = envelope.text.len();
    for (index, text) in single_texts(envelope).into_iter().enumerate() {
        let Some(text) = text else { continue };
        let range = text.as_ptr_range();
        if !text.is_empty() && range.start >= arena.start && range.end <= arena.end {
            let offset = range.start as usize - arena.start as usize;
            spans[index] = Span::new(to_u32(offset), to_u32(text.len()));
        } else {
            spans[index] = Span::new(to_u32(end), to_u32(text.len()));
            behind[index] = text;
            end += text.len();
        }
    }
    (spans, behind)
}
