//! AWS KMS as the key provider: the key that wraps never leaves KMS.
//!
//! ```text
//! wrap    ── Encrypt(key, data key, context) ──►  KMS
//! unwrap  ── Decrypt(key, wrapped, context)  ──►
//! ```
//! Only data keys travel, 32 bytes each; values never do. The context that KMS authenticates, and writes into
//! its audit trail, is a digest of ours: it binds all that the envelope binds, and tells nobody a tenant's or
//! a secret's name. KMS rotates what is behind a key by itself; another key is chosen by configuration, and
//! rotating then rewraps everything under that one. Region, endpoint and credentials come from where the AWS
//! SDK finds them.

use std::fmt;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_kms::primitives::Blob;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use launchpad_protocol::digest::Digest;

use crate::envelope::{DataKey, EnvelopeError, KeyProvider, WrappedKey};

/// What every name of such a key begins with.
const NAMED: &str = "aws-kms:";

/// The name of the one entry of the context.
const CONTEXT: &str = "launchpad";

/// How long one call may take with all its retries: less than the 30 s that an API request may.
const CALL: Duration = Duration::from_secs(15);

/// A key in AWS KMS.
pub struct KmsKey {
    client: Client,
    key: String,
}

impl KmsKey {
    /// The key of that ARN, id or alias, with the region and the credentials of this machine. Asks nobody
    /// yet.
    pub async fn connect(key: &str) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL).build();
        let config = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts).load().await;
        Self::of(Client::new(&config), key)
    }

    /// The key of that name, asked through that client.
    #[must_use]
    pub fn of(client: Client, key: &str) -> Self {
        Self { client, key: key.to_owned() }
    }

    async fn encrypt(&self, key: &DataKey, aad: &[u8]) -> Result<WrappedKey, EnvelopeError> {
        let call = self.client.encrypt().key_id(&self.key).encryption_context(CONTEXT, context(aad));
        let answer = call.plaintext(Blob::new(key.expose().as_slice())).send().await;
        let answer = answer.map_err(|error| failed("Encrypt", &DisplayErrorContext(error).to_string()))?;
        let bytes = answer.ciphertext_blob.ok_or_else(|| failed("Encrypt", "the answer holds no ciphertext"))?;
        Ok(WrappedKey { key_id: self.key_id(), bytes: bytes.into_inner() })
    }

    async fn decrypt(&self, key: &str, wrapped: &[u8], aad: &[u8]) -> Result<DataKey, EnvelopeError> {
        let call = self.client.decrypt().key_id(key).encryption_context(CONTEXT, context(aad));
        let answer = call.ciphertext_blob(Blob::new(wrapped)).send().await;
        let answer = answer.map_err(|error| match error.code() {
            // KMS says no more than that when the context is another.
            Some("InvalidCiphertextException") => EnvelopeError::Altered,
            _ => failed("Decrypt", &DisplayErrorContext(error).to_string()),
        })?;
        let plaintext = answer.plaintext.map(|blob| zeroize::Zeroizing::new(blob.into_inner()));
        plaintext.and_then(|bytes| DataKey::from_bytes(&bytes)).ok_or(EnvelopeError::Altered)
    }
}

/// What KMS is to authenticate, in a form that may be read by whoever reads its audit trail.
fn context(aad: &[u8]) -> String {
    Digest::of(aad).to_string()
}

fn failed(step: &str, answer: &str) -> EnvelopeError {
    EnvelopeError::Provider(format!("AWS KMS, {step}: {answer}"))
}

impl KeyProvider for KmsKey {
    fn key_id(&self) -> String {
        format!("{NAMED}{}", self.key)
    }

    fn wrap<'a>(&'a self, key: &'a DataKey, aad: &'a [u8]) -> BoxFuture<'a, Result<WrappedKey, EnvelopeError>> {
        self.encrypt(key, aad).boxed()
    }

    fn unwrap<'a>(
        &'a self,
        key_id: &'a str,
        wrapped: &'a [u8],
        aad: &'a [u8],
    ) -> BoxFuture<'a, Result<DataKey, EnvelopeError>> {
        async move {
            let other = || EnvelopeError::OtherKey { wanted: key_id.to_owned(), held: "keys of AWS KMS".to_owned() };
            self.decrypt(key_id.strip_prefix(NAMED).ok_or_else(other)?, wrapped, aad).await
        }
        .boxed()
    }

    fn rotate(&self) -> BoxFuture<'_, Result<String, EnvelopeError>> {
        async move { Ok(self.key_id()) }.boxed()
    }

    fn older(&self) -> Vec<String> {
        Vec::new()
    }

    fn forget<'a>(&'a self, _key_id: &'a str) -> BoxFuture<'a, Result<(), EnvelopeError>> {
        async move { Ok(()) }.boxed()
    }
}

impl fmt::Debug for KmsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsKey").field("key", &self.key).finish_non_exhaustive()
    }
}
