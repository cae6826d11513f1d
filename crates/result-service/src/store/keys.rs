//! API keys. A key is shown once, when it is made; the store keeps a digest.
//!
//! A key is `ty_` and 32 random bytes in hex. Its digest is plain SHA-256: with 256 random bits there is nothing
//! to guess, so a slow password hash would only slow down the service. The first characters of the key find its
//! row; the digests are then compared in constant time.

use std::io;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use subtle::ConstantTimeEq;
use tracing::debug;

use super::{Store, StoreError, column, writer::Change};
use crate::views::{KeyRow, Scope};

const DOING: &str = "read keys";

const PREFIX: &str = "ty_";

/// How much of a key names it: the prefix and 8 characters.
const ID: usize = PREFIX.len() + 8;

/// A key that was just made.
#[derive(Debug)]
pub struct NewKey {
    /// The key itself. It is not stored and cannot be shown again.
    pub secret: SecretString,
    /// What is stored of it.
    pub row: KeyRow,
}

/// What the store says of a presented key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// It is a key, and not revoked.
    Valid(KeyRow),
    /// It was a key.
    Revoked,
    /// It is no key.
    Unknown,
}

/// The digest and the name of a presented key. Says nothing about whether the key exists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SecretShape {
    id: String,
    digest: [u8; 32],
}

impl SecretShape {
    /// `None` for a text that cannot be a key.
    pub(crate) fn of(secret: &str) -> Option<Self> {
        let hex = secret.strip_prefix(PREFIX)?;
        let shaped = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        shaped.then(|| Self { id: secret[..ID].to_owned(), digest: Sha256::digest(secret).into() })
    }
}

impl Store {
    /// Makes a key. The secret is in the answer and nowhere else.
    pub async fn create_key(
        &self,
        name: &str,
        scopes: &[Scope],
        now: Timestamp,
    ) -> Result<NewKey, StoreError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|source| StoreError::Io {
            doing: "make a key",
            source: io::Error::other(source.to_string()),
        })?;
        let secret = format!("{PREFIX}{}", hex::encode(random));
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        let row = KeyRow {
            id: secret[..ID].to_owned(),
            name: name.to_owned(),
            scopes,
            created_at: now,
            last_used_at: None,
            revoked_at: None,
        };
        let digest = Sha256::digest(&secret).into();
        self.writer.write(CreateKey { row: row.clone(), digest }).await?;
        Ok(NewKey { secret: secret.into(), row })
    }

    /// All keys, also revoked ones, in the order in which they were made.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM keys ORDER BY created_at, id")
            .fetch_all(&self.readers)
            .await
            .map_err(StoreError::reading(DOING))?;
        rows.iter().map(key_row).collect::<Result<_, _>>().map_err(StoreError::reading(DOING))
    }

    /// Revokes a key for good; `false` when there is none of this id. Revoking it again changes nothing.
    pub async fn revoke_key(&self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        self.writer.write(RevokeKey { id: id.to_owned(), now }).await
    }

    /// Looks a presented key up, and notes its use (to the minute).
    pub async fn present_key(&self, secret: &SecretString, now: Timestamp) -> Result<Presented, StoreError> {
        match SecretShape::of(secret.expose_secret()) {
            Some(shape) => self.present(&shape, now).await,
            None => Ok(Presented::Unknown),
        }
    }

    pub(crate) async fn present(&self, shape: &SecretShape, now: Timestamp) -> Result<Presented, StoreError> {
        let row = sqlx::query("SELECT * FROM keys WHERE id = ?")
            .bind(&shape.id)
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::reading(DOING))?;
        let Some(row) = row else { return Ok(Presented::Unknown) };
        let read = || Ok((key_row(&row)?, row.try_get::<&[u8], _>("digest")?));
        let (key, digest) = read().map_err(StoreError::reading(DOING))?;
        if !bool::from(digest.ct_eq(&shape.digest)) {
            return Ok(Presented::Unknown);
        }
        if key.revoked_at.is_some() {
            return Ok(Presented::Revoked);
        }
        let noted = key.last_used_at.is_some_and(|at| now.duration_since(at).as_secs() < 60);
        if !noted {
            // Worth a try only: a full disk must not keep readers out.
            if let Err(error) = self.writer.write(NoteUse { id: key.id.clone(), now }).await {
                debug!(key.id, %error, "cannot note the use of a key");
            }
        }
        Ok(Presented::Valid(key))
    }
}

fn key_row(row: &SqliteRow) -> Result<KeyRow, sqlx::Error> {
    Ok(KeyRow {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scopes: column::words(row, "scopes")?,
        created_at: column::timestamp(row, "created_at")?,
        last_used_at: column::optional_timestamp(row, "last_used_at")?,
        revoked_at: column::optional_timestamp(row, "revoked_at")?,
    })
}

struct CreateKey {
    row: KeyRow,
    digest: [u8; 32],
}

impl Change for CreateKey {
    type Effect = ();
    const DOING: &'static str = "store a key";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let scopes: Vec<&str> = self.row.scopes.iter().map(|scope| scope.as_str()).collect();
        sqlx::query("INSERT INTO keys (id, name, digest, scopes, created_at) VALUES (?, ?, ?, ?, ?)")
            .bind(&self.row.id)
            .bind(&self.row.name)
            .bind(&self.digest[..])
            .bind(scopes.join(","))
            .bind(column::micros(self.row.created_at))
            .execute(on)
            .await
            .map(|_| ())
    }
}

struct RevokeKey {
    id: String,
    now: Timestamp,
}

impl Change for RevokeKey {
    type Effect = bool;
    const DOING: &'static str = "revoke a key";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
        let changed = sqlx::query("UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?")
            .bind(column::micros(self.now))
            .bind(&self.id)
            .execute(on)
            .await?;
        Ok(changed.rows_affected() > 0)
    }
}

struct NoteUse {
    id: String,
    now: Timestamp,
}

impl Change for NoteUse {
    type Effect = ();
    const DOING: &'static str = "note the use of a key";

    async fn apply(&self, on: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE keys SET last_used_at = max(coalesce(last_used_at, 0), ?) WHERE id = ?")
            .bind(column::micros(self.now))
            .bind(&self.id)
            .execute(on)
            .await
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_in_the_form_of_a_key_is_looked_up() {
        assert!(SecretShape::of(&format!("ty_{}", "0".repeat(64))).is_some());
        for text in ["", "ty_", "ty_é", &format!("ty_{}", "x".repeat(64)), &"0".repeat(67)] {
            assert!(SecretShape::of(text).is_none(), "{text}");
        }
    }
}
