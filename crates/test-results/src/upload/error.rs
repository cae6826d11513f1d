//! Why an upload is refused. Each fault has its own variant, so that a service can answer each precisely.

use std::io;

/// An upload that cannot be taken. Entries before the fault have been visited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The sender's stream broke.
    #[error("the body could not be received")]
    Body(#[source] io::Error),
    /// There is no body.
    #[error("the body is empty")]
    Empty,
    /// It is not compressed with gzip.
    #[error("the body is not gzip")]
    NotGzip,
    /// Its compression is damaged.
    #[error("the gzip data is damaged")]
    BadGzip(#[source] io::Error),
    /// Its compressed data ends too early.
    #[error("the gzip data ends too early, after {unpacked} unpacked bytes")]
    TruncatedGzip {
        /// What was whole before.
        unpacked: u64,
    },
    /// The archive ends too early although the compression is whole.
    #[error("the archive ends too early, {}", .entry.as_ref().map_or("inside a header".to_owned(), |path| format!("inside `{path}`")))]
    TruncatedTar {
        /// The entry that is not whole.
        entry: Option<String>,
    },
    /// A header makes no sense.
    #[error("the archive has a header at byte {at} that makes no sense: {reason}")]
    BadHeader {
        /// Where.
        at: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// Something follows the archive's or the compression's end.
    #[error("something follows the end of the archive")]
    TrailingGarbage,
    /// An absolute path.
    #[error("the path `{path}` is absolute")]
    AbsolutePath {
        /// The path.
        path: String,
    },
    /// A path with `..`.
    #[error("the path `{path}` leads outside")]
    OutsidePath {
        /// The path.
        path: String,
    },
    /// A path with a NUL.
    #[error("the path `{path}` has a NUL in it")]
    InvalidPath {
        /// The path.
        path: String,
    },
    /// A path that is too long.
    #[error("a path has more than {limit} bytes")]
    PathTooLong {
        /// The limit.
        limit: usize,
    },
    /// A path with too many parts.
    #[error("the path `{path}` has more than {limit} parts")]
    PathTooDeep {
        /// The path.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// Too many entries.
    #[error("the archive has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// An entry that is too large.
    #[error("`{path}` has {size} bytes, at most {limit} are taken")]
    EntryTooLarge {
        /// Its path.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Too much altogether.
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// It grows suspiciously.
    #[error("the archive unpacks to more than {ratio} times its size")]
    Bomb {
        /// The limit.
        ratio: u64,
    },
    /// The extended headers of an entry are too long.
    #[error("the extended headers before byte {at} are longer than {limit} bytes")]
    MetadataTooLarge {
        /// Where the entry begins.
        at: u64,
        /// The limit.
        limit: u64,
    },
    /// The visitor failed.
    #[error("cannot take `{path}` of the archive")]
    Visitor {
        /// The entry.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl UploadError {
    /// Whether the sender is at fault, so that sending the same again is of no use.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Body(_) | Self::Visitor { .. })
    }

    /// Whether a limit of size was exceeded, for which HTTP has its own status.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            Self::TooManyEntries { .. }
                | Self::EntryTooLarge { .. }
                | Self::TooLarge { .. }
                | Self::Bomb { .. }
                | Self::MetadataTooLarge { .. }
        )
    }
}
