//! The KMS provider against a stand-in on the loopback that speaks the two calls it makes, in AWS's JSON 1.1.
//!
//! `cargo test -p launchpad-pki --features aws-kms`
#![cfg(feature = "aws-kms")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::{BehaviorVersion, Config, Credentials, Region};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use launchpad_pki::envelope::{Envelope, EnvelopeContext, EnvelopeError, KeyProvider as _};
use launchpad_pki::kms::KmsKey;
use launchpad_protocol::id::{AccountId, DeploymentId};
use serde_json::{Value, json};
use uuid::Uuid;

const KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/one";
const OTHER_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/two";

/// What was encrypted: under which key, with which context.
type Kept = BTreeMap<String, (Value, Value, Value)>;

/// A KMS that keeps what it encrypts in a list.
struct StandIn {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (requests, kept) = (Arc::default(), Arc::new(Mutex::new(Kept::new())));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (seen, kept) = (Arc::clone(&seen), Arc::clone(&kept));
                std::thread::spawn(move || serve(&connection.unwrap(), &seen, &kept));
            }
        });
        Self { url, requests }
    }

    fn key(&self, name: &str) -> KmsKey {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .endpoint_url(&self.url)
            .credentials_provider(Credentials::new("AKIDSTANDIN", "of-the-stand-in", None, None, "test"))
            .build();
        KmsKey::of(Client::from_conf(config), name)
    }
}

/// Answers requests until the client hangs up.
fn serve(mut connection: &TcpStream, seen: &Mutex<Vec<String>>, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(':'));
            lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let mut body = vec![0; header("content-length").map_or(0, |text| text.parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        assert!(header("authorization").is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256 ")), "{head}");
        seen.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
        let asked = serde_json::from_slice(&body).unwrap();
        let (status, answer) = act(&header("x-amz-target").unwrap(), &asked, &mut kept.lock().unwrap());
        let answer = answer.to_string();
        let kind = "Content-Type: application/x-amz-json-1.1";
        let length = answer.len();
        write!(connection, "HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{answer}").unwrap();
    }
}

fn act(target: &str, asked: &Value, kept: &mut Kept) -> (&'static str, Value) {
    let (key, context) = (asked["KeyId"].clone(), asked["EncryptionContext"].clone());
    match target {
        "TrentService.Encrypt" => {
            let blob = STANDARD.encode(format!("blob {}", kept.len()));
            kept.insert(blob.clone(), (key.clone(), context, asked["Plaintext"].clone()));
            ("200 OK", json!({ "CiphertextBlob": blob, "KeyId": key, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT" }))
        }
        "TrentService.Decrypt" => match kept.get(asked["CiphertextBlob"].as_str().unwrap()) {
            Some((with, of, plaintext)) if *with == key && *of == context => {
                ("200 OK", json!({ "Plaintext": plaintext, "KeyId": key }))
            }
            Some(_) | None => ("400 Bad Request", json!({ "__type": "InvalidCiphertextException" })),
        },
        _ => ("400 Bad Request", json!({ "__type": "AccessDeniedException", "message": format!("not {target}") })),
    }
}

fn context() -> EnvelopeContext {
    EnvelopeContext {
        account: AccountId::from(Uuid::from_u128(1)),
        deployment: DeploymentId::from(Uuid::from_u128(2)),
        file: "OPENAI_API_KEY".to_owned(),
        version: 1,
    }
}

#[tokio::test]
async fn a_value_is_wrapped_by_kms_which_sees_neither_it_nor_whose_it_is() {
    let kms = StandIn::start();
    let key = kms.key(KEY);
    let envelope = Envelope::encrypt(&key, &context(), b"sk-canary").await.unwrap();
    assert_eq!(envelope.key_id, format!("aws-kms:{KEY}"));
    assert_eq!(&envelope.decrypt(&key, &context()).await.unwrap()[..], b"sk-canary");
    let requests = kms.requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    for request in requests.iter() {
        let account = context().account.to_string();
        let told = ["canary", "OPENAI_API_KEY", &account, &STANDARD.encode("sk-canary")];
        assert!(told.iter().all(|word| !request.contains(word)), "{request}");
    }
}

#[tokio::test]
async fn a_row_moved_elsewhere_does_not_decrypt() {
    let kms = StandIn::start();
    let key = kms.key(KEY);
    let envelope = Envelope::encrypt(&key, &context(), b"sk-canary").await.unwrap();
    for other in [
        EnvelopeContext { account: AccountId::from(Uuid::from_u128(9)), ..context() },
        EnvelopeContext { file: "OTHER".to_owned(), ..context() },
        EnvelopeContext { version: 2, ..context() },
    ] {
        assert!(matches!(envelope.decrypt(&key, &other).await, Err(EnvelopeError::Altered)), "{other:?}");
    }
}

#[tokio::test]
async fn another_key_takes_over_by_rewrapping() {
    let kms = StandIn::start();
    let envelope = Envelope::encrypt(&kms.key(KEY), &context(), b"sk-canary").await.unwrap();
    let other = kms.key(OTHER_KEY);
    assert_eq!(other.rotate().await.unwrap(), format!("aws-kms:{OTHER_KEY}"));
    let rewrapped = envelope.rewrap(&other, &context()).await.unwrap();
    assert_eq!((&rewrapped.key_id, &rewrapped.ciphertext), (&other.key_id(), &envelope.ciphertext));
    assert_eq!(&rewrapped.decrypt(&other, &context()).await.unwrap()[..], b"sk-canary");
}

#[tokio::test]
async fn what_a_keyring_wrapped_is_not_asked_of_kms() {
    let kms = StandIn::start();
    let key = kms.key(KEY);
    let mut envelope = Envelope::encrypt(&key, &context(), b"sk-canary").await.unwrap();
    envelope.key_id = "local:0123456789ab".to_owned();
    let error = envelope.decrypt(&key, &context()).await.unwrap_err().to_string();
    assert!(error.contains("local:0123456789ab"), "{error}");
    assert_eq!(kms.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_kms_that_is_away_is_named_with_the_step() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kms = StandIn { url: format!("http://{nobody}"), requests: Arc::default() };
    let error = Envelope::encrypt(&kms.key(KEY), &context(), b"x").await.unwrap_err().to_string();
    assert!(error.contains("AWS KMS, Encrypt"), "{error}");
}
