-- Times are microseconds since 1970 UTC. Words of states are those of the API.

CREATE TABLE tests (
    key   INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    owner TEXT,
    runs  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What listings show; what only the page of one run shows is in run_details, so that listings read few pages.
CREATE TABLE runs (
    key             INTEGER PRIMARY KEY,
    id              BLOB    NOT NULL UNIQUE,
    test            INTEGER NOT NULL REFERENCES tests (key),
    state           TEXT    NOT NULL,
    at              INTEGER NOT NULL, -- started_at, or received_at when that is unknown
    started_at      INTEGER,
    finished_at     INTEGER,
    seconds         REAL,
    image           TEXT,
    host            TEXT,
    cases           INTEGER NOT NULL,
    passed          INTEGER NOT NULL,
    failed          INTEGER NOT NULL,
    skipped         INTEGER NOT NULL,
    trigger_kind    TEXT,
    cause           TEXT,
    -- Kept as long as the run, so that a repetition is known for as long as there is something to repeat.
    idempotency_key TEXT    UNIQUE
) STRICT;
CREATE INDEX runs_by_time ON runs (at);
CREATE INDEX runs_of_test ON runs (test, at);
CREATE INDEX runs_not_passed ON runs (state, at) WHERE state <> 'passed';

CREATE TABLE run_details (
    run      INTEGER PRIMARY KEY REFERENCES runs (key),
    blob     BLOB,          -- the upload that holds the files
    packing  TEXT,          -- how the files lie in it: 'tar.gz' or 'plain'
    document TEXT NOT NULL  -- JSON, private to the store
) STRICT;

-- Rows of a large upload are written before its run is, and swept when the run never comes: no foreign key.
CREATE TABLE cases (
    key     INTEGER PRIMARY KEY, -- key of the run * 2^24 + number: one B-tree, in the order of listings
    suite   TEXT,                -- JSON array of names; NULL for none
    class   TEXT,
    name    TEXT NOT NULL,
    status  TEXT NOT NULL,
    seconds REAL,
    message TEXT,
    kind    TEXT,
    text    TEXT,
    output  TEXT,
    file    TEXT
) STRICT;
CREATE INDEX cases_not_passed ON cases (key) WHERE status <> 'passed';

CREATE TABLE files (
    run      INTEGER NOT NULL REFERENCES runs (key),
    path     TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    format   TEXT,
    entry  INTEGER NOT NULL, -- which entry of the upload it is, from 0
    PRIMARY KEY (run, path)
) STRICT, WITHOUT ROWID;

-- Small uploads lie here and are durable with the transaction that stores their run; large ones lie in the
-- directory of blobs, under their digest, and have no content here.
CREATE TABLE blobs (
    key     INTEGER PRIMARY KEY,
    id      BLOB    NOT NULL UNIQUE, -- SHA-256
    size    INTEGER NOT NULL,
    content BLOB
) STRICT;

CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL,
    source   TEXT    NOT NULL,
    type     TEXT    NOT NULL,
    subject  TEXT,
    at       INTEGER NOT NULL,
    document TEXT    NOT NULL, -- the CloudEvent as received
    UNIQUE (id, source)
) STRICT;
CREATE INDEX events_by_type ON events (type);
CREATE INDEX events_by_subject ON events (subject) WHERE subject IS NOT NULL;

CREATE TABLE keys (
    id           TEXT    PRIMARY KEY, -- first characters of the key
    name         TEXT    NOT NULL,
    digest       BLOB    NOT NULL,    -- SHA-256 of the whole key
    scopes       TEXT    NOT NULL,    -- words, separated by commas
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
