//! SCRAM-SHA-256 verifiers: what is kept of a password.
//!
//! The text form is PostgreSQL's own, so that a verifier made by `pg_dumpall` or by a client
//! (`\password` in psql) can be given to CREATE ROLE as it is. The password cannot be had back from
//! it. A password is prepared with SASLprep; one that SASLprep refuses is used as it is, as
//! PostgreSQL does.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// PostgreSQL's default; more slows every login by as much as every guess.
pub const ITERATIONS: u32 = 4096;

const SCHEME: &str = "SCRAM-SHA-256";
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

type Hash = [u8; HASH_BYTES];

/// What a server needs to check a password by SCRAM-SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: Hash,
    pub server_key: Hash,
}

impl Verifier {
    /// A verifier for a password, with a new random salt.
    pub fn new(password: &str) -> Self {
        Self::with_salt(
            password,
            rand::random::<[u8; SALT_BYTES]>().to_vec(),
            ITERATIONS,
        )
    }

    /// A verifier for a password under a given salt. `iterations` is at least one.
    pub fn with_salt(password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted: Hash = [0; HASH_BYTES];
        pbkdf2::pbkdf2_hmac::<Sha256>(prepared.as_bytes(), &salt, iterations.max(1), &mut salted);
        let client_key = keyed_hash(&salted, b"Client Key");
        let stored_key = Sha256::digest(client_key).into();
        Self {
            iterations,
            salt,
            stored_key,
            server_key: keyed_hash(&salted, b"Server Key"),
        }
    }

    /// Reads PostgreSQL's text form, or gives `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let (parameters, keys) = text
            .strip_prefix(SCHEME)?
            .strip_prefix('$')?
            .split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let hash = |text: &str| Hash::try_from(STANDARD.decode(text).ok()?).ok();
        Some(Self {
            iterations: iterations.parse().ok().filter(|count| *count > 0)?,
            salt: STANDARD.decode(salt).ok()?,
            stored_key: hash(stored_key)?,
            server_key: hash(server_key)?,
        })
    }

    /// Whether this is the verifier of a password, for a password that arrives in clear.
    pub fn matches(&self, password: &str) -> bool {
        let other = Self::with_salt(password, self.salt.clone(), self.iterations);
        // Every byte is looked at whatever the others are, so time tells nothing.
        let differences = (self.stored_key.iter().zip(other.stored_key))
            .fold(0, |found, (left, right)| found | (left ^ right));
        differences == 0
    }
}

/// PostgreSQL's text form: `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{SCHEME}${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verifier(***)")
    }
}

/// What to store for the password of CREATE ROLE: a verifier is kept as it is, as in PostgreSQL,
/// anything else is a password to make one of.
pub fn verifier_of(password: &str) -> String {
    match Verifier::parse(password) {
        Some(_) => password.to_owned(),
        None => Verifier::new(password).to_string(),
    }
}

/// HMAC-SHA-256.
pub fn keyed_hash(key: &[u8], message: &[u8]) -> Hash {
    let mut hash = match Hmac::<Sha256>::new_from_slice(key) {
        Ok(hash) => hash,
        // HMAC takes keys of every length.
        Err(_) => return [0; HASH_BYTES],
    };
    hash.update(message);
    hash.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7677: user `user`, password `pencil`, checked through the proof it lists.
    #[test]
    fn the_example_of_the_standard_holds() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::with_salt("pencil", salt, 4096);
        let message = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server = STANDARD.encode(keyed_hash(&verifier.server_key, message));
        assert_eq!(server, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let proof = STANDARD
            .decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
            .unwrap();
        let signature = keyed_hash(&verifier.stored_key, message);
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        assert_eq!(Hash::from(Sha256::digest(client_key)), verifier.stored_key);
    }

    #[test]
    fn a_verifier_is_read_back_and_matches_its_password_only() {
        let text = verifier_of("tiger");
        let verifier = Verifier::parse(&text).unwrap();
        assert_eq!(verifier.to_string(), text);
        assert!(verifier.matches("tiger"));
        assert!(!verifier.matches("Tiger"));
        assert_eq!(verifier_of(&text), text, "a verifier is stored as it is");
        assert_ne!(verifier_of("tiger"), text, "each has its own salt");
        assert_eq!(format!("{verifier:?}"), "Verifier(***)");
    }

    #[test]
    fn a_password_is_prepared_before_it_is_hashed() {
        let salt = vec![1; SALT_BYTES];
        let roman_nine = Verifier::with_salt("\u{2168}", salt.clone(), 1);
        assert!(roman_nine == Verifier::with_salt("IX", salt.clone(), 1));
        assert!(Verifier::with_salt("\u{7}", salt.clone(), 1).matches("\u{7}"));
    }

    #[test]
    fn what_is_no_verifier_is_not_read() {
        for text in [
            "",
            "tiger",
            "SCRAM-SHA-256$4096",
            "SCRAM-SHA-256$0:AAAA$AAAA:AAAA",
            "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
            "md5a3556571e93b0d20722ba62be61e8c2d",
        ] {
            assert!(Verifier::parse(text).is_none(), "{text}");
        }
    }
}
