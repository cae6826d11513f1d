//! What the service is told when it is opened. Plain data; who reads flags and files is the binary.

use std::{path::PathBuf, time::Duration};

use test_results::event::EventLimits;

/// Everything the service needs to know.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Where the database and the blobs lie. Made when missing, for the owner only.
    pub state_dir: PathBuf,
    /// Where people find the service, e.g. `https://results.example.org`; links in events begin with it. Relative
    /// links when absent.
    pub public_url: Option<String>,
    /// What needs a key.
    pub access: Access,
    /// What is bounded.
    pub limits: Limits,
}

impl ServiceSettings {
    /// The defaults, with this state directory.
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            public_url: None,
            access: Access::default(),
            limits: Limits::default(),
        }
    }
}

/// What may be done without a key.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Everybody who reaches the service may read. True by default.
    pub open_read: bool,
    /// Everybody who reaches the service may store results and events and ask for runs. False by default.
    pub open_upload: bool,
}

impl Default for Access {
    fn default() -> Self {
        Self { open_read: true, open_upload: false }
    }
}

/// Bounds on what clients can make the service do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of an upload as it is sent.
    pub upload_bytes: u64,
    /// Bytes of an upload when unpacked.
    pub unpacked_bytes: u64,
    /// Entries of an upload's archive.
    pub entries: u64,
    /// Cases of a run; never more than 16 million.
    pub cases: u64,
    /// Bytes of a result in the JSON form.
    pub json_bytes: usize,
    /// Bytes of the body of `POST /events`.
    pub events_bytes: usize,
    /// Bounds on each event.
    pub event: EventLimits,
    /// Bytes of the head of a request.
    pub head_bytes: usize,
    /// How long a client may take to send the head of a request.
    pub head_time: Duration,
    /// How long a client may neither send nor take anything while the service waits for it.
    pub stall_time: Duration,
    /// Bytes per second that an upload must reach on average, once it has lasted for `stall_time`.
    pub slowest_upload: u64,
    /// How long the service may take to begin its answer, uploads excepted.
    pub answer_time: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// Event streams at a time.
    pub streams: usize,
    /// Uploads beyond 64 KiB that are unpacked at a time; others wait.
    pub large_uploads: usize,
    /// Wrong keys per minute and address; then the address is refused for the rest of the minute.
    pub wrong_keys: u32,
    /// How long the service takes to end what is in flight when it is stopped.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 1 << 30,
            unpacked_bytes: 4 << 30,
            entries: 100_000,
            cases: 1_000_000,
            json_bytes: 16 << 20,
            events_bytes: 1 << 20,
            event: EventLimits::default(),
            head_bytes: 32 << 10,
            head_time: Duration::from_secs(10),
            stall_time: Duration::from_secs(30),
            slowest_upload: 1024,
            answer_time: Duration::from_secs(30),
            connections: 4096,
            streams: 1024,
            large_uploads: 16,
            wrong_keys: 10,
            grace: Duration::from_secs(8),
        }
    }
}
